// Threads that run the phases of a loop together.
//
// A call asks XLA's own thread pool for helpers once, and its own thread works too. No thread waits for a helper that
// has not started, or for work that no thread has taken: the running threads do all the work. A busy pool therefore
// makes a call slower, but never blocks it.
//
// Each thread first takes the items of its own range, so that the weights of these items stay in its cache, and then
// the items that other threads have not taken. Every item increases `done`. A phase is complete when all its items are
// done.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

#include "layout.h"

namespace jax_lstm {

template <typename Work>
class Crew {
 public:
  Crew(int64_t phases, int64_t items, int64_t threads, Work work)
      : phases_(phases), items_(items), ranges_(threads), taken_(threads), work_(work) {}

  // Work as thread number `me` until all phases are complete.
  void take_part(int64_t me) {
    for (int64_t phase = done_.value.load(std::memory_order_acquire) / items_; phase < phases_; ++phase) {
      for (int64_t n = 0; n < ranges_; ++n) work_on((me + n) % ranges_, phase);
      for (int spins = 0; done_.value.load(std::memory_order_acquire) < (phase + 1) * items_; ++spins) pause(spins);
    }
  }

 private:
  struct alignas(64) Counter {  // the only counter in its cache line
    std::atomic<int64_t> value{0};
  };

  void work_on(int64_t range, int64_t phase) {
    const Range own = part(items_, ranges_, range);
    const int64_t count = own.end - own.begin;
    std::atomic<int64_t>& taken = taken_[range].value;  // counted over all phases
    int64_t finished = 0;
    for (int64_t next = taken.load(std::memory_order_relaxed); next < (phase + 1) * count;) {
      if (!taken.compare_exchange_weak(next, next + 1, std::memory_order_relaxed)) continue;
      work_(phase, own.begin + next - phase * count);
      ++finished;
      next = taken.load(std::memory_order_relaxed);
    }
    if (finished) done_.value.fetch_add(finished, std::memory_order_acq_rel);
  }

  static void pause(int spins) {
    if (spins > 4000) return std::this_thread::yield();
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
  }

  const int64_t phases_, items_, ranges_;
  Counter done_;
  std::vector<Counter> taken_;
  Work work_;
};

// Call `work(phase, item)` for all items of all phases, and return when they are complete. `schedule(task)` hands a task
// to another thread.
template <typename Schedule, typename Work>
void run_together(int64_t phases, int64_t items, int64_t threads, Schedule schedule, Work work) {
  if (threads > items) threads = items;
  if (threads <= 1) {
    for (int64_t phase = 0; phase < phases; ++phase)
      for (int64_t item = 0; item < items; ++item) work(phase, item);
    return;
  }
  // A helper may start after the call has returned. It then finds all phases complete.
  const auto crew = std::make_shared<Crew<Work>>(phases, items, threads, work);
  for (int64_t n = 1; n < threads; ++n) schedule([crew, n] { crew->take_part(n); });
  crew->take_part(0);
}

}  // namespace jax_lstm
