// Policy and value function on one vector of parameters: networks, what they put out, and the gradient of the objective.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "helper.hpp"
#include "memory.hpp"
#include "objective.hpp"

namespace ppolab {

constexpr int64_t ACTION_HEAD = 0;  // the other one gives values

struct Range {
    int64_t first, size;
};

// The rows of some whole sequences among samples, and what their network's memory needs.
struct SequenceRows {
    std::vector<int64_t> rows;
    std::vector<float> keep, states;

    // Sequence b of `count` is that at order[b], or b. The network's state begins at row `first` of all networks'.
    Past gather(const Samples& samples, const int64_t* order, int64_t count, int64_t first, int64_t rows_of_state,
                int64_t size) {
        rows.resize(samples.length * count);
        keep.resize(samples.length * count);
        states.resize(rows_of_state * count * size);
        for (int64_t b = 0; b < count; ++b) {
            const int64_t sequence = order ? order[b] : b;
            for (int64_t t = 0; t < samples.length; ++t) {
                const int64_t row = t * samples.sequences + sequence;
                rows[t * count + b] = row;
                keep[t * count + b] = samples.starts[row] ? 0.0f : 1.0f;
            }
            for (int64_t k = 0; k < rows_of_state; ++k)
                std::copy_n(samples.states + ((first + k) * samples.sequences + sequence) * size, size,
                            &states[(k * count + b) * size]);
        }
        return {samples.length, keep.data(), states.data(), nullptr};
    }
};

constexpr int64_t SHARED_ROWS = 512;  // from so many on, a second thread is worth the waiting for it
inline constexpr Past NO_PAST{1, nullptr, nullptr, nullptr};

struct ActorCritic {
    std::vector<Network> networks;
    std::vector<std::vector<Range>> ranges;  // of the parameters that belong to each network
    PolicyHead head;
    int64_t inputs, log_std;
    std::vector<SequenceRows> sequences;  // of each network
    std::vector<float> actions, values, action_gradients, value_gradients;

    int64_t threads = 1;
    std::vector<Network> others{};  // the same networks, for a second thread

    void reserve(int64_t rows) {
        for (auto* buffer : {&actions, &action_gradients}) buffer->resize(rows * head.outputs());
        for (auto* buffer : {&values, &value_gradients}) buffer->resize(rows);
    }

    int64_t rows_of_state() const { return first_row_of_state(networks.size()); }

    // Where a network's rows begin in the state of all.
    int64_t first_row_of_state(size_t network) const {
        int64_t rows = 0;
        for (size_t i = 0; i < network; ++i) rows += networks[i].rows_of_state();
        return rows;
    }

    // One network's share of a minibatch of samples, or of sequences: forward, objective, backward.
    void differentiate(size_t index, const float* parameters, const Samples& samples, const Settings& settings,
                       const int64_t* order, int64_t count, float* gradient, Terms& terms) {
        Network& network = networks[index];
        Past past = NO_PAST;
        if (network.remembers()) {
            past = sequences[index].gather(samples, order, count, first_row_of_state(index), network.rows_of_state(),
                                           network.layers.front().size);
            order = sequences[index].rows.data();
            count *= samples.length;
            network.prepare(parameters);
        }
        const Matrix outputs[] = {{actions.data(), head.outputs()}, {values.data(), 1}};
        const Matrix gradients[] = {{action_gradients.data(), head.outputs()}, {value_gradients.data(), 1}};
        network.forward(parameters, {samples.observations, inputs, order}, count, past, true, outputs);
        for (const int64_t head_index : network.head_index())
            if (head_index == ACTION_HEAD) {
                if (settings.masked) head.mask_alike(actions.data(), samples, order, count);
                head.differentiate(actions.data(), parameters + log_std, samples, settings, order, count,
                                   action_gradients.data(), gradient + log_std, terms);
            } else
                differentiate_values(values.data(), samples, settings, order, count, value_gradients.data(), terms);
        network.backward(parameters, count, past, gradients, gradient);
    }

    // What `rows` observations lead to without memory; either of the outputs may be null. Many are shared by two threads.
    void evaluate(const float* parameters, const float* observations, int64_t rows, float* action_outputs,
                  float* value_outputs) {
        const int64_t half = threads > 1 && rows >= SHARED_ROWS ? rows / 2 / BLOCK * BLOCK : rows;
        const auto of_rows = [&](std::vector<Network>& with, int64_t first, int64_t last) {
            const Matrix outputs[] = {{action_outputs ? action_outputs + first * head.outputs() : nullptr, head.outputs()},
                                      {value_outputs ? value_outputs + first : nullptr, 1}};
            for (Network& network : with)
                if (is_wanted(network, outputs))
                    network.forward(parameters, {observations + first * inputs, inputs, nullptr}, last - first, NO_PAST,
                                    false, outputs);
        };
        if (half == rows) return of_rows(networks, 0, rows);
        if (others.empty()) others = networks;
        Helper::both([&] { of_rows(networks, 0, half); }, [&] { of_rows(others, half, rows); });
    }

    // What `rows` observations, the steps of sequences, lead to; `states` and `last` [K, sequences, H] of all networks.
    void remember(const float* parameters, const float* observations, int64_t steps, int64_t rows, const float* keep,
                  const float* states, float* last, float* action_outputs, float* value_outputs) {
        const Matrix outputs[] = {{action_outputs, head.outputs()}, {value_outputs, 1}};
        const int64_t sequences_count = rows / steps;
        for (size_t i = 0; i < networks.size(); ++i) {
            if (!is_wanted(networks[i], outputs)) continue;
            const int64_t place = first_row_of_state(i) * sequences_count * networks[i].layers.front().size;
            networks[i].forward(parameters, {observations, inputs, nullptr}, rows,
                                {steps, keep, states + place, last ? last + place : nullptr}, false, outputs);
        }
    }

    static bool is_wanted(const Network& network, const Matrix* outputs) {
        return std::any_of(network.head_index().begin(), network.head_index().end(),
                           [&](int64_t index) { return outputs[index].data != nullptr; });
    }

    double sum_of_squares(size_t network, const float* gradient) const {
        double total = 0.0;
        for (const Range range : ranges[network]) total += ppolab::sum_of_squares(gradient + range.first, range.size);
        return total;
    }
};

}  // namespace ppolab
