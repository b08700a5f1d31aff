// The PPO objective (Schulman et al. 2017, arXiv:1707.06347, equation 9) with the clipped surrogate, with the plain one
// (clip is infinite) or with a penalty on the KL divergence (equation 8), or its value term alone; and the gradient by
// what the networks put out. The same mathematics as learning/objective.py, which the tests hold it to.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "network.hpp"

namespace ppolab {

enum Family : int64_t { GAUSSIAN = 0, CATEGORICAL = 1, BERNOULLI = 2 };

constexpr float IMPOSSIBLE = -1e9f;  // logit of an action that is not allowed, as in core/distributions.py
constexpr double LOG_SQRT_2PI = 0.91893853320467274178;

// Experience: each pointer has one row per sample. Actions are float for Gaussian, int64 for the others.
//
// With memory the rows are `sequences` of `length` steps, time-major. Else `length` is 1, and the last three pointers null.
struct Samples {
    const float* observations;
    const void* actions;
    const float *log_probs, *values, *advantages, *returns;
    const float* parameters;  // of the distributions that the actions were drawn from
    const float* weights;     // 0 where a row is no experience, else 1
    const float* states;      // [K, sequences, H] before the first steps
    const bool* starts;       // where a row begins an episode
    int64_t length, sequences;

    bool counts(int64_t sample) const { return !weights || weights[sample] != 0.0f; }

    // How many of some samples are experience.
    int64_t counted(const int64_t* order, int64_t count) const {
        if (!weights) return count;
        int64_t total = 0;
        for (int64_t row = 0; row < count; ++row) total += counts(order ? order[row] : row);
        return total;
    }
};

// The numbers behind pointers may change between calls.
struct Settings {
    const double* clip;  // infinite: none
    const double* entropy_coef;
    double value_coef;
    double value_clip;     // negative: none
    const float* penalty;  // weight of KL(old || new); null: none
    int64_t value_only;    // not 0: leave out the trunk of the policy, which must be another than the value function's
    int64_t masked;        // not 0: where `parameters` of the samples are IMPOSSIBLE, the policy's outputs become so, too
};

// Minibatch means; kl_sum and samples are sums.
struct Terms {
    double policy, value, entropy, clip_fraction, kl_sum, samples, gradient_norm;
};

// log-probability and entropy of one row, and their derivatives by its distribution parameters.
struct Density {
    double log_prob, entropy;
};

class PolicyHead {
  public:
    PolicyHead(Family family, int64_t outputs, std::vector<int64_t> sizes)
        : family_(family), outputs_(outputs), sizes_(std::move(sizes)), by_log_prob_(outputs), by_entropy_(outputs),
          by_kl_(outputs), log_std_by_kl_(outputs), scale_(outputs), log_std_gradient_(outputs) {}

    int64_t outputs() const { return outputs_; }
    bool has_log_std() const { return family_ == GAUSSIAN; }

    // Sets `gradients` of the loss by `outputs` [count, A], and by log_std where there is one; fills the policy's terms.
    void differentiate(const float* outputs, const float* log_std, const Samples& samples, const Settings& settings,
                       const int64_t* order, int64_t count, float* gradients, float* log_std_gradients, Terms& terms) {
        std::fill(log_std_gradient_.begin(), log_std_gradient_.end(), 0.0);
        if (has_log_std())
            for (int64_t i = 0; i < outputs_; ++i) scale_[i] = std::exp(-static_cast<double>(log_std[i]));
        const double clip = *settings.clip, entropy_coef = *settings.entropy_coef;
        const double penalty = settings.penalty ? *settings.penalty : 0.0;
        const int64_t counted = samples.counted(order, count);
        double surrogate = 0.0, entropy = 0.0, clipped = 0.0, kl = 0.0;
        for (int64_t row = 0; row < count; ++row) {
            const int64_t sample = order ? order[row] : row;
            if (!samples.counts(sample)) {
                std::fill_n(gradients + row * outputs_, outputs_, 0.0f);
                continue;
            }
            const Density density = evaluate(outputs + row * outputs_, log_std, samples.actions, sample);
            const double log_ratio = density.log_prob - samples.log_probs[sample];
            const double growth = std::expm1(log_ratio), ratio = 1.0 + growth;
            const double advantage = samples.advantages[sample];
            const double free = ratio * advantage;
            const double kept = std::clamp(ratio, 1.0 - clip, 1.0 + clip) * advantage;
            const bool passes = free <= kept;
            surrogate += passes ? free : kept;
            if (settings.penalty)
                surrogate -= penalty * divergence(outputs + row * outputs_, log_std, samples.parameters, sample);
            entropy += density.entropy;
            clipped += std::abs(ratio - 1.0) > clip;
            kl += growth - log_ratio;
            accumulate(gradients + row * outputs_, passes ? -free / counted : (free > kept ? 0.0 : free),
                       -entropy_coef / counted, penalty / counted);
        }
        if (has_log_std())
            for (int64_t i = 0; i < outputs_; ++i)
                log_std_gradients[i] = static_cast<float>(log_std_gradient_[i]);
        terms.policy = -surrogate / counted;
        terms.entropy = entropy / counted;
        terms.clip_fraction = clipped / counted;
        terms.kl_sum = kl;
        terms.samples = static_cast<double>(counted);
    }

    // Puts the mask of the samples' distributions on `outputs` [count, A].
    void mask_alike(float* outputs, const Samples& samples, const int64_t* order, int64_t count) const {
        for (int64_t row = 0; row < count; ++row) {
            const float* old = samples.parameters + (order ? order[row] : row) * outputs_;
            for (int64_t i = 0; i < outputs_; ++i)
                if (!(old[i] > IMPOSSIBLE)) outputs[row * outputs_ + i] = IMPOSSIBLE;
        }
    }

    // Puts masks [count, A] on `outputs` [count, A].
    void mask(float* outputs, const bool* masks, int64_t count) const {
        for (int64_t at = 0; at < count * outputs_; ++at)
            if (!masks[at]) outputs[at] = IMPOSSIBLE;
    }

    // One action per row of `outputs` [count, A], by `noise` as core/distributions.py draws it.
    void sample(const float* outputs, const float* log_std, const float* noise, int64_t count, void* actions) const {
        if (family_ == CATEGORICAL) return sample_categorical(outputs, noise, count, static_cast<int64_t*>(actions));
        for (int64_t i = 0; i < outputs_; ++i) {
            const float scale = has_log_std() ? std::exp(log_std[i]) : 0.0f;
            for (int64_t at = i; at < count * outputs_; at += outputs_)
                if (has_log_std()) static_cast<float*>(actions)[at] = outputs[at] + noise[at] * scale;
                else static_cast<int64_t*>(actions)[at] = noise[at] < 1.0f / (1.0f + std::exp(-outputs[at]));
        }
    }

    // The most probable action per row of `outputs` [count, A], as core/distributions.py chooses it.
    void mode(const float* outputs, int64_t count, void* actions) const {
        if (family_ == CATEGORICAL) return mode_categorical(outputs, count, static_cast<int64_t*>(actions));
        for (int64_t at = 0; at < count * outputs_; ++at)
            if (has_log_std()) static_cast<float*>(actions)[at] = outputs[at];
            else static_cast<int64_t*>(actions)[at] = outputs[at] > 0.0f;
    }

  private:
    void mode_categorical(const float* outputs, int64_t count, int64_t* actions) const {
        for (int64_t row = 0; row < count; ++row)
            for (const int64_t size : sizes_) {
                *actions++ = std::max_element(outputs, outputs + size) - outputs;  // the first of equal ones
                outputs += size;
            }
    }

    void sample_categorical(const float* outputs, const float* noise, int64_t count, int64_t* actions) const {
        const int64_t widest = *std::max_element(sizes_.begin(), sizes_.end());
        for (int64_t row = 0; row < count; ++row)
            for (const int64_t size : sizes_) {
                int64_t best = 0;
                for (int64_t j = 1; j < size; ++j)
                    if (outputs[j] + noise[j] > outputs[best] + noise[best]) best = j;
                *actions++ = best;
                outputs += size;
                noise += widest;
            }
    }

    Density evaluate(const float* outputs, const float* log_std, const void* actions, int64_t sample) {
        if (family_ == GAUSSIAN)
            return gaussian(outputs, log_std, static_cast<const float*>(actions) + sample * outputs_);
        if (family_ == BERNOULLI)
            return bernoulli(outputs, static_cast<const int64_t*>(actions) + sample * outputs_);
        return categorical(outputs, static_cast<const int64_t*>(actions) + sample * static_cast<int64_t>(sizes_.size()));
    }

    Density gaussian(const float* outputs, const float* log_std, const float* action) {
        Density density{0.0, 0.0};
        for (int64_t i = 0; i < outputs_; ++i) {
            const double scaled = (static_cast<double>(action[i]) - outputs[i]) * scale_[i];
            density.log_prob += -0.5 * scaled * scaled - log_std[i] - LOG_SQRT_2PI;
            density.entropy += log_std[i] + 0.5 + LOG_SQRT_2PI;
            by_log_prob_[i] = scaled * scale_[i];
            by_entropy_[i] = scaled * scaled - 1.0;  // of the log-probability by log_std
        }
        return density;
    }

    Density bernoulli(const float* logits, const int64_t* action) {
        Density density{0.0, 0.0};
        for (int64_t i = 0; i < outputs_; ++i) {
            const double logit = logits[i], probability = 1.0 / (1.0 + std::exp(-logit));
            const double log_one = -std::log1p(std::exp(-std::abs(logit))) + std::min(logit, 0.0);
            density.log_prob += action[i] ? log_one : log_one - logit;
            density.entropy -= log_one - (1.0 - probability) * logit;
            by_log_prob_[i] = static_cast<double>(action[i]) - probability;
            by_entropy_[i] = -logit * probability * (1.0 - probability);
        }
        return density;
    }

    Density categorical(const float* logits, const int64_t* action) {
        Density density{0.0, 0.0};
        for (size_t component = 0, first = 0; component < sizes_.size(); first += sizes_[component++]) {
            const size_t end = first + sizes_[component];
            const double log_total = log_sum(logits + first, logits + end);
            double entropy = 0.0;
            for (size_t j = first; j < end; ++j) {
                const double log_probability = logits[j] - log_total;
                by_log_prob_[j] = -std::exp(log_probability);
                entropy += by_log_prob_[j] * log_probability;
            }
            for (size_t j = first; j < end; ++j)
                by_entropy_[j] = by_log_prob_[j] * (logits[j] - log_total + entropy);
            by_log_prob_[first + action[component]] += 1.0;
            density.log_prob += logits[first + action[component]] - log_total;
            density.entropy += entropy;
        }
        return density;
    }

    // KL(old || new) of one row, and its derivatives by the new distribution's parameters.
    double divergence(const float* outputs, const float* log_std, const float* parameters, int64_t sample) {
        const float* old = parameters + sample * outputs_ * (has_log_std() ? 2 : 1);
        if (family_ == GAUSSIAN) return gaussian_divergence(outputs, log_std, old);
        if (family_ == BERNOULLI) return bernoulli_divergence(outputs, old);
        return categorical_divergence(outputs, old);
    }

    double gaussian_divergence(const float* outputs, const float* log_std, const float* old) {
        double total = 0.0;
        for (int64_t i = 0; i < outputs_; ++i) {
            const double moved = outputs[i] - static_cast<double>(old[i]), precision = scale_[i] * scale_[i];
            const double squares = (std::exp(2.0 * old[outputs_ + i]) + moved * moved) * precision;
            total += static_cast<double>(log_std[i]) - old[outputs_ + i] + 0.5 * squares - 0.5;
            by_kl_[i] = moved * precision;
            log_std_by_kl_[i] = 1.0 - squares;
        }
        return total;
    }

    double bernoulli_divergence(const float* logits, const float* old) {
        double total = 0.0;
        for (int64_t i = 0; i < outputs_; ++i) {
            const double before = 1.0 / (1.0 + std::exp(-static_cast<double>(old[i])));
            total += before * (static_cast<double>(old[i]) - logits[i]) + softplus(logits[i]) - softplus(old[i]);
            by_kl_[i] = 1.0 / (1.0 + std::exp(-static_cast<double>(logits[i]))) - before;
        }
        return total;
    }

    double categorical_divergence(const float* logits, const float* old) {
        double total = 0.0;
        for (size_t component = 0, first = 0; component < sizes_.size(); first += sizes_[component++]) {
            const size_t end = first + sizes_[component];
            const double log_total = log_sum(logits + first, logits + end), old_total = log_sum(old + first, old + end);
            for (size_t j = first; j < end; ++j) {
                const double before = std::exp(old[j] - old_total);
                total += before * ((old[j] - old_total) - (logits[j] - log_total));
                by_kl_[j] = std::exp(logits[j] - log_total) - before;
            }
        }
        return total;
    }

    static double softplus(double x) { return std::max(x, 0.0) + std::log1p(std::exp(-std::abs(x))); }

    static double log_sum(const float* first, const float* last) {
        const double highest = *std::max_element(first, last);
        double total = 0.0;
        for (; first != last; ++first) total += std::exp(*first - highest);
        return std::log(total) + highest;
    }

    // One row's gradients, from the loss's derivatives by its log-probability, its entropy and its divergence.
    void accumulate(float* gradients, double by_log_prob, double by_entropy, double by_divergence) {
        for (int64_t i = 0; i < outputs_; ++i) {
            double gradient = by_log_prob * by_log_prob_[i] + by_divergence * by_kl_[i];
            if (has_log_std())
                log_std_gradient_[i] += by_log_prob * by_entropy_[i] + by_entropy + by_divergence * log_std_by_kl_[i];
            else
                gradient += by_entropy * by_entropy_[i];
            gradients[i] = static_cast<float>(gradient);
        }
    }

    Family family_;
    int64_t outputs_;
    std::vector<int64_t> sizes_;  // of the categorical components
    std::vector<double> by_log_prob_, by_entropy_, by_kl_, log_std_by_kl_, scale_, log_std_gradient_;
};

// Sets `gradients` [count] of the loss by the values.
inline void differentiate_values(const float* values, const Samples& samples, const Settings& settings,
                                 const int64_t* order, int64_t count, float* gradients, Terms& terms) {
    const int64_t counted = samples.counted(order, count);
    double total = 0.0;
    for (int64_t row = 0; row < count; ++row) {
        const int64_t sample = order ? order[row] : row;
        if (!samples.counts(sample)) {
            gradients[row] = 0.0f;
            continue;
        }
        double error = values[row] - static_cast<double>(samples.returns[sample]), gradient = error;
        if (settings.value_clip >= 0.0) {
            const double moved = static_cast<double>(values[row]) - samples.values[sample];
            const double kept = samples.values[sample] + std::clamp(moved, -settings.value_clip, settings.value_clip) -
                                static_cast<double>(samples.returns[sample]);
            if (kept * kept > error * error) {
                error = kept;
                gradient = std::abs(moved) <= settings.value_clip ? kept : 0.0;
            }
        }
        total += 0.5 * error * error;
        gradients[row] = static_cast<float>(settings.value_coef * gradient / counted);
    }
    terms.value = total / counted;
}

}  // namespace ppolab
