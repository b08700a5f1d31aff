// Networks with recurrent layers between hidden layers and heads: ppolab/learning/memory.py has the equations.
//
// The products of a recurrent layer with its inputs are the head of the trunk before it, so they are made for all steps at
// once. Rows are steps of sequences, time-major.
#pragma once

#include <algorithm>
#include <cassert>
#include <cstdint>
#include <vector>

#include "network.hpp"
#include "recurrence.hpp"

namespace ppolab {

enum MemoryKind : int64_t { GRU = 1, LSTM = 2 };

// What a network with memory needs besides its rows.
struct Past {
    int64_t steps;        // the rows are so many of each sequence
    const float* keep;    // [steps, sequences] 0 where the state before a step is forgotten, else 1; null: never
    const float* states;  // [K, sequences, H] before the first steps, of this network
    float* last;          // [K, sequences, H] after the last ones; null: not wanted
};

// One recurrent layer, and what its backward pass needs of its forward pass.
struct Recurrent {
    MemoryKind kind;
    int64_t size, weight, bias;  // offsets into the parameter vector; an LSTM has no bias here

    Buffer transposed_weights{}, projected{}, outputs{}, before{}, gates{}, cells{};
    Buffer slopes{}, of_inputs{}, of_products{}, of_state{};

    int64_t width() const { return (kind == GRU ? 3 : 4) * size; }
    int64_t rows_of_state() const { return kind == GRU ? 1 : 2; }

    // Reads the weights, for the forward passes that follow.
    void prepare(const float* parameters) {
        transposed_weights.resize(size * width());
        transpose(parameters + weight, size, width(), size, transposed_weights.data(), width());
    }

    void reserve(int64_t rows) {
        grow(projected, rows * width());
        grow(outputs, rows * size);
        grow(before, rows * rows_of_state() * size);
        grow(gates, rows * 4 * size);
        if (kind == LSTM) grow(cells, rows * size);
    }

    void reserve_backward(int64_t rows) {
        for (auto* buffer : {&of_inputs, &of_products}) grow(*buffer, rows * width());
        grow(slopes, rows * size);
        grow(of_state, rows * rows_of_state() * size);
    }

    // From `projected` and the state [1 or 2, rows, H] to `outputs`; `last` is that state after the last step.
    void forward(const float* parameters, const Shape& shape, const float* keep, const float* state, float* last) {
        assert(!transposed_weights.empty());
        const float* const u = transposed_weights.data();
        if (kind == GRU)
            gru_forward(shape, projected.data(), state, keep, u, parameters + bias, outputs.data(), before.data(),
                        gates.data());
        else
            lstm_forward(shape, projected.data(), state, keep, u, outputs.data(), cells.data(), before.data(),
                         gates.data());
        if (!last) return;
        const int64_t count = shape.rows * size, final = (shape.steps - 1) * count;
        std::copy_n(outputs.data() + final, count, last);
        if (kind == LSTM) std::copy_n(cells.data() + final, count, last + count);
    }

    // Sets the gradients of this layer's parameters from the `slopes` of its outputs; returns those of `projected`.
    float* backward(const float* parameters, const Shape& shape, const float* keep, float* total) {
        const float* const u = parameters + weight;
        std::fill_n(of_state.data(), rows_of_state() * shape.rows * size, 0.0f);
        if (kind == GRU)
            gru_backward(shape, slopes.data(), keep, u, before.data(), gates.data(), of_inputs.data(),
                         of_products.data(), of_state.data());
        else
            lstm_backward(shape, slopes.data(), keep, u, cells.data(), before.data(), gates.data(), of_products.data(),
                          of_state.data());
        const int64_t rows = shape.steps * shape.rows;
        product<Start::ZERO>(width(), size, rows, {of_products.data(), 1, width()}, before.data(), size, total + weight,
                             size);
        if (kind == LSTM) return of_products.data();
        std::fill_n(total + bias, width(), 0.0f);
        for (int64_t row = 0; row < rows; ++row)
            for (int64_t k = 0; k < width(); ++k) total[bias + k] += of_products[row * width() + k];
        return of_inputs.data();
    }
};

// Hidden layers, recurrent layers and heads. Each recurrent layer stands between two trunks; without any there is one.
struct Network {
    std::vector<Trunk> trunks;
    std::vector<Recurrent> layers;

    const std::vector<int64_t>& head_index() const { return trunks.back().head_index; }
    bool remembers() const { return !layers.empty(); }
    int64_t rows_of_state() const {
        int64_t rows = 0;
        for (const Recurrent& layer : layers) rows += layer.rows_of_state();
        return rows;
    }

    void prepare(const float* parameters) {
        for (Recurrent& layer : layers) layer.prepare(parameters);
    }

    // From `count` rows to `outputs`, by head. With memory it must have been prepared.
    void forward(const float* parameters, Rows rows, int64_t count, const Past& past, bool keep, const Matrix* outputs) {
        const int64_t sequences = count / past.steps;
        const float* state = past.states;
        float* last = past.last;
        for (size_t i = 0; i < layers.size(); ++i) {
            Recurrent& layer = layers[i];
            layer.reserve(count);
            const Matrix projected{layer.projected.data(), layer.width()};
            trunks[i].forward(parameters, rows, count, keep, &projected);
            layer.forward(parameters, {past.steps, sequences, layer.size}, past.keep, state, last);
            state += layer.rows_of_state() * sequences * layer.size;
            if (last) last += layer.rows_of_state() * sequences * layer.size;
            rows = {layer.outputs.data(), layer.size, nullptr};
        }
        trunks.back().forward(parameters, rows, count, keep, outputs);
    }

    // Sets the gradients of all parameters after a forward pass that was kept.
    void backward(const float* parameters, int64_t count, const Past& past, const Matrix* output_gradients, float* total) {
        Matrix gradients{nullptr, 0};
        for (size_t i = trunks.size(); i-- > 0;) {
            const Matrix* const above = i + 1 == trunks.size() ? output_gradients : &gradients;
            if (i == 0) return trunks[0].backward(parameters, count, above, total);
            Recurrent& layer = layers[i - 1];
            layer.reserve_backward(count);
            trunks[i].backward(parameters, count, above, total, {layer.slopes.data(), layer.size});
            const Shape shape{past.steps, count / past.steps, layer.size};
            gradients = {layer.backward(parameters, shape, past.keep, total), layer.width()};
        }
    }
};

}  // namespace ppolab
