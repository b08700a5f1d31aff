// Sums over the ranks of one machine, in memory that they share: no message is sent, and the order of ranks alone decides
// the last bit.
#pragma once

#include <signal.h>

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
    void* memory;        // of all ranks: `size` flags, then two places for each; zero at first
    int64_t floats;      // a place holds so many numbers, a multiple of 16, and Terms
    int64_t steps;       // summed so far, the same in all ranks
    const float* shares; // of each minibatch, what this rank has of it; 0: nothing
};

class RankSums {
  public:
    static constexpr int64_t LINE = 64;  // bytes: what two ranks write never shares a cache line

    explicit RankSums(const Ranks& ranks) : ranks_(ranks), memory_(static_cast<char*>(ranks.memory)) {}

    static int64_t bytes(int64_t size, int64_t floats) { return size * (LINE + 2 * place_bytes(floats)); }

    // Writes this rank's number of a process, by which the others see whether it is still there.
    void enter(int64_t process) { flag(ranks_.rank).process.store(process, std::memory_order_release); }

    // `values` in `ranges` become the sum over all ranks of what each has there, times its share of minibatch `batch`; so
    // do the terms, but those that are sums already. Returns false if another rank is gone.
    //
    // A rank may be one step ahead of another, never two: it waits for all before it begins the next. So what it writes
    // in a step lies where nobody reads any more.
    bool add(int64_t batch, const std::vector<Range>& ranges, float* values, Terms& terms) {
        const int64_t step = ranks_.steps + batch;
        const float share = ranks_.shares[batch];
        float* mine = place(ranks_.rank, step);
        for (const Range range : ranges)
            for (int64_t i = range.first; i < range.first + range.size; ++i)
                mine[i] = share > 0.0f ? values[i] * share : 0.0f;
        terms_of(ranks_.rank, step) = {terms.policy * share,        terms.value * share, terms.entropy * share,
                                       terms.clip_fraction * share, terms.kl_sum,        terms.samples, 0.0};
        flag(ranks_.rank).steps.store(step + 1, std::memory_order_release);
        for (int64_t other = 0; other < ranks_.size; ++other)
            if (!wait_for(other, step)) return false;
        for (const Range range : ranges) {
            const float* first = place(0, step);
            std::copy(first + range.first, first + range.first + range.size, values + range.first);
            for (int64_t other = 1; other < ranks_.size; ++other) {
                const float* theirs = place(other, step);
                for (int64_t i = range.first; i < range.first + range.size; ++i) values[i] += theirs[i];
            }
        }
        terms = {};
        for (int64_t other = 0; other < ranks_.size; ++other) {
            const Terms& theirs = terms_of(other, step);
            terms.policy += theirs.policy;
            terms.value += theirs.value;
            terms.entropy += theirs.entropy;
            terms.clip_fraction += theirs.clip_fraction;
            terms.kl_sum += theirs.kl_sum;
            terms.samples += theirs.samples;
        }
        return true;
    }

  private:
    static constexpr int SPINS = 4000, YIELDS = 2000;

    struct Flag {
        std::atomic<int64_t> steps, process;
    };
    static_assert(sizeof(Flag) <= LINE && sizeof(Terms) <= LINE && std::atomic<int64_t>::is_always_lock_free, "it lies in shared memory");

    static int64_t place_bytes(int64_t floats) { return sizeof(float) * floats + LINE; }

    Flag& flag(int64_t rank) { return *reinterpret_cast<Flag*>(memory_ + LINE * rank); }
    float* place(int64_t rank, int64_t step) {
        return reinterpret_cast<float*>(memory_ + LINE * ranks_.size +
                                        (2 * rank + (step & 1)) * place_bytes(ranks_.floats));
    }
    Terms& terms_of(int64_t rank, int64_t step) {
        return *reinterpret_cast<Terms*>(place(rank, step) + ranks_.floats);
    }

    bool wait_for(int64_t other, int64_t step) {
        const auto& steps = flag(other).steps;
        for (int64_t tries = 0; steps.load(std::memory_order_acquire) <= step; ++tries) {
            if (tries < SPINS) continue;
            if (tries < SPINS + YIELDS) {
                std::this_thread::yield();
                continue;
            }
            if (!is_there(flag(other).process.load(std::memory_order_acquire)))
                return steps.load(std::memory_order_acquire) > step;  // it may have ended after its last step
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
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

    const Ranks& ranks_;
    char* memory_;
};

}  // namespace ppolab
