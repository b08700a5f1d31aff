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
#include "products.hpp"

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
    Buffer kept, head, above, beneath, weights;
    std::vector<const float*> activated;  // of a block's hidden layers

    void allocate() {
        int64_t widest = padded(inputs);
        kept_per_block = 2 * BLOCK * padded(inputs);
        for (const Linear& layer : hidden) {
            kept_per_block += kept_of(layer);
            widest = std::max(widest, padded(layer.outputs));
        }
        for (const Linear& layer : heads) widest = std::max(widest, padded(layer.outputs));
        for (auto* buffer : {&head, &above, &beneath}) buffer->assign(BLOCK * widest, 0.0f);
        int64_t most = 0;
        for (const auto* layers : {&hidden, &heads})
            for (const Linear& layer : *layers) most = std::max(most, layer.outputs);
        weights.assign(most * PANEL, 0.0f);
        activated.resize(hidden.size());
    }

    void forward(const float* parameters, Rows rows, int64_t count, bool keep, const Matrix* outputs) {
        const int64_t blocks = keep ? (count + BLOCK - 1) / BLOCK : 1;
        grow(kept, blocks * kept_per_block);
        for (int64_t first = 0; first < count; first += BLOCK)
            forward_block(parameters, rows.from(first), std::min<int64_t>(BLOCK, count - first),
                          kept.data() + (keep ? first / BLOCK * kept_per_block : 0), keep, outputs, first);
    }

    // Sets the gradients of this trunk's parameters after a forward pass that was kept; and where there are no hidden
    // layers, those of its inputs, if they are wanted.
    void backward(const float* parameters, int64_t count, const Matrix* output_gradients, float* total,
                  Matrix input_gradients = {nullptr, 0}) {
        assert(!input_gradients.data || hidden.empty());
        assert(count > 0);
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
        transpose(block, width, lanes, width, features, BLOCK);
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
        product<Start::BIAS>(layer.outputs, lanes, layer.inputs, {parameters + layer.weight, layer.inputs, 1}, features,
                             BLOCK, result, BLOCK, parameters + layer.bias);
    }

    void backward_block(const float* parameters, int64_t count, const float* block, const Matrix* output_gradients,
                        int64_t first, float* total, Matrix input_gradients) {
        const int64_t lanes = in_strips(count);
        const float* next = block + 2 * BLOCK * padded(inputs);
        for (size_t index = 0; index < hidden.size(); next += kept_of(hidden[index++])) activated[index] = next;
        const int64_t to_slopes = keeps_slopes(activation) ? BLOCK : 0;
        for (size_t i = 0; i < heads.size(); ++i) {
            const Matrix source = output_gradients[head_index[i]];
            std::memset(head.data(), 0, sizeof(float) * BLOCK * heads[i].outputs);
            transpose(source.from(first), source.stride, count, heads[i].outputs, head.data(), BLOCK);
            set_parameter_gradients(heads[i], below(hidden.size(), block), head.data(), lanes, first > 0, total);
            if (!hidden.empty() || input_gradients.data)
                through_weights(heads[i], parameters, head.data(), lanes, above.data(), i > 0);
        }
        if (input_gradients.data)
            transpose(above.data(), BLOCK, inputs, count, input_gradients.from(first), input_gradients.stride);
        for (size_t index = hidden.size(); index-- > 0;) {
            const Linear& layer = hidden[index];
            const float* kept_values = activated[index] + to_slopes * layer.outputs;
            for_features(layer.outputs, lanes, [&](int64_t place, int64_t size) {
                through_activation(activation, kept_values + place, above.data() + place, size);
            });
            set_parameter_gradients(layer, below(index, block), above.data(), lanes, first > 0, total);
            if (index == 0) continue;
            through_weights(layer, parameters, above.data(), lanes, beneath.data(), false);
            std::swap(above, beneath);
        }
    }

    // What a layer reads: [inputs, 64] of the hidden layer below, or [64, padded(inputs)] of the trunk's own.
    struct Below {
        const float* data;
        bool by_row;
    };

    Below below(size_t index, const float* block) const {
        return index ? Below{activated[index - 1], false} : Below{block, true};
    }

    // result [inputs, 64] (+)= weight' gradients [outputs, 64]
    static void through_weights(const Linear& layer, const float* parameters, const float* gradients, int64_t lanes,
                                float* result, bool add) {
        const auto by = add ? product<Start::RESULT> : product<Start::ZERO>;
        by(layer.inputs, lanes, layer.outputs, {parameters + layer.weight, 1, layer.inputs}, gradients, BLOCK, result,
           BLOCK, nullptr);
    }

    // total (+)= the gradients [outputs, 64] by weights and biases, of a block whose layer read `below`.
    void set_parameter_gradients(const Linear& layer, Below below, const float* gradients, int64_t lanes, bool add,
                                 float* total) {
        alignas(64) float panel[BLOCK * PANEL];
        const int64_t width = padded(layer.inputs);
        for (int64_t n = 0; n < layer.inputs; n += PANEL) {
            const int64_t columns = std::min(PANEL, layer.inputs - n);
            const float* rows = below.data + n;
            int64_t stride = width;
            if (!below.by_row) {
                transpose(below.data + n * BLOCK, BLOCK, columns, lanes, panel, PANEL);
                rows = panel, stride = PANEL;
            }
            set_weight_gradients(layer, columns, gradients, lanes, rows, stride, add, total + layer.weight + n);
        }
        set_bias_gradients(layer.outputs, gradients, lanes, add, total + layer.bias);
    }

    // The same of the weights of `columns` inputs, of which `rows` [64, stride] holds those of the block.
    void set_weight_gradients(const Linear& layer, int64_t columns, const float* gradients, int64_t lanes,
                              const float* rows, int64_t stride, bool add, float* target) {
        const auto by = add ? product<Start::RESULT> : product<Start::ZERO>;
        if (layer.inputs % LANES == 0)
            return by(layer.outputs, columns, lanes, {gradients, BLOCK, 1}, rows, stride, target, layer.inputs, nullptr);
        product<Start::ZERO>(layer.outputs, padded(columns), lanes, {gradients, BLOCK, 1}, rows, stride, weights.data(),
                             PANEL);
        for (int64_t m = 0; m < layer.outputs; ++m)
            for (int64_t k = 0; k < columns; ++k) {
                float& number = target[m * layer.inputs + k];
                number = (add ? number : 0.0f) + weights[m * PANEL + k];
            }
    }

    static void set_bias_gradients(int64_t outputs, const float* gradients, int64_t lanes, bool add, float* target) {
        for (int64_t first = 0; first < outputs; first += LANES) {
            float sums[LANES][LANES] = {}, by_lane[LANES][LANES];
            const int64_t size = std::min<int64_t>(LANES, outputs - first);
            for (int64_t m = 0; m < size; ++m) {
                Vec sum{};
                for (int64_t n = 0; n < lanes; n += LANES) sum += load(gradients + (first + m) * BLOCK + n);
                store(sums[m], sum);
            }
            transpose_square(sums[0], LANES, by_lane[0], LANES);
            float result[LANES] = {};
            if (add) std::copy_n(target + first, size, result);
            Vec total = load(result);
            for (const float* lane : by_lane) total += load(lane);
            store(result, total);
            std::copy_n(result, size, target + first);
        }
    }
};

}  // namespace ppolab
