// A second thread, kept between calls: to start one takes as long as a gradient step.
#pragma once

#include <unistd.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>

namespace ppolab {

class Helper {
  public:
    // Does both at the same time, the first on this thread; and then also the second, should no core have been free for it.
    // One caller at a time has the thread; another one starts its own.
    static void both(const std::function<void()>& first, const std::function<void()>& second) {
        static std::atomic<bool> taken{false};
        if (taken.exchange(true, std::memory_order_acquire)) {
            std::thread other(second);
            first();
            return other.join();
        }
        Helper& helper = of_this_process();
        helper.begin(second);
        first();
        if (helper.claims(helper.begun_.load())) second();
        else helper.wait();
        taken.store(false, std::memory_order_release);
    }

  private:
    static constexpr int SPINS = 4000;
    static constexpr std::chrono::microseconds PATIENCE{200};  // what Python does between two epochs takes less

    // A thread does not survive a fork, so a forked process has its own. It ends with the process.
    static Helper& of_this_process() {
        static Helper* helper = nullptr;
        static pid_t process = 0;
        if (process != getpid()) {
            helper = new Helper;
            process = getpid();
            std::thread([] { helper->work(); }).detach();
        }
        return *helper;
    }

    void begin(const std::function<void()>& job) {
        job_ = &job;
        begun_.fetch_add(1);
        if (sleeps_.load()) {
            const std::lock_guard<std::mutex> lock(mutex_);
            wake_.notify_one();
        }
    }

    // Whether the caller is the one who does a job.
    bool claims(int64_t job) {
        int64_t last = job - 1;
        return claimed_.compare_exchange_strong(last, job);
    }

    void wait() const {
        for (int spins = 0; done_.load(std::memory_order_acquire) != begun_.load(); ++spins)
            if (spins > SPINS) std::this_thread::yield();
    }

    [[noreturn]] void work() {
        for (int64_t jobs = 1;; ++jobs) {
            const auto last = std::chrono::steady_clock::now() + PATIENCE;
            while (begun_.load() < jobs && std::chrono::steady_clock::now() < last) {}
            if (begun_.load() < jobs) {
                std::unique_lock<std::mutex> lock(mutex_);
                sleeps_.store(true);
                wake_.wait(lock, [&] { return begun_.load() >= jobs; });
                sleeps_.store(false);
            }
            if (!claims(jobs)) continue;
            (*job_)();
            done_.store(jobs, std::memory_order_release);
        }
    }

    const std::function<void()>* job_ = nullptr;
    std::atomic<int64_t> begun_{0}, claimed_{0}, done_{0};
    std::atomic<bool> sleeps_{false};
    std::mutex mutex_;
    std::condition_variable wake_;
};

}  // namespace ppolab
