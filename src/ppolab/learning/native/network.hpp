// Forward and backward passes of small multilayer perceptrons whose parameters are slices of one vector.
//
// Rows (samples) are handled in blocks of 64. Inside a block everything is stored feature by feature, the 64 rows side by
// side, so that every product runs over contiguous rows and a weight is one broadcast. A row's result does not depend on
// the other rows of its block, nor on how many there are. Of a block that is not full, only the strips that hold its rows
// are computed.
#pragma once

#include <algorithm>
#include <cassert>
#include <cstdint>
#include <cstring>
#include <vector>

#include "kernels.hpp"

namespace ppolab {

// weight [outputs, inputs] and bias [outputs] are offsets into the parameter vector.
struct Linear {
    int64_t inputs, outputs, weight, bias;
};

// Where a head writes its outputs, or reads their gradients: row r at data + r * stride.
struct Matrix {
    float* data;
    int64_t stride;

    float* from(int64_t row) const { return data + row * stride; }
};

// Observations [.., stride]; `order`, where there is one, picks the rows.
struct Rows {
    const float* data;
    int64_t stride;
    const int64_t* order;

    const float* operator[](int64_t row) const { return data + (order ? order[row] : row) * stride; }
    Rows from(int64_t row) const { return order ? Rows{data, stride, order + row} : Rows{data + row * stride, stride, order}; }
};

// Hidden layers and the heads on top of them. `head_index` numbers the heads over the whole network.
struct Trunk {
    Activation activation;
    int64_t inputs;
    std::vector<Linear> hidden, heads;
    std::vector<int64_t> head_index;

    int64_t kept_per_block = 0;  // floats of a block's forward pass that its backward pass needs
    std::vector<float> kept, by_row, head, above, below, weights;

    void allocate() {
        int64_t widest = padded(inputs);
        kept_per_block = 2 * BLOCK * padded(inputs);
        for (const Linear& layer : hidden) {
            kept_per_block += kept_of(layer);
            widest = std::max(widest, padded(layer.outputs));
        }
        for (const Linear& layer : heads) widest = std::max(widest, padded(layer.outputs));
        for (auto* buffer : {&by_row, &head, &above, &below}) buffer->assign(BLOCK * widest, 0.0f);
        int64_t largest = 0;
        for (const auto* layers : {&hidden, &heads})
            for (const Linear& layer : *layers) largest = std::max(largest, layer.outputs * padded(layer.inputs));
        weights.assign(largest, 0.0f);
    }

    void forward(const float* parameters, Rows rows, int64_t count, bool keep, const Matrix* outputs) {
        const int64_t blocks = keep ? (count + BLOCK - 1) / BLOCK : 1;
        if (static_cast<int64_t>(kept.size()) < blocks * kept_per_block) kept.resize(blocks * kept_per_block);
        for (int64_t first = 0; first < count; first += BLOCK)
            forward_block(parameters, rows.from(first), std::min<int64_t>(BLOCK, count - first),
                          kept.data() + (keep ? first / BLOCK * kept_per_block : 0), keep, outputs, first);
    }

    // Sets the gradients of this trunk's parameters after a forward pass that was kept; and where there are no hidden
    // layers, those of its inputs, if they are wanted.
    void backward(const float* parameters, int64_t count, const Matrix* output_gradients, float* total,
                  Matrix input_gradients = {nullptr, 0}) {
        assert(!input_gradients.data || hidden.empty());
        for (const auto* layers : {&hidden, &heads})
            for (const Linear& layer : *layers) {
                std::memset(total + layer.weight, 0, sizeof(float) * layer.inputs * layer.outputs);
                std::memset(total + layer.bias, 0, sizeof(float) * layer.outputs);
            }
        for (int64_t first = 0; first < count; first += BLOCK)
            backward_block(parameters, std::min<int64_t>(BLOCK, count - first),
                           kept.data() + first / BLOCK * kept_per_block, output_gradients, first, total,
                           input_gradients);
    }

  private:
    // Floats that are kept of a layer: activated values, then slopes where these do not follow from them.
    int64_t kept_of(const Linear& layer) const { return (keeps_slopes(activation) ? 2 : 1) * BLOCK * layer.outputs; }

    void forward_block(const float* parameters, Rows rows, int64_t count, float* block, bool keep,
                       const Matrix* outputs, int64_t first) {
        const int64_t width = padded(inputs), lanes = in_strips(count);
        float* features = block + BLOCK * width;
        std::memset(block, 0, sizeof(float) * lanes * width);
        for (int64_t row = 0; row < count; ++row) std::copy_n(rows[row], inputs, block + row * width);
        transpose(block, width, lanes, inputs, features, BLOCK);
        float* next = features + BLOCK * width;
        for (const Linear& layer : hidden) {
            apply(layer, parameters, features, lanes, next);
            float* slopes = keep && keeps_slopes(activation) ? next + BLOCK * layer.outputs : nullptr;
            for_features(layer.outputs, lanes, [&](int64_t place, int64_t size) {
                activate(activation, next + place, slopes ? slopes + place : nullptr, size);
            });
            features = next;
            next += kept_of(layer);
        }
        for (size_t i = 0; i < heads.size(); ++i) {
            const Matrix target = outputs[head_index[i]];
            if (!target.data) continue;
            apply(heads[i], parameters, features, lanes, head.data());
            transpose(head.data(), BLOCK, heads[i].outputs, count, target.from(first), target.stride);
        }
    }

    static void apply(const Linear& layer, const float* parameters, const float* features, int64_t lanes,
                      float* result) {
        for (int64_t m = 0; m < layer.outputs; ++m) std::fill_n(result + m * BLOCK, lanes, parameters[layer.bias + m]);
        product<true>(layer.outputs, lanes, layer.inputs, parameters + layer.weight, layer.inputs, 1, features, BLOCK,
                      result, BLOCK);
    }

    void backward_block(const float* parameters, int64_t count, const float* block, const Matrix* output_gradients,
                        int64_t first, float* total, Matrix input_gradients) {
        const int64_t lanes = in_strips(count);
        std::vector<const float*> activated;
        const float* next = block + 2 * BLOCK * padded(inputs);
        for (const Linear& layer : hidden) {
            activated.push_back(next);
            next += kept_of(layer);
        }
        const int64_t to_slopes = keeps_slopes(activation) ? BLOCK : 0;
        const float* below_heads = block;
        if (!hidden.empty()) {
            transpose(activated.back(), BLOCK, hidden.back().outputs, lanes, by_row.data(), padded(hidden.back().outputs));
            below_heads = by_row.data();
        }
        for (size_t i = 0; i < heads.size(); ++i) {
            const Matrix source = output_gradients[head_index[i]];
            std::memset(head.data(), 0, sizeof(float) * BLOCK * heads[i].outputs);
            transpose(source.from(first), source.stride, count, heads[i].outputs, head.data(), BLOCK);
            add_parameter_gradients(heads[i], below_heads, head.data(), lanes, total);
            if (!hidden.empty() || input_gradients.data)
                through_weights(heads[i], parameters, head.data(), lanes, above.data(), i > 0);
        }
        if (input_gradients.data)
            transpose(above.data(), BLOCK, inputs, count, input_gradients.from(first), input_gradients.stride);
        for (int64_t index = static_cast<int64_t>(hidden.size()) - 1; index >= 0; --index) {
            const Linear& layer = hidden[index];
            const float* kept_values = activated[index] + to_slopes * layer.outputs;
            for_features(layer.outputs, lanes, [&](int64_t place, int64_t size) {
                through_activation(activation, kept_values + place, above.data() + place, size);
            });
            if (index > 0)
                transpose(activated[index - 1], BLOCK, layer.inputs, lanes, by_row.data(), padded(layer.inputs));
            add_parameter_gradients(layer, index > 0 ? by_row.data() : block, above.data(), lanes, total);
            if (index == 0) continue;
            through_weights(layer, parameters, above.data(), lanes, below.data(), false);
            std::swap(above, below);
        }
    }

    // result [inputs, 64] (+)= weight' gradients [outputs, 64]
    static void through_weights(const Linear& layer, const float* parameters, const float* gradients, int64_t lanes,
                                float* result, bool add) {
        const float* weight = parameters + layer.weight;
        if (add)
            product<true>(layer.inputs, lanes, layer.outputs, weight, 1, layer.inputs, gradients, BLOCK, result, BLOCK);
        else
            product<false>(layer.inputs, lanes, layer.outputs, weight, 1, layer.inputs, gradients, BLOCK, result, BLOCK);
    }

    // features [64, padded(inputs)], gradients [outputs, 64]
    void add_parameter_gradients(const Linear& layer, const float* features, const float* gradients, int64_t lanes,
                                 float* total) {
        const int64_t width = padded(layer.inputs);
        float* target = total + layer.weight;
        if (width == layer.inputs) {
            product<true>(layer.outputs, width, lanes, gradients, BLOCK, 1, features, width, target, width);
        } else {
            product<false>(layer.outputs, width, lanes, gradients, BLOCK, 1, features, width, weights.data(), width);
            for (int64_t m = 0; m < layer.outputs; ++m)
                for (int64_t k = 0; k < layer.inputs; ++k) target[m * layer.inputs + k] += weights[m * width + k];
        }
        for (int64_t m = 0; m < layer.outputs; ++m) {
            Vec sum{};
            for (int64_t n = 0; n < lanes; n += LANES) sum += load(gradients + m * BLOCK + n);
            for (int lane = 0; lane < LANES; ++lane) total[layer.bias + m] += sum[lane];
        }
    }
};

}  // namespace ppolab
