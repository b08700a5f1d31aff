// The loop that collects a rollout from pools of EnvPool: receive, scale, act, send and store, without Python between two
// steps. It does what ppolab/training/collector.py does step by step, and gives the same numbers, bit for bit.
#pragma once

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

#include "actor_critic.hpp"
#include "advantages.hpp"
#include "pool_calls.hpp"

namespace ppolab {

enum NumberType : int64_t { FLOAT_32 = 0, FLOAT_64 = 1, INT_32 = 2, INT_64 = 3, BYTE = 4 };

// Calls function(numbers) with the array in its own type.
template <class Function>
inline void as_type(int64_t type, void* data, Function function) {
    switch (type) {
        case FLOAT_32: return function(static_cast<float*>(data));
        case FLOAT_64: return function(static_cast<double*>(data));
        case INT_32: return function(static_cast<int32_t*>(data));
        case INT_64: return function(static_cast<int64_t*>(data));
        case BYTE: return function(static_cast<uint8_t*>(data));
    }
}

// How the `width` numbers of a policy's action become those of a pool's, which are of `type`.
struct ActionPlacement {
    int64_t width, type;
    const int64_t* starts;  // of choices, which are counted from there; null where the action is numbers
    const double *radius, *centre, *low, *high;  // of numbers: action * radius + centre, within the bounds

    void place(const void* chosen, int64_t count, void* sent) const {
        as_type(type, sent, [&](auto* target) {
            using Number = std::remove_pointer_t<decltype(target)>;
            for (int64_t at = 0; at < count * width; ++at) {
                const int64_t i = at % width;
                if (starts) target[at] = static_cast<Number>(static_cast<const int64_t*>(chosen)[at] + starts[i]);
                else target[at] = placed<Number>(static_cast<const float*>(chosen)[at], i);
            }
        });
    }

  private:
    template <class Number>
    Number placed(float chosen, int64_t i) const {
        const Number product = rounded(static_cast<Number>(chosen) * static_cast<Number>(radius[i]));
        Number value = product + static_cast<Number>(centre[i]);
        if (std::isnan(value)) return value;
        const Number least = static_cast<Number>(low[i]), most = static_cast<Number>(high[i]);
        value = value > least ? value : least;
        return value < most ? value : most;
    }
};

// A number of each environment's info, which is one entry of the pool's state.
struct InfoColumn {
    int64_t entry, type;
};

// Some columns of an observation, which are one entry of the pool's state.
struct ObservationPart {
    int64_t entry, type, width;
};

// One pool: rows [first, first + count) of the rollout.
struct PoolGroup {
    void *receive, *send;  // its functions
    int64_t handle, first, count;
    void** state;  // where each entry of its state is put
    int64_t entries;
    const ObservationPart* parts;  // [part_count] the columns of an observation, in order
    int64_t part_count, reward, done, truncated;
    const int32_t* ids;  // [count] its environments, all of them
    bool* ended;         // [count] where an episode ended with the last step
    double* waiting;     // seconds of the loop after which it was last asked for a step
};

// What a policy with memory reads and fills besides.
struct Remembered {
    float** states;  // by group [K, count, H] before the first observations; then after the last ones that were acted on
    int64_t rows, size;  // K and H
    float* kept;         // [C, K, N, H] the states before every `length`th observation
    int64_t length;
    float *outputs, *values;  // [T, N, action outputs] and [T, N]
};

// What a rollout of T steps of N environments reads and fills, time-major; see `Steps` and `Rollout` in Python.
struct Collected {
    int64_t steps, environments, inputs;
    double* observations;  // [T+1, N, D] raw, the first row filled
    const double *mean, *inverse_std;
    double limit;
    const float* noise;  // [T, N, noise_width]
    int64_t noise_width;
    float* scaled;  // [T+1, N, D]; the last row is not filled
    void* actions;  // [T, N, ...], action_bytes for each
    int64_t action_bytes;
    double* rewards;
    bool *terminated, *truncated, *valid;
    double* info;  // [T, N, columns]
    int64_t columns;
    const InfoColumn* info_columns;
    void** sent;   // by group [T, count, width], filled with the actions that the pool takes
    double* times;  // [T+1, groups, 3] seconds: asked, answered, actions sent; null: not wanted
    const Remembered* memory;  // null: the policy has none
};

// What ended a loop early. group -1: nothing did.
struct Fault {
    int64_t group, step;
    const char* message;  // of a pool that was called wrongly; null: it returned a number that is not finite
};

// Raw observations [rows, inputs] -> scaled ones, (x - mean) * inverse_std within the limit.
inline void scale(const double* raw, const double* mean, const double* inverse_std, double limit, int64_t rows,
                  int64_t inputs, float* observations) {
    for (int64_t row = 0; row < rows; ++row)
        for (int64_t k = 0; k < inputs; ++k) {
            const double scaled = (raw[row * inputs + k] - mean[k]) * inverse_std[k];
            observations[row * inputs + k] = static_cast<float>(std::clamp(scaled, -limit, limit));
        }
}

class CollectingLoop {
  public:
    CollectingLoop(const ActorCritic& policy, const PoolGroup* groups, int64_t count, const ActionPlacement& placement)
        : placement_(placement) {
        for (int64_t i = 0; i < count; ++i) members_.push_back(std::make_unique<Member>(policy, groups[i]));
    }

    // Two groups go on independently, each on a thread of its own, so that none waits for the other's longer steps. More of
    // them take turns.
    Fault run(const float* parameters, const Collected& rollout) {
        const auto start = Clock::now();
        for (auto& member : members_)
            for (Network& network : member->policy.networks) network.prepare(parameters);
        std::vector<Fault> faults(members_.size(), Fault{-1, 0, nullptr});
        const auto drive = [&](size_t first, size_t last) {
            for (int64_t t = 0; t <= rollout.steps; ++t)
                for (size_t i = first; i < last; ++i)
                    if (!advance(i, t, parameters, rollout, start, faults[i])) return;
        };
        if (members_.size() == 2) Helper::both([&] { drive(0, 1); }, [&] { drive(1, 2); });
        else drive(0, members_.size());
        const auto found = std::find_if(faults.begin(), faults.end(), [](const Fault& each) { return each.group >= 0; });
        return found == faults.end() ? faults.front() : *found;
    }

  private:
    using Clock = std::chrono::steady_clock;

    struct Member {
        Member(const ActorCritic& copied, const PoolGroup& taken)
            : policy(copied), group(taken),
              receive(group.receive, group.handle, {}, std::vector<void*>(group.state, group.state + group.entries)),
              send(group.send, group.handle, {ids(), ids(), nullptr}, {}) {
            policy.reserve(group.count);
        }
        void* ids() const { return const_cast<int32_t*>(group.ids); }

        ActorCritic policy;  // its own, with own memory for what it computes
        PoolGroup group;
        PoolCall receive, send;
        std::string problem;
    };

    static double since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

    // Takes in what the action at t - 1 led to, and acts at t. Returns whether the rollout can go on.
    bool advance(size_t index, int64_t t, const float* parameters, const Collected& rollout, Clock::time_point start,
                 Fault& fault) {
        Member& member = *members_[index];
        double* const times = rollout.times ? rollout.times + (t * members_.size() + index) * 3 : nullptr;
        if (t > 0) {
            *member.group.waiting = since(start);
            if (times) times[0] = *member.group.waiting;
            const char* const problem = member.receive();
            if (times) times[1] = since(start);
            if (problem || !store(member.group, t - 1, rollout)) return fails(index, t - 1, problem, fault);
        }
        if (t == rollout.steps) return true;
        act(index, t, parameters, rollout);
        const char* const problem = member.send();
        if (times) times[2] = since(start);
        return !problem || fails(index, t, problem, fault);
    }

    bool fails(size_t index, int64_t t, const char* problem, Fault& fault) const {
        if (problem) members_[index]->problem = problem;  // which may be of a thread that ends
        fault = {static_cast<int64_t>(index), t, problem ? members_[index]->problem.c_str() : nullptr};
        return false;
    }

    // Returns whether all observations and rewards are finite.
    static bool store(const PoolGroup& group, int64_t t, const Collected& rollout) {
        const int64_t count = group.count, place = t * rollout.environments + group.first;
        const int64_t size = count * rollout.inputs;
        double* const observations = rollout.observations + (place + rollout.environments) * rollout.inputs;
        double* first = observations;
        for (int64_t index = 0; index < group.part_count; first += group.parts[index++].width) {
            const ObservationPart& part = group.parts[index];
            as_type(part.type, group.state[part.entry], [&](const auto* given) {
                for (int64_t i = 0; i < count; ++i)
                    std::copy_n(given + i * part.width, part.width, first + i * rollout.inputs);
            });
        }
        const auto finite = [](double value) { return std::isfinite(value); };
        const float* const rewards = static_cast<const float*>(group.state[group.reward]);
        std::copy_n(rewards, count, rollout.rewards + place);
        if (!std::all_of(observations, observations + size, finite) || !std::all_of(rewards, rewards + count, finite))
            return false;
        const bool* const done = static_cast<const bool*>(group.state[group.done]);
        const bool* const truncated = static_cast<const bool*>(group.state[group.truncated]);
        for (int64_t i = 0; i < count; ++i) {
            rollout.terminated[place + i] = done[i] && !truncated[i];
            rollout.truncated[place + i] = truncated[i];
            rollout.valid[place + i] = !group.ended[i];
            group.ended[i] = done[i] || truncated[i];
        }
        for (int64_t column = 0; column < rollout.columns; ++column) {
            const InfoColumn& from = rollout.info_columns[column];
            as_type(from.type, group.state[from.entry], [&](const auto* given) {
                for (int64_t i = 0; i < count; ++i)
                    rollout.info[(place + i) * rollout.columns + column] = static_cast<double>(given[i]);
            });
        }
        return true;
    }

    void act(size_t index, int64_t t, const float* parameters, const Collected& rollout) const {
        Member& member = *members_[index];
        const PoolGroup& group = member.group;
        ActorCritic& policy = member.policy;
        const int64_t place = t * rollout.environments + group.first, count = group.count;
        float* const scaled = rollout.scaled + place * rollout.inputs;
        void* const actions = static_cast<char*>(rollout.actions) + place * rollout.action_bytes;
        scale(rollout.observations + place * rollout.inputs, rollout.mean, rollout.inverse_std, rollout.limit, count,
              rollout.inputs, scaled);
        if (rollout.memory) remember(index, t, parameters, rollout);
        else policy.evaluate(parameters, scaled, count, policy.actions.data(), nullptr);
        policy.head.sample(policy.actions.data(), parameters + policy.log_std,
                           rollout.noise + place * rollout.noise_width, count, actions);
        const int64_t bytes = count * placement_.width * size_of(placement_.type);
        void* const sent = static_cast<char*>(rollout.sent[index]) + t * bytes;
        placement_.place(actions, count, sent);
        member.send.read_from(2, sent);
    }

    // Computes actions and values with the group's states, which go on by one step.
    void remember(size_t index, int64_t t, const float* parameters, const Collected& rollout) const {
        const Remembered& memory = *rollout.memory;
        const PoolGroup& group = members_[index]->group;
        ActorCritic& policy = members_[index]->policy;
        const int64_t count = group.count, environments = rollout.environments, place = t * environments + group.first;
        const int64_t outputs = policy.head.outputs();
        float* const states = memory.states[index];
        for (int64_t row = 0; row < memory.rows; ++row)
            for (int64_t i = 0; i < count; ++i) {
                float* const state = states + (row * count + i) * memory.size;
                if (t > 0 && !rollout.valid[place - environments + i])
                    for (int64_t k = 0; k < memory.size; ++k) state[k] *= 0.0f;
                if (t % memory.length) continue;
                const int64_t at = (t / memory.length * memory.rows + row) * environments + group.first + i;
                std::copy_n(state, memory.size, memory.kept + at * memory.size);
            }
        policy.remember(parameters, rollout.scaled + place * rollout.inputs, 1, count, nullptr, states, states,
                        memory.outputs + place * outputs, memory.values + place);
        std::copy_n(memory.outputs + place * outputs, count * outputs, policy.actions.data());
    }

    static int64_t size_of(int64_t type) { return type == FLOAT_64 || type == INT_64 ? 8 : type == BYTE ? 1 : 4; }

    ActionPlacement placement_;
    std::vector<std::unique_ptr<Member>> members_;
};

// Sums of rewards, lengths and discounted sums of N environments' episodes over T steps; see episode_statistics.py.
struct EpisodeSums {
    double *rewards, *discounted;
    int64_t* lengths;  // [N] each, of the episodes under way
};

// Goes on with `sums`; fills `discounted` [T, N] after each step, and for each episode that ended, in order, its place in
// time and environment, its sum and its length. Returns how many did.
inline int64_t add_episode_steps(const double* rewards, const bool* ended, const bool* valid, int64_t steps,
                                 int64_t count, double gamma, const EpisodeSums& sums, double* discounted,
                                 double* totals, int64_t* lengths) {
    int64_t finished = 0;
    for (int64_t t = 0; t < steps; ++t)
        for (int64_t i = 0; i < count; ++i) {
            const int64_t at = t * count + i;
            const double counted = rounded(rewards[at] * valid[at]);
            sums.rewards[i] += counted;
            sums.lengths[i] += valid[at];
            sums.discounted[i] = rounded(sums.discounted[i] * gamma) + counted;
            discounted[at] = sums.discounted[i];
            if (!ended[at]) continue;
            totals[finished] = sums.rewards[i];
            lengths[finished++] = sums.lengths[i];
            sums.rewards[i] = sums.discounted[i] = 0.0;
            sums.lengths[i] = 0;
        }
    return finished;
}

}  // namespace ppolab
