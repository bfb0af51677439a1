// What one thread may count on of another's memory, by fences and atomics, told to ThreadSanitizer.
//   Fences are sequentially consistent, as CUDA's are. Where a fence X comes before an atomic A, an atomic B of
//   the same address reads A's value or a later one, and a fence Y comes after B, then what was before X
//   happens before what is after Y. "Before" and "after" are program order and barriers: the thread of the fence
//   need not be that of the atomic. Between threads of different blocks both fences must be device-wide.
//   Nothing else orders: not what lies between fence and atomic, and no atomic by itself.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <utility>
#include <vector>

#include "fiber.h"

namespace emulator {

enum Scope { kBlock, kDevice };
constexpr Scope kScopes[] = {kBlock, kDevice};

#if defined(__SANITIZE_THREAD__)

// What was known at a fence, or at several: ThreadSanitizer keeps it under the address. Never changed, and kept
// while the launch runs.
struct alignas(8) Known {
  char place;
};
using Clock = Known*;
using Clocks = std::array<Clock, 2>;  // by scope

// A thread's part.
struct Order {
  Clocks fenced{};    // at the fences before now, of this thread and of those it has met at barriers
  Clocks observed{};  // fences that atomics before now have read of: to be counted on after the next fence
};

class Fences {
 public:
  static constexpr bool kKept = true;

  // The running fiber lends its place to one that knows what the host knows, for clocks to be joined.
  void join_on(Fiber& running, Fiber& host) {
    running_ = &running;
    host_ = &host;
  }

  // To be called outside Unwatched, since the caller's clock is what counts.
  void fence(Order& order, Scope scope) {
    Clocks observed{};
    Clock known;
    {
      const Unwatched unwatched;
      known = &known_.emplace_back();
      for (int each = 0; each <= scope; ++each) {
        observed[each] = order.observed[each];
        order.observed[each] = nullptr;
        order.fenced[each] = known;
      }
    }
    for (Clock clock : observed)
      if (clock != nullptr) acquire(clock);
    release(known);
  }

  void atomic(Order& order, const void* place, uint64_t block) {
    const auto found = published_.find(place);
    if (found == published_.end() && order.fenced[kBlock] == nullptr) return;
    Published& published = found == published_.end() ? published_[place] : found->second;
    if (published.block != block) published.clocks[kBlock] = nullptr;
    published.block = block;
    for (const Scope each : kScopes) {
      published.clocks[each] = joined({published.clocks[each], order.fenced[each]});
      order.observed[each] = joined({order.observed[each], published.clocks[each]});
    }
  }

  // What threads that meet at a barrier know of fences, they all know after it.
  void meet(const std::vector<Order*>& orders) {
    for (const auto part : {&Order::fenced, &Order::observed}) {
      for (const Scope each : kScopes) {
        std::vector<Clock> clocks;
        for (const Order* order : orders) clocks.push_back((order->*part)[each]);
        const Clock all = joined(std::move(clocks));
        for (Order* order : orders) (order->*part)[each] = all;
      }
    }
  }

  // Memory that comes to life again elsewhere has no history.
  void forget(const char* memory, size_t bytes) {
    published_.erase(published_.lower_bound(memory), published_.lower_bound(memory + bytes));
  }
  void forget_all() {
    published_.clear();
    known_.clear();
  }

 private:
  struct Published {
    Clocks clocks{};
    uint64_t block = 0;  // whose threads clocks[kBlock] serves
  };

  Clock joined(std::vector<Clock> clocks) {
    std::sort(clocks.begin(), clocks.end());
    clocks.erase(std::unique(clocks.begin(), clocks.end()), clocks.end());
    if (clocks.front() == nullptr) clocks.erase(clocks.begin());
    if (clocks.empty()) return nullptr;
    if (clocks.size() == 1) return clocks.front();
    const Clock all = &known_.emplace_back();
    const std::vector<void*> parts(clocks.begin(), clocks.end());
    running_->join_clocks(*host_, parts.data(), parts.size(), all);
    return all;
  }

  Fiber *running_ = nullptr, *host_ = nullptr;
  std::map<const void*, Published> published_;
  std::deque<Known> known_;
};

#else

struct Order {};
class Fences {
 public:
  static constexpr bool kKept = false;
  void join_on(Fiber&, Fiber&) {}
  void fence(Order&, Scope) {}
  void atomic(Order&, const void*, uint64_t) {}
  void meet(const std::vector<Order*>&) {}
  void forget(const char*, size_t) {}
  void forget_all() {}
};

#endif

}  // namespace emulator
