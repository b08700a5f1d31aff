// What Python calls: evaluating an actor-critic, the gradient of a minibatch, and a whole epoch of Adam steps.

#include <atomic>
#include <thread>

#include "actor_critic.hpp"
#include "collecting.hpp"
#include "convolutions.hpp"
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
class AdamStep {
  public:
    AdamStep(const Adam& adam, int64_t step, double gradient_scale)
        : means_(adam.mean), squares_(adam.square),
          scale_(static_cast<float>(adam.maximize ? -gradient_scale : gradient_scale)),
          rate_(static_cast<float>(adam.lr / (1.0 - std::pow(adam.beta1, step)))),
          correction_(static_cast<float>(1.0 / std::sqrt(1.0 - std::pow(adam.beta2, step)))),
          keep1_(static_cast<float>(adam.beta1)), keep2_(static_cast<float>(adam.beta2)),
          add1_(static_cast<float>(1.0 - adam.beta1)), add2_(static_cast<float>(1.0 - adam.beta2)),
          epsilon_(static_cast<float>(adam.epsilon)),
          coupled_(static_cast<float>(adam.decoupled ? 0.0 : adam.weight_decay)),
          shrink_(static_cast<float>(adam.decoupled ? 1.0 - adam.lr * adam.weight_decay : 1.0)) {}

    // Goes by whole lines of the cache: where the arrays lie at the same place of their pages, each line is fetched again
    // once another array's was touched.
    void make(Range range, const float* gradient, float* parameters) const {
        constexpr int64_t LINE = 16;
        int64_t at = range.first;
        const int64_t end = range.first + range.size, whole = std::min((at + LINE - 1) / LINE * LINE, end);
        for (; at < whole; ++at) make<float, 1>(at, gradient, parameters);
        for (; at + LINE <= end; at += LINE) make<Wide, LINE / WIDE_LANES>(at, gradient, parameters);
        for (; at < end; ++at) make<float, 1>(at, gradient, parameters);
    }

  private:
    // Of COUNT times as many numbers as N has.
    template <class N, int COUNT>
    void make(int64_t at, const float* gradient, float* parameters) const {
        N slopes[COUNT], before[COUNT], means[COUNT], squares[COUNT];
        read(gradient + at, slopes);
        read(parameters + at, before);
        read(means_ + at, means);
        read(squares_ + at, squares);
        for (int i = 0; i < COUNT; ++i) {
            before[i] = before[i] * shrink_;
            const N slope = slopes[i] * scale_ + coupled_ * before[i];
            means[i] = keep1_ * means[i] + add1_ * slope;
            squares[i] = keep2_ * squares[i] + add2_ * slope * slope;
            before[i] -= rate_ * means[i] / (square_root(squares[i]) * correction_ + epsilon_);
        }
        write(means, means_ + at);
        write(squares, squares_ + at);
        write(before, parameters + at);
    }

    template <class N, int COUNT>
    static void read(const float* from, N (&numbers)[COUNT]) {
        for (int i = 0; i < COUNT; ++i) numbers[i] = load<N>(from + i * lanes_of<N>());
    }

    template <class N, int COUNT>
    static void write(const N (&numbers)[COUNT], float* to) {
        for (int i = 0; i < COUNT; ++i) store(to + i * lanes_of<N>(), numbers[i]);
    }

    float *means_, *squares_;
    float scale_, rate_, correction_, keep1_, keep2_, add1_, add2_, epsilon_, coupled_, shrink_;
};

// One of several threads that share an update: each has some networks, and works on whole minibatches.
class ThreadTeam {
  public:
    struct Sums;
    ThreadTeam(Sums& sums, size_t thread, size_t first, size_t last)
        : sums_(sums), thread_(thread), first_(first), last_(last) {}

    size_t first() const { return first_; }
    size_t last() const { return last_; }
    Range part_of(int64_t size) const { return {0, size}; }
    void add(double, const std::vector<Range>&, float*, Terms&) {}
    bool tells() const { return thread_ == 0; }

    double of_all(double value, Terms&) { return sums_.add(thread_, value); }

    // What the first thread found.
    int agreed(int found) { return static_cast<int>(sums_.add(thread_, tells() ? found : 0)); }

    // Adds up one number of each of several threads, step after step, without a lock.
    struct Sums {
        explicit Sums(size_t threads) : threads_(threads) {}

        double add(size_t thread, double value) {
            const int64_t step = slots_[thread].steps.load(std::memory_order_relaxed);
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

  private:
    Sums& sums_;
    size_t thread_, first_, last_;
};

// When an epoch ends early: after each part of its minibatches, the mean KL of the part's samples is looked at.
struct Stopping {
    const int64_t* parts;  // [count] minibatches of each part
    int64_t count;
    double limit, broken;            // above the first no further part is made, above the second the last is rolled back
    int64_t made, stopped, rolled_back;  // filled: parts; whether a limit was passed, and the second one
};

enum Verdict : int { GO_ON = 0, STOP = 1, ROLL_BACK = 2 };

// Of the KL over some minibatches; a number that is none goes on.
int verdict(const Stopping& stopping, const Terms* first, const Terms* last) {
    double sum = 0.0, samples = 0.0;
    for (const Terms* terms = first; terms != last; ++terms) {
        sum += terms->kl_sum;
        samples += terms->samples;
    }
    const double kl = sum / samples;
    return !(kl > stopping.limit) ? GO_ON : kl > stopping.broken ? ROLL_BACK : STOP;
}

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
    Stopping* stopping;  // null: all minibatches are made
};

// Of what counts in the minibatch `order` of `size` samples, or sequences, the share that `part` has.
double share_of(const Samples& samples, const int64_t* order, Range part, int64_t size) {
    if (part.size == size) return 1.0;
    const auto counted = [&](int64_t first, int64_t count) {
        int64_t total = 0;
        for (int64_t i = first; i < first + count; ++i)
            for (int64_t t = 0; t < samples.length; ++t) total += samples.counts(t * samples.sequences + order[i]);
        return static_cast<double>(total);
    };
    return counted(part.first, part.size) / counted(0, size);
}

// The parameters of some networks, to go back to.
class Kept {
  public:
    void keep(const std::vector<Range>& ranges, const float* parameters) {
        for (const Range range : ranges)
            numbers_.insert(numbers_.end(), parameters + range.first, parameters + range.first + range.size);
    }

    void restore(const std::vector<Range>& ranges, float* parameters) {
        for (const Range range : ranges) {
            std::copy_n(numbers_.data() + restored_, range.size, parameters + range.first);
            restored_ += range.size;
        }
    }

  private:
    std::vector<float> numbers_;
    int64_t restored_ = 0;
};

// A team's networks on every minibatch in [begin, end). Only the gradient's norm couples networks, so teams can share a step.
template <class Team>
void run_minibatches(ActorCritic& policy, const Epoch& epoch, Team& team, int64_t begin, int64_t end,
                     const int64_t* order) {
    std::vector<Range> stepped;
    for (size_t network = team.first(); network < team.last(); ++network)
        stepped.insert(stepped.end(), policy.ranges[network].begin(), policy.ranges[network].end());
    for (int64_t batch = begin; batch < end; order += epoch.sizes[batch++]) {
        Terms& terms = epoch.terms[batch];
        const Range part = team.part_of(epoch.sizes[batch]);
        for (size_t network = team.first(); network < team.last() && part.size > 0; ++network)
            policy.differentiate(network, epoch.parameters, *epoch.samples, *epoch.settings, order + part.first, part.size,
                                 epoch.gradient, terms);
        team.add(share_of(*epoch.samples, order, part, epoch.sizes[batch]), stepped, epoch.gradient, terms);
        double squares = 0.0;
        for (size_t network = team.first(); network < team.last(); ++network)
            squares += policy.sum_of_squares(network, epoch.gradient);
        const double norm = std::sqrt(team.of_all(squares, terms));
        if (team.tells()) terms.gradient_norm = norm;
        const double limit = epoch.adam->max_grad_norm;
        const double scale = limit > 0.0 && !(norm <= limit) ? limit / (norm + 1e-6) : 1.0;
        const AdamStep step(*epoch.adam, epoch.adam->steps + batch + 1, scale);
        for (const Range range : stepped) step.make(range, epoch.gradient, epoch.parameters);
    }
}

// The same, part by part until the policy has moved too far.
template <class Team>
void run_networks(ActorCritic& policy, const Epoch& epoch, Team& team) {
    if (!epoch.stopping) return run_minibatches(policy, epoch, team, 0, epoch.batches, epoch.order);
    Stopping& stopping = *epoch.stopping;
    const int64_t* order = epoch.order;
    int64_t begin = 0;
    for (int64_t part = 0; part < stopping.count; ++part) {
        Kept before;
        for (size_t network = team.first(); network < team.last(); ++network)
            before.keep(policy.ranges[network], epoch.parameters);
        const int64_t end = begin + stopping.parts[part];
        run_minibatches(policy, epoch, team, begin, end, order);
        const int own = team.tells() ? verdict(stopping, epoch.terms + begin, epoch.terms + end) : GO_ON;
        const int found = team.agreed(own);
        if (found == ROLL_BACK)
            for (size_t network = team.first(); network < team.last(); ++network)
                before.restore(policy.ranges[network], epoch.parameters);
        if (team.tells()) {
            stopping.made = part + 1;
            stopping.stopped = found != GO_ON;
            stopping.rolled_back = found == ROLL_BACK;
        }
        if (found != GO_ON) return;
        for (; begin < end; ++begin) order += epoch.sizes[begin];
    }
}

// An epoch by this rank, on all ranks' samples, once all of them are there. Returns false if another rank is gone.
bool run_as_rank(ActorCritic& policy, const Epoch& epoch, const Ranks& ranks, size_t first) {
    RankTeam team(ranks, first, policy.networks.size() - first);
    try {
        team.meet();
        run_networks(policy, epoch, team);
        team.spread(policy.ranges, {epoch.parameters, epoch.adam->mean, epoch.adam->square});
    } catch (const RankGone&) {
        return false;
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
    static_cast<ActorCritic*>(handle)->evaluate(parameters, observations, rows, actions, values);
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
        policy.evaluate(parameters, observations, rows, chosen_from, nullptr);
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
// memory the sequences. `stopping` may be null. Several `ranks`, one thread each, share the steps on `samples` of all of
// them, and end up with the same numbers. Returns 0 if one of them is gone.
int64_t ppo_epoch(void* handle, float* parameters, const Samples* samples, const Settings* settings, const Adam* adam,
                  const int64_t* order, const int64_t* sizes, int64_t batches, int64_t threads, float* gradient,
                  Terms* terms, Stopping* stopping, const Ranks* ranks) {
    ActorCritic& policy = *static_cast<ActorCritic*>(handle);
    policy.reserve(*std::max_element(sizes, sizes + batches) * samples->length);
    const Epoch epoch{parameters, samples, settings, adam, order, sizes, batches, gradient, terms, stopping};
    const size_t first = first_network(*settings), last = policy.networks.size();
    if (ranks) return run_as_rank(policy, epoch, *ranks, first);
    const size_t count = threads < 2 || last - first < 2 ? 1 : 2;
    ThreadTeam::Sums sums(count);
    ThreadTeam one(sums, 0, first, count == 1 ? last : 1), other(sums, 1, 1, 2);
    if (count == 1) run_networks(policy, epoch, one);
    else Helper::both([&] { run_networks(policy, epoch, one); }, [&] { run_networks(policy, epoch, other); });
    return true;
}

// Lets calls with many observations use so many threads, one or two.
void ppo_use_threads(void* handle, int64_t threads) { static_cast<ActorCritic*>(handle)->threads = threads; }

// advantages and returns [count] of a rollout under `values` [steps + 1, environments], which are computed from
// `observations` before, where these are given.
void ppo_advantages(void* handle, const float* parameters, const float* observations, const Outcomes* outcomes,
                    float* values, float* advantages, float* returns) {
    const int64_t rows = (outcomes->steps + 1) * outcomes->environments;
    if (observations) ppo_evaluate(handle, parameters, observations, rows, nullptr, values);
    Advantages().compute(*outcomes, values, advantages, returns);
}

// Returns why a pool's function cannot be called without Python; null where it can.
const char* ppo_problem_of_pool(void* function) { return problem_of_handler(function); }

// A loop that collects rollouts from `count` groups of environments, which must outlive it, with the policy `handle`.
void* ppo_loop_create(void* handle, const PoolGroup* groups, int64_t count, const ActionPlacement* placement) {
    return new CollectingLoop(*static_cast<ActorCritic*>(handle), groups, count, *placement);
}

void ppo_loop_destroy(void* loop) { delete static_cast<CollectingLoop*>(loop); }

void ppo_loop_run(void* loop, const float* parameters, const Collected* rollout, Fault* fault) {
    *fault = static_cast<CollectingLoop*>(loop)->run(parameters, *rollout);
}

// See `add_episode_steps`.
int64_t ppo_episode_steps(const double* rewards, const bool* ended, const bool* valid, int64_t steps, int64_t count,
                          double gamma, double* sums_of_rewards, double* discounted_sums, int64_t* sums_of_steps,
                          double* discounted, double* totals, int64_t* lengths) {
    return add_episode_steps(rewards, ended, valid, steps, count, gamma,
                             {sums_of_rewards, discounted_sums, sums_of_steps}, discounted, totals, lengths);
}

// How many bytes ranks share for so many parameters, a multiple of 16.
int64_t ranks_bytes(int64_t size, int64_t floats) { return RankTeam::bytes(size, floats); }

// Tells the other ranks which process this rank is.
void ranks_enter(const Ranks* ranks, int64_t process) { RankTeam::enter(*ranks, process); }

// For messages between ranks: tells the others that what this rank has written is there; returns for which time.
int64_t ranks_arrive(const Ranks* ranks) { return RankTeam(*ranks, 0, 1).arrive(); }

// Waits for so many milliseconds until all ranks have arrived for that time: returns 1 once they have, 0 if they have not,
// -1 if one of them is gone.
int64_t ranks_await(const Ranks* ranks, int64_t time, int64_t milliseconds) {
    try {
        return RankTeam(*ranks, 0, 1).have_arrived(time, std::chrono::milliseconds(milliseconds));
    } catch (const RankGone&) {
        return -1;
    }
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

// Convolutions of images: see convolutions.hpp. The weights are those of the layers.
void convolutions_forward(const Convolution* layers, int64_t count, const LayerWeights* weights, int64_t threads,
                          const Images* images, float* keep, float* features) {
    Convolutions{layers, count, weights}.forward(threads, *images, keep, features);
}

void convolutions_backward(const Convolution* layers, int64_t count, const LayerWeights* weights, int64_t threads,
                           const Images* images, const float* kept, const float* features, const float* slopes,
                           const LayerWeights* of_weights) {
    Convolutions{layers, count, weights}.backward(threads, *images, kept, features, slopes, of_weights);
}

// Python mirrors these structures, and compares their sizes when it loads the library.
int64_t ppo_sizeof_samples() { return sizeof(Samples); }
int64_t ppo_sizeof_settings() { return sizeof(Settings); }
int64_t ppo_sizeof_adam() { return sizeof(Adam); }
int64_t ppo_sizeof_terms() { return sizeof(Terms); }
int64_t ppo_sizeof_stopping() { return sizeof(Stopping); }
int64_t ppo_sizeof_outcomes() { return sizeof(Outcomes); }
int64_t ppo_sizeof_placement() { return sizeof(ActionPlacement); }
int64_t ppo_sizeof_column() { return sizeof(InfoColumn); }
int64_t ppo_sizeof_part() { return sizeof(ObservationPart); }
int64_t ppo_sizeof_group() { return sizeof(PoolGroup); }
int64_t ppo_sizeof_collected() { return sizeof(Collected); }
int64_t ppo_sizeof_remembered() { return sizeof(Remembered); }
int64_t ppo_sizeof_fault() { return sizeof(Fault); }
int64_t ppo_sizeof_ranks() { return sizeof(Ranks); }
int64_t ppo_sizeof_convolution() { return sizeof(Convolution); }
int64_t ppo_sizeof_images() { return sizeof(Images); }
int64_t ppo_sizeof_weights() { return sizeof(LayerWeights); }

}  // extern "C"
