// What Python calls: evaluating an actor-critic, the gradient of a minibatch, and a whole epoch of Adam steps.

#include <atomic>
#include <thread>

#include "actor_critic.hpp"
#include "ranks.hpp"

using namespace ppolab;

namespace {

struct Adam {
    float *mean, *square;  // running moments of the gradient, [P]
    int64_t steps;         // taken so far
    double lr, beta1, beta2, epsilon, weight_decay;
    int64_t decoupled, maximize;
    double max_grad_norm;  // 0: no clipping
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
    const Ranks* ranks;  // null: there is one
};

// The networks [first, last) on every minibatch. Only the gradient's norm couples them, so two threads can share a step.
// Returns false if another rank is gone.
bool run_networks(ActorCritic& policy, const Epoch& epoch, size_t first, size_t last, size_t thread, Sum& sum) {
    const int64_t* order = epoch.order;
    std::vector<Range> stepped;
    for (size_t network = first; network < last; ++network)
        stepped.insert(stepped.end(), policy.ranges[network].begin(), policy.ranges[network].end());
    for (int64_t batch = 0; batch < epoch.batches; order += epoch.sizes[batch++]) {
        Terms& terms = epoch.terms[batch];
        double squares = 0.0;
        for (size_t network = first; network < last && epoch.sizes[batch] > 0; ++network)
            policy.differentiate(network, epoch.parameters, *epoch.samples, *epoch.settings, order, epoch.sizes[batch],
                                 epoch.gradient, terms);
        if (epoch.ranks && !RankSums(*epoch.ranks).add(batch, stepped, epoch.gradient, terms)) return false;
        for (size_t network = first; network < last; ++network)
            squares += policy.sum_of_squares(network, epoch.gradient);
        const double norm = std::sqrt(sum.of_all(thread, batch, squares));
        if (thread == 0) terms.gradient_norm = norm;
        const double limit = epoch.adam->max_grad_norm;
        const double scale = limit > 0.0 && !(norm <= limit) ? limit / (norm + 1e-6) : 1.0;
        for (size_t network = first; network < last; ++network)
            for (const Range range : policy.ranges[network])
                adam_step(*epoch.adam, epoch.adam->steps + batch + 1, scale, range, epoch.gradient, epoch.parameters);
    }
    return true;
}

// The first network of which an update is made: the second is the value function's alone.
size_t first_network(const Settings& settings) { return settings.value_only ? 1 : 0; }

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

Network read_network(const int64_t*& spec, Activation activation, int64_t inputs, std::vector<Range>& ranges) {
    Network network;
    const int64_t layers = *spec++;
    network.trunks.push_back(read_trunk(spec, activation, inputs, ranges));
    for (int64_t i = 0; i < layers; ++i) {
        Recurrent layer{static_cast<MemoryKind>(spec[0]), spec[1], spec[2], spec[3]};
        spec += 4;
        add_range(ranges, layer.weight, layer.width() * layer.size);
        if (layer.kind == GRU) add_range(ranges, layer.bias, layer.width());
        network.trunks.push_back(read_trunk(spec, activation, layer.size, ranges));
        network.layers.push_back(std::move(layer));
    }
    return network;
}

}  // namespace

extern "C" {

// spec: activation, inputs, family, action outputs, offset of log_std (or -1), number of categorical components and
// their sizes, number of networks. Per network the number of recurrent layers and a trunk, then per recurrent layer its
// kind, units, weight offset, bias offset (or -1) and the trunk on top of it. A trunk is the number of hidden layers and of
// heads, then each hidden layer, then for each head its index and layer; one below a recurrent layer has one head. A layer
// is inputs, outputs, weight offset, bias offset.
void* ppo_create(const int64_t* spec) {
    const auto activation = static_cast<Activation>(*spec++);
    const int64_t inputs = *spec++;
    const auto family = static_cast<Family>(*spec++);
    const int64_t outputs = *spec++, log_std = *spec++, components = *spec++;
    const std::vector<int64_t> sizes(spec, spec + components);
    spec += components;
    auto* policy = new ActorCritic{{}, {}, PolicyHead(family, outputs, sizes), inputs, std::max<int64_t>(log_std, 0),
                                   {}, {}, {}, {}, {}};
    const int64_t networks = *spec++;
    policy->ranges.resize(networks);
    policy->sequences.resize(networks);
    if (log_std >= 0) add_range(policy->ranges[0], log_std, outputs);
    for (int64_t i = 0; i < networks; ++i)
        policy->networks.push_back(read_network(spec, activation, inputs, policy->ranges[i]));
    return policy;
}

void ppo_destroy(void* handle) { delete static_cast<ActorCritic*>(handle); }

// observations [rows, inputs] -> actions [rows, action outputs] and values [rows]; either may be null. Without memory.
void ppo_evaluate(void* handle, const float* parameters, const float* observations, int64_t rows, float* actions,
                  float* values) {
    ActorCritic& policy = *static_cast<ActorCritic*>(handle);
    const Matrix outputs[] = {{actions, policy.head.outputs()}, {values, 1}};
    for (Network& network : policy.networks)
        if (ActorCritic::is_wanted(network, outputs))
            network.forward(parameters, {observations, policy.inputs, nullptr}, rows, NO_PAST, false, outputs);
}

// Reads the weights of recurrent layers: `ppo_remember` and `ppo_act_remembering` know those of the last call.
void ppo_prepare(void* handle, const float* parameters) {
    for (Network& network : static_cast<ActorCritic*>(handle)->networks) network.prepare(parameters);
}

// The same with memory: rows are `steps` of sequences, time-major; keep [rows], 0 where the state before a row is
// forgotten, or null; states [K, sequences, H] before the first steps.
void ppo_remember(void* handle, const float* parameters, const float* observations, int64_t steps, int64_t rows,
                  const float* keep, const float* states, float* actions, float* values) {
    static_cast<ActorCritic*>(handle)->remember(parameters, observations, steps, rows, keep, states, nullptr, actions,
                                                values);
}

// Raw observations [rows, inputs] -> scaled ones, (x - mean) * inverse_std within the limit.
void scale(const double* raw, const double* mean, const double* inverse_std, double limit, int64_t rows, int64_t inputs,
           float* observations) {
    for (int64_t row = 0; row < rows; ++row)
        for (int64_t k = 0; k < inputs; ++k) {
            const double scaled = (raw[row * inputs + k] - mean[k]) * inverse_std[k];
            observations[row * inputs + k] = static_cast<float>(std::clamp(scaled, -limit, limit));
        }
}

// Raw observations [rows, inputs] -> scaled ones, and an action for each row: drawn by `noise`, or the most probable one
// where that is null, of those in `masks` [rows, action outputs] or, where that is null, of all.
//
// With memory, `states` [K, rows, H] go on by one step, and `outputs` [rows, action outputs] and, where they are wanted,
// `values` [rows] are filled. Without, these are null.
void ppo_act(void* handle, const float* parameters, const double* raw, const double* mean, const double* inverse_std,
             double limit, int64_t rows, const float* noise, const bool* masks, float* observations, void* actions,
             float* states, float* outputs, float* values) {
    ActorCritic& policy = *static_cast<ActorCritic*>(handle);
    scale(raw, mean, inverse_std, limit, rows, policy.inputs, observations);
    policy.reserve(rows);
    float* const chosen_from = policy.actions.data();
    if (states) {
        policy.remember(parameters, observations, 1, rows, nullptr, states, states, outputs, values);
        std::copy_n(outputs, rows * policy.head.outputs(), chosen_from);
    } else {
        ppo_evaluate(handle, parameters, observations, rows, chosen_from, nullptr);
    }
    if (masks) policy.head.mask(chosen_from, masks, rows);
    if (noise) policy.head.sample(chosen_from, parameters + policy.log_std, noise, rows, actions);
    else policy.head.mode(chosen_from, rows, actions);
}

// gradient [P] of the objective on `count` samples, or with memory sequences, in order; and its terms.
void ppo_gradient(void* handle, const float* parameters, const Samples* samples, const Settings* settings,
                  int64_t count, float* gradient, Terms* terms) {
    ActorCritic& policy = *static_cast<ActorCritic*>(handle);
    policy.reserve(count * samples->length);
    for (size_t network = first_network(*settings); network < policy.networks.size(); ++network)
        policy.differentiate(network, parameters, *samples, *settings, nullptr, count, gradient, *terms);
}

// One Adam step per minibatch: `order` lists the samples of the first sizes[0] long minibatch, then the second, ...; with
// memory the sequences. Several `ranks` add up their gradients before each step, in one thread each. Returns 0 if one of
// them is gone.
int64_t ppo_epoch(void* handle, float* parameters, const Samples* samples, const Settings* settings, const Adam* adam,
                  const int64_t* order, const int64_t* sizes, int64_t batches, int64_t threads, float* gradient,
                  Terms* terms, const Ranks* ranks) {
    ActorCritic& policy = *static_cast<ActorCritic*>(handle);
    policy.reserve(*std::max_element(sizes, sizes + batches) * samples->length);
    const Epoch epoch{parameters, samples, settings, adam, order, sizes, batches, gradient, terms, ranks};
    const size_t first = first_network(*settings), last = policy.networks.size();
    if (threads < 2 || last - first < 2 || ranks) {
        Sum alone(1);
        return run_networks(policy, epoch, first, last, 0, alone);
    }
    Sum both(2);
    std::thread helper([&] { run_networks(policy, epoch, 1, 2, 1, both); });
    run_networks(policy, epoch, 0, 1, 0, both);
    helper.join();
    return true;
}

// How many bytes ranks share whose places have so many floats.
int64_t ranks_bytes(int64_t size, int64_t floats) { return RankSums::bytes(size, floats); }

// Tells the other ranks which process this rank is.
void ranks_enter(const Ranks* ranks, int64_t process) { RankSums(*ranks).enter(process); }

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
int64_t ppo_sizeof_ranks() { return sizeof(Ranks); }

}  // extern "C"
