// What Python calls: evaluating an actor-critic, the gradient of a minibatch, and a whole epoch of Adam steps.

#include <atomic>
#include <thread>

#include "network.hpp"
#include "objective.hpp"
#include "recurrence.hpp"

using namespace ppolab;

namespace {

constexpr int64_t ACTION_HEAD = 0;  // the other one gives values

struct Adam {
    float *mean, *square;  // running moments of the gradient, [P]
    int64_t steps;         // taken so far
    double lr, beta1, beta2, epsilon, weight_decay;
    int64_t decoupled, maximize;
    double max_grad_norm;  // 0: no clipping
};

struct Range {
    int64_t first, size;
};

struct ActorCritic {
    std::vector<Trunk> trunks;
    std::vector<std::vector<Range>> ranges;  // of the parameters that belong to each trunk
    PolicyHead head;
    int64_t inputs, log_std;
    std::vector<float> actions, values, action_gradients, value_gradients;

    void reserve(int64_t rows) {
        for (auto* buffer : {&actions, &action_gradients}) buffer->resize(rows * head.outputs());
        for (auto* buffer : {&values, &value_gradients}) buffer->resize(rows);
    }

    // One trunk's share of a minibatch: forward, objective, backward.
    void differentiate(size_t trunk, const float* parameters, const Samples& samples, const Settings& settings,
                       const int64_t* order, int64_t count, float* gradient, Terms& terms) {
        const Matrix outputs[] = {{actions.data(), head.outputs()}, {values.data(), 1}};
        const Matrix gradients[] = {{action_gradients.data(), head.outputs()}, {value_gradients.data(), 1}};
        trunks[trunk].forward(parameters, {samples.observations, inputs, order}, count, true, outputs);
        for (const int64_t index : trunks[trunk].head_index)
            if (index == ACTION_HEAD) {
                if (settings.masked) head.mask_alike(actions.data(), samples, order, count);
                head.differentiate(actions.data(), parameters + log_std, samples, settings, order, count,
                                   action_gradients.data(), gradient + log_std, terms);
            } else
                differentiate_values(values.data(), samples, settings, order, count, value_gradients.data(), terms);
        trunks[trunk].backward(parameters, count, gradients, gradient);
    }

    double sum_of_squares(size_t trunk, const float* gradient) const {
        double total = 0.0;
        for (const Range range : ranges[trunk]) {
            Vec sums{};
            int64_t i = range.first;
            for (; i + LANES <= range.first + range.size; i += LANES) sums += load(gradient + i) * load(gradient + i);
            for (int lane = 0; lane < LANES; ++lane) total += sums[lane];
            for (; i < range.first + range.size; ++i) total += static_cast<double>(gradient[i]) * gradient[i];
        }
        return total;
    }
};

// Kingma & Ba 2015 (arXiv:1412.6980), algorithm 1; decoupled weight decay: Loshchilov & Hutter 2019 (arXiv:1711.05101).
void adam_step(const Adam& adam, int64_t step, double gradient_scale, Range range, const float* gradient,
               float* parameters) {
    const float scale = static_cast<float>(adam.maximize ? -gradient_scale : gradient_scale);
    const float rate = static_cast<float>(adam.lr / (1.0 - std::pow(adam.beta1, step)));
    const float correction = static_cast<float>(std::sqrt(1.0 - std::pow(adam.beta2, step)));
    const float keep1 = static_cast<float>(adam.beta1), keep2 = static_cast<float>(adam.beta2);
    const float add1 = static_cast<float>(1.0 - adam.beta1), add2 = static_cast<float>(1.0 - adam.beta2);
    const float epsilon = static_cast<float>(adam.epsilon);
    const float coupled = static_cast<float>(adam.decoupled ? 0.0 : adam.weight_decay);
    const float shrink = static_cast<float>(adam.decoupled ? 1.0 - adam.lr * adam.weight_decay : 1.0);
    for (int64_t i = range.first; i < range.first + range.size; ++i) {
        const float parameter = parameters[i] * shrink;
        const float g = gradient[i] * scale + coupled * parameter;
        const float mean = adam.mean[i] = keep1 * adam.mean[i] + add1 * g;
        const float square = adam.square[i] = keep2 * adam.square[i] + add2 * g * g;
        parameters[i] = parameter - rate * mean / (std::sqrt(square) / correction + epsilon);
    }
}

// Adds up one number of each of several threads, step after step, without a lock.
class Sum {
  public:
    explicit Sum(size_t threads) : threads_(threads) {}

    double of_all(size_t thread, int64_t step, double value) {
        slots_[thread].value[step & 1] = value;
        slots_[thread].steps.store(step + 1, std::memory_order_release);
        double total = 0.0;
        for (size_t other = 0; other < threads_; ++other) {
            for (int spins = 0; slots_[other].steps.load(std::memory_order_acquire) <= step; ++spins)
                if (spins > SPINS) std::this_thread::yield();
            total += slots_[other].value[step & 1];
        }
        return total;
    }

  private:
    static constexpr int SPINS = 4000;
    struct alignas(64) Slot {
        std::atomic<int64_t> steps{0};
        double value[2] = {0.0, 0.0};  // a thread may be one step ahead of another, never two
    };
    size_t threads_;
    Slot slots_[2];
};

struct Epoch {
    float* parameters;
    const Samples* samples;
    const Settings* settings;
    const Adam* adam;
    const int64_t* order;
    const int64_t* sizes;
    int64_t batches;
    float* gradient;
    Terms* terms;
};

// The trunks [first, last) of every minibatch. Only the gradient's norm couples them, so two threads can share a step.
void run_trunks(ActorCritic& policy, const Epoch& epoch, size_t first, size_t last, size_t thread, Sum& sum) {
    const int64_t* order = epoch.order;
    for (int64_t batch = 0; batch < epoch.batches; order += epoch.sizes[batch++]) {
        Terms& terms = epoch.terms[batch];
        double squares = 0.0;
        for (size_t trunk = first; trunk < last; ++trunk) {
            policy.differentiate(trunk, epoch.parameters, *epoch.samples, *epoch.settings, order, epoch.sizes[batch],
                                 epoch.gradient, terms);
            squares += policy.sum_of_squares(trunk, epoch.gradient);
        }
        const double norm = std::sqrt(sum.of_all(thread, batch, squares));
        if (thread == 0) terms.gradient_norm = norm;
        const double limit = epoch.adam->max_grad_norm;
        const double scale = limit > 0.0 && !(norm <= limit) ? limit / (norm + 1e-6) : 1.0;
        for (size_t trunk = first; trunk < last; ++trunk)
            for (const Range range : policy.ranges[trunk])
                adam_step(*epoch.adam, epoch.adam->steps + batch + 1, scale, range, epoch.gradient, epoch.parameters);
    }
}

// The first trunk of which an update is made: the second is the value function's alone.
size_t first_trunk(const Settings& settings) { return settings.value_only ? 1 : 0; }

Linear read_linear(const int64_t*& spec) {
    const Linear layer{spec[0], spec[1], spec[2], spec[3]};
    spec += 4;
    return layer;
}

void add_range(std::vector<Range>& ranges, int64_t first, int64_t size) {
    if (!ranges.empty() && ranges.back().first + ranges.back().size == first) ranges.back().size += size;
    else ranges.push_back({first, size});
}

Trunk read_trunk(const int64_t*& spec, Activation activation, int64_t inputs, std::vector<Range>& ranges) {
    Trunk trunk;
    trunk.activation = activation;
    trunk.inputs = inputs;
    const int64_t hidden = *spec++, heads = *spec++;
    for (int64_t i = 0; i < hidden; ++i) trunk.hidden.push_back(read_linear(spec));
    for (int64_t i = 0; i < heads; ++i) {
        trunk.head_index.push_back(*spec++);
        trunk.heads.push_back(read_linear(spec));
    }
    for (const auto* layers : {&trunk.hidden, &trunk.heads})
        for (const Linear& layer : *layers) {
            add_range(ranges, layer.weight, layer.inputs * layer.outputs);
            add_range(ranges, layer.bias, layer.outputs);
        }
    trunk.allocate();
    return trunk;
}

}  // namespace

extern "C" {

// spec: activation, inputs, family, action outputs, offset of log_std (or -1), number of categorical components and
// their sizes, number of trunks; per trunk the number of hidden layers and of heads, then each hidden layer, then for
// each head its index and layer; a layer is inputs, outputs, weight offset, bias offset.
void* ppo_create(const int64_t* spec) {
    const auto activation = static_cast<Activation>(*spec++);
    const int64_t inputs = *spec++;
    const auto family = static_cast<Family>(*spec++);
    const int64_t outputs = *spec++, log_std = *spec++, components = *spec++;
    const std::vector<int64_t> sizes(spec, spec + components);
    spec += components;
    auto* policy = new ActorCritic{{}, {}, PolicyHead(family, outputs, sizes), inputs, std::max<int64_t>(log_std, 0),
                                   {}, {}, {}, {}};
    const int64_t trunks = *spec++;
    policy->ranges.resize(trunks);
    if (log_std >= 0) add_range(policy->ranges[0], log_std, outputs);
    for (int64_t i = 0; i < trunks; ++i)
        policy->trunks.push_back(read_trunk(spec, activation, inputs, policy->ranges[i]));
    return policy;
}

void ppo_destroy(void* handle) { delete static_cast<ActorCritic*>(handle); }

// observations [rows, inputs] -> actions [rows, action outputs] and values [rows]; either may be null.
void ppo_evaluate(void* handle, const float* parameters, const float* observations, int64_t rows, float* actions,
                  float* values) {
    ActorCritic& policy = *static_cast<ActorCritic*>(handle);
    const Matrix outputs[] = {{actions, policy.head.outputs()}, {values, 1}};
    for (Trunk& trunk : policy.trunks)
        if (std::any_of(trunk.head_index.begin(), trunk.head_index.end(),
                        [&](int64_t index) { return outputs[index].data != nullptr; }))
            trunk.forward(parameters, {observations, policy.inputs, nullptr}, rows, false, outputs);
}

// Raw observations [rows, inputs] -> scaled ones, (x - mean) * inverse_std within the limit, and an action for each row:
// drawn by `noise`, or the most probable one where that is null, of those in `masks` [rows, action outputs] or, where that
// is null, of all.
void ppo_act(void* handle, const float* parameters, const double* raw, const double* mean, const double* inverse_std,
             double limit, int64_t rows, const float* noise, const bool* masks, float* observations, void* actions) {
    ActorCritic& policy = *static_cast<ActorCritic*>(handle);
    for (int64_t row = 0; row < rows; ++row)
        for (int64_t k = 0; k < policy.inputs; ++k) {
            const double scaled = (raw[row * policy.inputs + k] - mean[k]) * inverse_std[k];
            observations[row * policy.inputs + k] = static_cast<float>(std::clamp(scaled, -limit, limit));
        }
    policy.reserve(rows);
    ppo_evaluate(handle, parameters, observations, rows, policy.actions.data(), nullptr);
    if (masks) policy.head.mask(policy.actions.data(), masks, rows);
    if (noise) policy.head.sample(policy.actions.data(), parameters + policy.log_std, noise, rows, actions);
    else policy.head.mode(policy.actions.data(), rows, actions);
}

// gradient [P] of the objective on `count` samples in order, and its terms.
void ppo_gradient(void* handle, const float* parameters, const Samples* samples, const Settings* settings,
                  int64_t count, float* gradient, Terms* terms) {
    ActorCritic& policy = *static_cast<ActorCritic*>(handle);
    policy.reserve(count);
    for (size_t trunk = first_trunk(*settings); trunk < policy.trunks.size(); ++trunk)
        policy.differentiate(trunk, parameters, *samples, *settings, nullptr, count, gradient, *terms);
}

// One Adam step per minibatch: `order` lists the samples of the first sizes[0] long minibatch, then the second, ...
void ppo_epoch(void* handle, float* parameters, const Samples* samples, const Settings* settings, const Adam* adam,
               const int64_t* order, const int64_t* sizes, int64_t batches, int64_t threads, float* gradient,
               Terms* terms) {
    ActorCritic& policy = *static_cast<ActorCritic*>(handle);
    policy.reserve(*std::max_element(sizes, sizes + batches));
    const Epoch epoch{parameters, samples, settings, adam, order, sizes, batches, gradient, terms};
    const size_t first = first_trunk(*settings), last = policy.trunks.size();
    if (threads < 2 || last - first < 2) {
        Sum alone(1);
        return run_trunks(policy, epoch, first, last, 0, alone);
    }
    Sum both(2);
    std::thread helper([&] { run_trunks(policy, epoch, 1, 2, 1, both); });
    run_trunks(policy, epoch, 0, 1, 0, both);
    helper.join();
}

// The steps of recurrent layers: see recurrence.hpp.
void gru_forward(int64_t steps, int64_t rows, int64_t size, const float* projected, const float* state, const float* keep,
                 const float* weights, const float* bias, float* outputs, float* before, float* gates) {
    ppolab::gru_forward({steps, rows, size}, projected, state, keep, weights, bias, outputs, before, gates);
}

void gru_backward(int64_t steps, int64_t rows, int64_t size, const float* slopes, const float* keep, const float* weights,
                  const float* before, const float* gates, float* of_inputs, float* of_products, float* of_state) {
    ppolab::gru_backward({steps, rows, size}, slopes, keep, weights, before, gates, of_inputs, of_products, of_state);
}

void lstm_forward(int64_t steps, int64_t rows, int64_t size, const float* projected, const float* state, const float* keep,
                  const float* weights, float* outputs, float* cells, float* before, float* gates) {
    ppolab::lstm_forward({steps, rows, size}, projected, state, keep, weights, outputs, cells, before, gates);
}

void lstm_backward(int64_t steps, int64_t rows, int64_t size, const float* slopes, const float* keep, const float* weights,
                   const float* cells, const float* before, const float* gates, float* of_products, float* of_state) {
    ppolab::lstm_backward({steps, rows, size}, slopes, keep, weights, cells, before, gates, of_products, of_state);
}

// Python mirrors these structures, and compares their sizes when it loads the library.
int64_t ppo_sizeof_samples() { return sizeof(Samples); }
int64_t ppo_sizeof_settings() { return sizeof(Settings); }
int64_t ppo_sizeof_adam() { return sizeof(Adam); }
int64_t ppo_sizeof_terms() { return sizeof(Terms); }

}  // extern "C"
