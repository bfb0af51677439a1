// parallel_for: tasks 0..num_tasks-1 over a team of threads, each task run once, in no fixed order.
// An exception in a task is rethrown here.
// Threads come from OpenMP (torch's own libgomp, whose team is already warm) or, where OpenMP is missing and
// in builds that watch synchronisation with ThreadSanitizer, from std::thread.
// Every thread begins with its own share of consecutive tasks and then helps the others. Phases over the same
// blocks thus find a block in the cache of the core that wrote it, which matters where cores share none.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>

#if defined(PYHBT_THREADS_STD)
#include <thread>
#include <vector>
#else
#include <omp.h>
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
  struct alignas(64) Share {
    std::atomic<int64_t> next;
    int64_t end;
  };
  const std::unique_ptr<Share[]> shares(new Share[static_cast<size_t>(team)]);
  for (int t = 0; t < team; ++t) {
    shares[static_cast<size_t>(t)].next.store(num_tasks * t / team, std::memory_order_relaxed);
    shares[static_cast<size_t>(t)].end = num_tasks * (t + 1) / team;
  }
  std::exception_ptr failure;
  std::mutex failure_mutex;
  const auto work = [&](int thread) {
    try {
      for (int t = 0; t < team; ++t) {
        Share& share = shares[static_cast<size_t>((thread + t) % team)];
        for (int64_t task = share.next.fetch_add(1); task < share.end; task = share.next.fetch_add(1))
          body(task);
      }
    } catch (...) {
      for (int t = 0; t < team; ++t) shares[static_cast<size_t>(t)].next.store(num_tasks);
      const std::lock_guard<std::mutex> lock(failure_mutex);
      if (!failure) failure = std::current_exception();
    }
  };
#if defined(PYHBT_THREADS_STD)
  std::vector<std::thread> helpers;
  for (int t = 1; t < team; ++t) helpers.emplace_back(work, t);
  work(0);
  for (std::thread& helper : helpers) helper.join();
#else
#pragma omp parallel num_threads(team)
  work(omp_get_thread_num());
#endif
  if (failure) std::rethrow_exception(failure);
}

}  // namespace pyhbt
