// parallel_for: tasks 0..num_tasks-1 over a team of threads, each task run once, in no fixed order.
// Threads come from OpenMP (torch's own libgomp, whose team is already warm) or, where OpenMP is missing and
// in builds that watch synchronisation with ThreadSanitizer, from std::thread. An exception in a task is
// rethrown here.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <exception>
#include <mutex>

#if defined(PYHBT_THREADS_STD)
#include <thread>
#include <vector>
#endif

namespace pyhbt {

// Threads worth waking for an amount of work: waking and joining one costs as much as some 4 million flops,
// and far more on a machine whose cores are busy. Results never depend on the number.
inline int worthwhile_threads(int threads, double flops) {
  constexpr double kFlopsPerThread = 4e6;
  return std::max(1, static_cast<int>(std::min<double>(threads, flops / kFlopsPerThread)));
}

template <typename Body>
void parallel_for(int threads, int64_t num_tasks, const Body& body) {
  const int team = static_cast<int>(std::min<int64_t>(threads, num_tasks));
  if (team <= 1) {
    for (int64_t task = 0; task < num_tasks; ++task) body(task);
    return;
  }
  std::atomic<int64_t> next{0};
  std::exception_ptr failure;
  std::mutex failure_mutex;
  const auto work = [&]() {
    try {
      for (int64_t task = next.fetch_add(1); task < num_tasks; task = next.fetch_add(1)) body(task);
    } catch (...) {
      next.store(num_tasks);
      const std::lock_guard<std::mutex> lock(failure_mutex);
      if (!failure) failure = std::current_exception();
    }
  };
#if defined(PYHBT_THREADS_STD)
  std::vector<std::thread> workers;
  for (int i = 1; i < team; ++i) workers.emplace_back(work);
  work();
  for (std::thread& worker : workers) worker.join();
#else
#pragma omp parallel num_threads(team)
  work();
#endif
  if (failure) std::rethrow_exception(failure);
}

}  // namespace pyhbt
