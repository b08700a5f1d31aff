// Advantages and returns of a rollout, under given values: core/gae.py has the equation. The same additions and
// multiplications in the same order, so the same numbers, bit for bit.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels.hpp"

namespace ppolab {

// Keeps a product from being fused with the sum that follows: it is rounded, as NumPy and PyTorch round it.
template <class Number>
inline Number rounded(Number value) {
    asm("" : "+m"(value));
    return value;
}

// A rollout of `steps` steps of `environments` environments, time-major.
struct Outcomes {
    int64_t steps, environments;
    const float* rewards;  // scaled
    const bool *terminated, *truncated;
    float gamma, decay;  // decay: gamma * lambda
    const int64_t* rows;  // [count] those of the steps that become samples
    int64_t count;
};

// y_t = inputs_t + decay_t * y_{t+1}, in place, by doubling: rows t and t + shift of [steps, width], shift 1, 2, 4, ...
inline void reverse_recurrence(float* inputs, float* decay, int64_t steps, int64_t width) {
    for (int64_t shift = 1; shift < steps; shift *= 2) {
        const int64_t size = (steps - shift) * width, ahead = shift * width;
        int64_t at = 0;
        for (; at + LANES <= size; at += LANES) {
            const Vec carry = load(decay + at), added = rounded(carry * load(inputs + at + ahead));
            store(inputs + at, load(inputs + at) + added);
            store(decay + at, carry * load(decay + at + ahead));
        }
        for (; at < size; ++at) {
            inputs[at] += rounded(decay[at] * inputs[at + ahead]);
            decay[at] *= decay[at + ahead];
        }
    }
}

// values [T+1, N] -> advantages [count] and returns [count] of the chosen rows.
class Advantages {
  public:
    void compute(const Outcomes& from, const float* values, float* advantages, float* returns) {
        const int64_t size = from.steps * from.environments;
        deltas_.resize(size);
        decay_.resize(size);
        for (int64_t at = 0; at < size; ++at) {
            const float alive = from.terminated[at] ? 0.0f : 1.0f, goes_on = from.truncated[at] ? 0.0f : 1.0f;
            const float bootstrap = rounded(rounded(from.gamma * alive) * values[at + from.environments]);
            deltas_[at] = from.rewards[at] + bootstrap - values[at];
            decay_[at] = from.decay * alive * goes_on;
        }
        reverse_recurrence(deltas_.data(), decay_.data(), from.steps, from.environments);
        for (int64_t i = 0; i < from.count; ++i) {
            advantages[i] = deltas_[from.rows[i]];
            returns[i] = deltas_[from.rows[i]] + values[from.rows[i]];
        }
    }

  private:
    std::vector<float> deltas_, decay_;
};

}  // namespace ppolab
