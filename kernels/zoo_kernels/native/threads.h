// Threads that share the work of a layer, and their memory.

#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include <pthread.h>
#include <sched.h>
#include <unistd.h>

namespace zoo {

// Waits for a moment, and now and then lets another thread have the core.
inline void Pause(unsigned turn) {
  if (turn % 256 == 255) sched_yield();
  else __builtin_ia32_pause();
}

// How many processors the container's quota allows; a large number where there is none.
inline int QuotaOfProcessors() {
  std::ifstream file("/sys/fs/cgroup/cpu.max");
  double quota = 0, period = 0;
  if (!(file >> quota >> period) || period <= 0) return 1 << 20;  // "max", or no such file
  return std::max(1, static_cast<int>(std::ceil(quota / period)));
}

// Threads that run the tasks of one parallel loop at a time, together with the loop's caller.
//
// A worker that has nothing to do spins for a while, since a model's layers follow each other
// closely, and then sleeps. Late workers find the loop closed: nobody waits for them to wake up.
class Pool {
 public:
  static Pool& Get() {
    static Pool* pool = new Pool;  // never destroyed: its threads may still run at exit
    return *pool;
  }

  int threads() const { return static_cast<int>(workers_.size()) + 1; }

  template <typename F>
  void For(int tasks, const F& run) {
    // A forked process has none of the workers.
    if (tasks <= 1 || workers_.empty() || getpid() != process_) {
      for (int i = 0; i < tasks; ++i) run(i);
      return;
    }
    std::lock_guard<std::mutex> lock(mutex_);
    run_ = [](const void* f, int task) { (*static_cast<const F*>(f))(task); };
    context_ = &run;
    tasks_ = tasks;
    next_.store(0, std::memory_order_relaxed);
    LeaveCallersCpu();
    state_.store(kOpen, std::memory_order_release);
    epoch_.fetch_add(1, std::memory_order_release);
    epoch_.notify_all();
    RunTasks();
    state_.fetch_and(~kOpen, std::memory_order_acq_rel);
    for (unsigned i = 0; state_.load(std::memory_order_acquire) != 0; ++i) Pause(i);
  }

 private:
  static constexpr uint32_t kOpen = 1u << 31;
  using Clock = std::chrono::steady_clock;
  static constexpr std::chrono::microseconds kSpinTime{800};

  Pool() {
    int count = static_cast<int>(std::thread::hardware_concurrency());
    CPU_ZERO(&allowed_);
    if (sched_getaffinity(0, sizeof(allowed_), &allowed_) == 0) count = CPU_COUNT(&allowed_);
    count = std::min(count, QuotaOfProcessors());
    if (const char* text = std::getenv("ZOO_NATIVE_THREADS")) count = std::atoi(text);
    count = std::clamp(count, 1, 1024);
    try {
      for (int i = 1; i < count; ++i) workers_.emplace_back([this] { Work(); });
    } catch (const std::system_error&) {  // a limit of threads: those that there are will do
    }
    for (auto& worker : workers_) {
      handles_.push_back(worker.native_handle());
      worker.detach();
    }
  }

  // Keeps the workers off the caller's core: some schedulers wake a thread where it was woken from,
  // and it would then wait for the caller while another core is idle.
  void LeaveCallersCpu() {
    const int cpu = sched_getcpu();
    if (cpu < 0 || cpu == callers_cpu_ || !CPU_ISSET(cpu, &allowed_)) return;
    callers_cpu_ = cpu;
    cpu_set_t others = allowed_;
    CPU_CLR(cpu, &others);
    for (pthread_t worker : handles_) pthread_setaffinity_np(worker, sizeof(others), &others);
  }

  void RunTasks() {
    for (int i; (i = next_.fetch_add(1, std::memory_order_relaxed)) < tasks_;) run_(context_, i);
  }

  void Work() {
    uint32_t seen = 0;
    for (;;) {
      uint32_t epoch = epoch_.load(std::memory_order_acquire);
      const auto end = Clock::now() + kSpinTime;
      for (unsigned i = 0; epoch == seen && (i % 256 || Clock::now() < end); ++i) {
        Pause(i);
        epoch = epoch_.load(std::memory_order_acquire);
      }
      if (epoch == seen) {
        epoch_.wait(seen, std::memory_order_acquire);
        continue;
      }
      seen = epoch;
      uint32_t state = state_.load(std::memory_order_acquire);
      while ((state & kOpen) && !state_.compare_exchange_weak(state, state + 1,
                                                             std::memory_order_acq_rel)) {
      }
      if (!(state & kOpen)) continue;
      RunTasks();
      state_.fetch_sub(1, std::memory_order_release);
    }
  }

  const pid_t process_ = getpid();
  std::vector<std::thread> workers_;
  std::mutex mutex_;
  void (*run_)(const void*, int) = nullptr;
  const void* context_ = nullptr;
  int tasks_ = 0;
  alignas(64) std::atomic<int> next_{0};
  alignas(64) std::atomic<uint32_t> state_{0};
  alignas(64) std::atomic<uint32_t> epoch_{0};
  cpu_set_t allowed_;
  int callers_cpu_ = -1;
  std::vector<pthread_t> handles_;
};

// Memory of a thread that grows and is kept.
float* Scratch(size_t count) {
  struct Buffer {
    float* data = nullptr;
    size_t size = 0;
    ~Buffer() { std::free(data); }
  };
  thread_local Buffer buffer;
  if (buffer.size < count) {
    std::free(std::exchange(buffer.data, nullptr));
    buffer.size = (count + 1023) / 1024 * 1024;
    buffer.data = static_cast<float*>(std::aligned_alloc(64, buffer.size * sizeof(float)));
    if (!buffer.data) std::abort();  // out of memory, as XLA does
  }
  return buffer.data;
}

}  // namespace zoo
