// One update by the ranks of one machine, in memory that they share: no message is sent, and the order of ranks alone decides
// the last bit.
//
// As two threads of one process do, each rank works on one network: on whole minibatches, of all ranks' samples. Where
// there are more ranks than networks, those of a network divide each minibatch and add up their gradients.
#pragma once

#include <signal.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <thread>
#include <vector>

#include "actor_critic.hpp"

namespace ppolab {

struct Ranks {
    int64_t rank, size;
    void* memory;    // of all ranks, zero at first
    int64_t floats;  // no fewer than there are parameters, and a multiple of 16
};

struct RankGone {};  // thrown where another rank's process has ended

// One rank among those that update `networks` networks, from number `first` on.
//
// A rank may be one exchange or one sum ahead of another, never two: it waits for all before it begins the next. So there
// are two places for each, in turn, and what a rank writes lies where nobody reads any more.
class RankTeam {
  public:
    RankTeam(const Ranks& ranks, size_t first, size_t networks)
        : ranks_(ranks), first_(first), networks_(static_cast<int64_t>(networks)) {}

    // A desk for each rank; all parameters and what Adam keeps of them; then two places for each rank's gradient.
    static int64_t bytes(int64_t size, int64_t floats) {
        return size * sizeof(Desk) + (SHARED_ARRAYS + 2 * size) * floats * sizeof(float);
    }

    // Writes this rank's number of a process, by which the others see whether it is still there.
    static void enter(const Ranks& ranks, int64_t process) {
        RankTeam(ranks, 0, 1).desk(ranks.rank).process.store(process, std::memory_order_release);
    }

    // The network that this rank works on.
    size_t network() const { return first_ + ranks_.rank % networks_; }
    size_t first() const { return network(); }
    size_t last() const { return network() + 1; }

    // Of `size` samples or sequences of a minibatch, those that this rank works on.
    Range part_of(int64_t size) const {
        const int64_t place = ranks_.rank / networks_, begin = size * place / team_size();
        return {begin, size * (place + 1) / team_size() - begin};
    }

    // `values` in `ranges`, and the terms, become those of a whole minibatch, of which this rank has `share`.
    void add(double share, const std::vector<Range>& ranges, float* values, Terms& terms) {
        if (team_size() == 1) return;
        Desk& own = desk(ranks_.rank);
        const int64_t step = own.sums.load(std::memory_order_relaxed);
        float* mine = gradient_place(ranks_.rank, step);
        const auto weight = static_cast<float>(share);
        for (const Range range : ranges)
            for (int64_t i = range.first; i < range.first + range.size; ++i)
                mine[i] = share > 0.0 ? values[i] * weight : 0.0f;
        own.parts[step & 1].terms = share > 0.0 ? scaled(terms, share) : Terms{};
        own.sums.store(step + 1, std::memory_order_release);
        terms = {};
        for (int64_t other = ranks_.rank % networks_; other < ranks_.size; other += networks_) {
            wait_for(other, desk(other).sums, step);
            const float* theirs = gradient_place(other, step);
            const bool is_first = other < networks_;
            for (const Range range : ranges)
                for (int64_t i = range.first; i < range.first + range.size; ++i)
                    values[i] = is_first ? theirs[i] : values[i] + theirs[i];
            add_terms(desk(other).parts[step & 1].terms, terms);
        }
    }

    // Returns the sum over the networks of a `value` that all ranks of a network have alike; adds up their terms, too.
    double of_all(double value, Terms& terms) {
        Desk& own = desk(ranks_.rank);
        const int64_t step = own.exchanges.load(std::memory_order_relaxed);
        own.wholes[step & 1] = {terms, value};
        own.exchanges.store(step + 1, std::memory_order_release);
        for (int64_t other = 0; other < ranks_.size; ++other) wait_for(other, desk(other).exchanges, step);
        double total = 0.0;
        terms = {};
        for (int64_t first = 0; first < networks_; ++first) {
            total += desk(first).wholes[step & 1].value;
            add_terms(desk(first).wholes[step & 1].terms, terms);
        }
        return total;
    }

    // All ranks have the same terms, and so find the same.
    bool tells() const { return true; }
    int agreed(int found) { return found; }

    // Waits until all ranks are here.
    void meet() {
        const int64_t step = arrive();
        for (int64_t other = 0; other < ranks_.size; ++other) wait_for(other, desk(other).exchanges, step);
    }

    // Tells the others that this rank is here; returns for which time it is.
    int64_t arrive() {
        return desk(ranks_.rank).exchanges.fetch_add(1, std::memory_order_release);
    }

    // Waits for so long until all ranks are here for that time; returns whether they are.
    bool have_arrived(int64_t step, std::chrono::milliseconds patience) {
        const auto last = Clock::now() + patience;
        for (int64_t other = 0; other < ranks_.size; ++other)
            if (!wait_for(other, desk(other).exchanges, step, last)) return false;
        return true;
    }

    // Gives every rank what the others' networks have become: their `ranges` of three `arrays` of all parameters.
    void spread(const std::vector<std::vector<Range>>& ranges, float* const (&arrays)[3]) {
        const bool is_first = ranks_.rank < networks_;
        for (int64_t array = 0; array < SHARED_ARRAYS && is_first; ++array)
            for (const Range range : ranges[network()])
                std::copy_n(arrays[array] + range.first, range.size, shared_array(array) + range.first);
        meet();
        for (size_t other = first_; other < first_ + networks_; ++other)
            for (int64_t array = 0; array < SHARED_ARRAYS && other != network(); ++array)
                for (const Range range : ranges[other])
                    std::copy_n(shared_array(array) + range.first, range.size, arrays[array] + range.first);
    }

  private:
    using Clock = std::chrono::steady_clock;
    static constexpr int SPINS = 4000, YIELDS = 2000, SHARED_ARRAYS = 3;
    static constexpr std::chrono::microseconds NAP{50}, LONG_NAP{1000};  // 1 ms once a rank is late by 100 short ones
    static constexpr size_t LINE = 64;  // bytes: what two ranks write never shares a cache line

    struct alignas(LINE) Told {
        Terms terms;
        double value;
    };

    // What one rank writes and all read.
    struct alignas(LINE) Desk {
        std::atomic<int64_t> exchanges, sums, process;
        Told wholes[2], parts[2];
    };
    static_assert(std::atomic<int64_t>::is_always_lock_free, "it lies in shared memory");

    // How many ranks work on this rank's network.
    int64_t team_size() const {
        return ranks_.size / networks_ + (ranks_.rank % networks_ < ranks_.size % networks_);
    }

    Desk& desk(int64_t rank) const { return static_cast<Desk*>(ranks_.memory)[rank]; }
    float* shared_array(int64_t array) const {
        return reinterpret_cast<float*>(static_cast<Desk*>(ranks_.memory) + ranks_.size) + array * ranks_.floats;
    }
    float* gradient_place(int64_t rank, int64_t step) const {
        return shared_array(SHARED_ARRAYS) + (2 * rank + (step & 1)) * ranks_.floats;
    }

    static Terms scaled(const Terms& of_part, double share) {
        Terms terms = of_part;
        for (double* mean : {&terms.policy, &terms.value, &terms.entropy, &terms.clip_fraction}) *mean *= share;
        return terms;
    }

    static void add_terms(const Terms& more, Terms& terms) {
        terms.policy += more.policy;
        terms.value += more.value;
        terms.entropy += more.entropy;
        terms.clip_fraction += more.clip_fraction;
        terms.kl_sum += more.kl_sum;
        terms.samples += more.samples;
    }

    // Returns whether the other rank has come that far, false only after `last`.
    bool wait_for(int64_t other, const std::atomic<int64_t>& steps, int64_t step,
                  Clock::time_point last = Clock::time_point::max()) {
        for (int64_t tries = 0; steps.load(std::memory_order_acquire) <= step; ++tries) {
            if (tries < SPINS) continue;
            if (tries < SPINS + YIELDS) {
                std::this_thread::yield();
                continue;
            }
            if (!is_there(desk(other).process.load(std::memory_order_acquire))) {
                if (steps.load(std::memory_order_acquire) > step) return true;  // it may have ended after its last step
                throw RankGone{};
            }
            if (Clock::now() > last) return false;
            std::this_thread::sleep_for(tries < SPINS + YIELDS + 100 ? NAP : LONG_NAP);
        }
        return true;
    }

    // Whether a process still runs. One that has ended, and whose parent has not asked how, is a zombie until then.
    static bool is_there(int64_t process) {
        if (process == 0) return true;  // has not entered yet
        if (kill(static_cast<pid_t>(process), 0) != 0 && errno == ESRCH) return false;
        char path[64], state = 'R';
        std::snprintf(path, sizeof(path), "/proc/%lld/stat", static_cast<long long>(process));
        if (std::FILE* file = std::fopen(path, "r")) {
            if (std::fscanf(file, "%*d (%*[^)]) %c", &state) != 1) state = 'R';
            std::fclose(file);
        }
        return state != 'Z' && state != 'X';
    }

    const Ranks ranks_;
    size_t first_;
    int64_t networks_;
};

}  // namespace ppolab
