// One block of CUDA threads at a time, each thread a fiber. Threads switch at barriers, warp operations and
// atomics only, in an order that is fixed or drawn from a seed.
//   AddressSanitizer checks memory, ThreadSanitizer races: happens-before edges come from __syncthreads,
//   __syncwarp and fences with atomics (fences.h), and from nothing else. Shared memory is filled with 0xFF
//   bytes (NaN, -1). Misuse of barriers and masks, and deadlock, end the process with a report (exit 77).
//   EMULATOR_ORDER = forward | reverse | random (default), EMULATOR_SEED = number.
#pragma once

#include <unistd.h>

#include <algorithm>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "fences.h"
#include "fiber.h"

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};
inline uint3 threadIdx{}, blockIdx{};
inline dim3 blockDim, gridDim;

namespace emulator {

constexpr int kWarp = 32, kMostThreads = 1024;
constexpr size_t kMostShared = 48 << 10;

enum class State : uint8_t { kReady, kAtBarrier, kInWarp, kDone };

struct Thread {
  Fiber fiber;
  uint3 index{};
  int id = 0;
  State state = State::kDone;
  Order order;
  const char* waits_in = "";  // for reports
  long line = 0;
  uint32_t mask = 0;
  const void* given = nullptr;  // to the warp operation under way
  void* taken = nullptr;

  int lane() const { return id % kWarp; }
  int warp() const { return id / kWarp; }
};

// The lanes of one mask that have reached a warp operation. Masks of one warp that are in use at the same
// time share no lane, so the lowest lane tells them apart.
struct Meeting {
  uint32_t mask = 0, arrived = 0;
  const char* operation = "";
  long line = 0;
  int phase = 0;
  char edge[2];  // where ThreadSanitizer's happens-before edges hang; phases alternate
};

struct Meetings {
  Meeting of_lanes[kMostThreads];  // the lowest of a mask
  char barrier_edges[2];
};

class Machine {
 public:
  template <typename Body>
  void launch(dim3 grid, dim3 block, Body body) {
    const std::lock_guard<std::mutex> one_launch(mutex_);
    ++launches_;
    check_shape(grid, block);
    read_environment();
    release(&edges_[0]);
    {
      const Unwatched unwatched;
      body_ = body;
      fences_.forget_all();
      gridDim = grid;
      blockDim = block;
      starter_.adopt_current();
      const int threads = static_cast<int>(block.x * block.y * block.z);
      while (static_cast<int>(threads_.size()) < threads) threads_.push_back(std::make_unique<Thread>());
      for (const uint64_t number : block_order(uint64_t{grid.x} * grid.y * grid.z)) {
        blockIdx = {static_cast<unsigned>(number % grid.x), static_cast<unsigned>(number / grid.x % grid.y),
                    static_cast<unsigned>(number / grid.x / grid.y)};
        run_block(threads);
      }
      body_ = nullptr;
    }
    acquire(&edges_[1]);
    Fiber::forget_retired();
  }

  // Since the program began.
  uint64_t launches() {
    const std::lock_guard<std::mutex> one_launch(mutex_);
    return launches_;
  }

  // Shared memory of this block under a key: of its own for each array, so that no overrun hits another.
  void* shared(const void* key, size_t bytes) {
    const Unwatched unwatched;
    for (const Array& array : arrays_)
      if (array.key == key) return array.memory;
    shared_bytes_ += bytes;
    if (shared_bytes_ > kMostShared)
      fail("%zu bytes of shared memory, expected at most 48 KiB", shared_bytes_);
    const size_t room = (bytes + 127) / 128 * 128;
    char* memory = static_cast<char*>(std::aligned_alloc(128, room));
    std::memset(memory, 0xFF, room);
    if (room > bytes) forbid(memory + bytes, room - bytes);
    arrays_.push_back({key, memory, room});
    return memory;
  }

  void barrier(long line) {
    char* edge;
    {
      const Unwatched unwatched;
      edge = &meetings_->barrier_edges[barrier_phase_];
    }
    release(edge);
    {
      const Unwatched unwatched;
      wait(State::kAtBarrier, "__syncthreads", line, 0);
      ++at_barrier_;
      open_barrier_if_full();
      leave();
    }
    acquire(edge);
  }

  // A warp operation: every lane of the mask gives a value and takes one; the last to arrive computes all.
  //   combine(givens, takens): arrays of 32 pointers, null for lanes outside the mask.
  template <typename In, typename Out, typename Combine>
  void meet(const char* operation, long line, uint32_t mask, const In* given, Out* taken, Combine combine,
            bool orders_memory = false) {
    char* edge;
    {
      const Unwatched unwatched;
      Meeting& meeting = arrive(operation, line, mask);
      current_->given = given;
      current_->taken = taken;
      edge = &meeting.edge[meeting.phase];
    }
    if (orders_memory) release(edge);
    {
      const Unwatched unwatched;
      Meeting& meeting = meeting_of(mask);
      if (meeting.arrived == mask) {
        const In* givens[kWarp] = {};
        Out* takens[kWarp] = {};
        for_lanes(mask, [&](int lane, Thread& thread) {
          givens[lane] = static_cast<const In*>(thread.given);
          takens[lane] = static_cast<Out*>(thread.taken);
        });
        combine(givens, takens);
        meeting.arrived = 0;
        meeting.phase ^= 1;
        if (orders_memory)
          order_all([&](auto each) { for_lanes(mask, [&](int, Thread& thread) { each(thread); }); });
        for_lanes(mask, [&](int, Thread& thread) {
          if (&thread != current_) make_ready(thread);
        });
        if (random_ && draw() % 4 == 0) step_aside();
      } else {
        wait(State::kInWarp, operation, line, mask);
        leave();
      }
    }
    if (orders_memory) acquire(edge);
  }

  // Another thread may run before the next instruction of this one.
  void maybe_preempt() {
    const Unwatched unwatched;
    if (random_ && draw() % 2 == 0) step_aside();
  }

  void fence(Scope scope) {
    Thread* thread;
    {
      const Unwatched unwatched;
      thread = current_;
    }
    fences_.fence(thread->order, scope);
  }

  // Of the running thread, before its access.
  void order_by_atomic(const void* place) {
    const Unwatched unwatched;
    fences_.join_on(current_->fiber, starter_);
    fences_.atomic(current_->order, place,
                   blockIdx.x + uint64_t{gridDim.x} * (blockIdx.y + uint64_t{gridDim.y} * blockIdx.z));
  }

  [[noreturn]] void fail(const char* format, ...) __attribute__((format(printf, 2, 3))) {
    std::fprintf(stderr, "emulator: block (%u, %u, %u), thread %d: ", blockIdx.x, blockIdx.y, blockIdx.z,
                 current_ == nullptr ? -1 : current_->id);
    std::va_list arguments;
    va_start(arguments, format);
    std::vfprintf(stderr, format, arguments);
    va_end(arguments);
    std::fputc('\n', stderr);
    std::fflush(stderr);
    _exit(77);
  }

 private:
  struct Array {
    const void* key;
    char* memory;
    size_t room;
  };

  void check_shape(dim3 grid, dim3 block) {
    const uint64_t threads = uint64_t{block.x} * block.y * block.z;
    if (threads < 1 || threads > kMostThreads)
      fail("%llu threads a block, expected 1 to 1024", static_cast<unsigned long long>(threads));
    if (grid.x < 1 || grid.y < 1 || grid.z < 1 || grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535)
      fail("a grid of (%u, %u, %u) blocks cannot be launched", grid.x, grid.y, grid.z);
  }

  void read_environment() {
    const char* order = std::getenv("EMULATOR_ORDER");
    const std::string wanted = order == nullptr ? "random" : order;
    if (wanted != "random" && wanted != "forward" && wanted != "reverse")
      fail("EMULATOR_ORDER: found '%s', expected forward, reverse or random", order);
    random_ = wanted == "random";
    reverse_ = wanted == "reverse";
    const char* seed = std::getenv("EMULATOR_SEED");
    state_ = 0x9e3779b97f4a7c15u ^
             ((seed == nullptr ? 0 : std::strtoull(seed, nullptr, 10)) * 0xd1342543de82ef95u);
    if (state_ == 0) state_ = 1;
  }

  std::vector<uint64_t> block_order(uint64_t blocks) {
    std::vector<uint64_t> order(blocks);
    for (uint64_t i = 0; i < blocks; ++i) order[i] = reverse_ ? blocks - 1 - i : i;
    for (uint64_t i = blocks; random_ && i > 1; --i) std::swap(order[i - 1], order[draw() % i]);
    return order;
  }

  uint32_t draw() {  // xorshift64
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    state_ ^= state_ << 17;
    return static_cast<uint32_t>(state_ >> 32);
  }

  void run_block(int count) {
    live_ = count;
    exited_ = at_barrier_ = 0;
    ready_.clear();
    meetings_ = std::make_unique<Meetings>();  // fresh: blocks are not ordered among one another
    barrier_phase_ = 0;
    for (int id = 0; id < count; ++id) {
      Thread& thread = *threads_[static_cast<size_t>(id)];
      thread.id = id;
      const unsigned at = static_cast<unsigned>(id);
      thread.index = {at % blockDim.x, at / blockDim.x % blockDim.y, at / (blockDim.x * blockDim.y)};
      thread.order = Order{};
      thread.fiber.start_at(&Machine::run_thread);
      make_ready(thread);
    }
    while (live_ > 0) {
      if (ready_.empty()) report_deadlock();
      const size_t place = random_ ? draw() % ready_.size() : reverse_ ? ready_.size() - 1 : 0;
      Thread& next = *threads_[static_cast<size_t>(ready_[place])];
      ready_.erase(ready_.begin() + static_cast<std::ptrdiff_t>(place));
      current_ = &next;
      threadIdx = next.index;
      starter_.switch_to(next.fiber);
      current_ = nullptr;
    }
    for (const Array& array : arrays_) {
      fences_.forget(array.memory, array.room);
      allow(array.memory, array.room);
      std::free(array.memory);
    }
    arrays_.clear();
    shared_bytes_ = 0;
  }

  static void run_thread();

  void leave() { current_->fiber.switch_to(starter_); }

  void make_ready(Thread& thread) {
    thread.state = State::kReady;
    ready_.push_back(thread.id);
  }

  void step_aside() {
    make_ready(*current_);
    leave();
  }

  void wait(State state, const char* operation, long line, uint32_t mask) {
    current_->state = state;
    current_->waits_in = operation;
    current_->line = line;
    current_->mask = mask;
  }

  void open_barrier_if_full() {
    if (at_barrier_ == 0 || at_barrier_ < live_) return;
    const long line = current_ == nullptr ? 0 : current_->line;
    if (exited_ > 0)
      fail("__syncthreads in line %ld after %d threads of the block had returned", line, exited_);
    for (const auto& thread : threads_) {
      if (thread->state == State::kAtBarrier && thread->line != line)
        fail("threads of one block wait in __syncthreads of lines %ld and %ld", line, thread->line);
    }
    at_barrier_ = 0;
    barrier_phase_ ^= 1;
    order_all([&](auto each) {
      for (const auto& thread : threads_)
        if (thread->state == State::kAtBarrier) each(*thread);
    });
    for (const auto& thread : threads_)
      if (thread->state == State::kAtBarrier) make_ready(*thread);
  }

  // What threads that meet know of fences, they all know now.
  template <typename ForEach>
  void order_all([[maybe_unused]] ForEach for_each) {
    if constexpr (Fences::kKept) {
      std::vector<Order*> orders;
      for_each([&](Thread& thread) { orders.push_back(&thread.order); });
      fences_.join_on(current_->fiber, starter_);
      fences_.meet(orders);
    }
  }

  Meeting& meeting_of(uint32_t mask) {
    return meetings_->of_lanes[current_->warp() * kWarp + __builtin_ctz(mask)];
  }

  Meeting& arrive(const char* operation, long line, uint32_t mask) {
    if ((mask >> current_->lane() & 1) == 0)
      fail("%s in line %ld: lane %d is not in its own mask %08x", operation, line, current_->lane(), mask);
    Meeting& meeting = meeting_of(mask);
    if (meeting.arrived == 0) {
      meeting.mask = mask;
      meeting.operation = operation;
      meeting.line = line;
    } else if (meeting.mask != mask || std::strcmp(meeting.operation, operation) != 0) {
      fail("%s in line %ld with mask %08x meets %s in line %ld with mask %08x", operation, line, mask,
           meeting.operation, meeting.line, meeting.mask);
    }
    meeting.arrived |= 1u << current_->lane();
    return meeting;
  }

  template <typename Each>
  void for_lanes(uint32_t mask, Each each) {
    const int first = current_->warp() * kWarp;
    for (uint32_t rest = mask; rest != 0; rest &= rest - 1) {
      const int lane = __builtin_ctz(rest);
      each(lane, *threads_[static_cast<size_t>(first + lane)]);
    }
  }

  [[noreturn]] void report_deadlock() {
    std::fprintf(stderr, "emulator: deadlock in block (%u, %u, %u); %d threads have returned\n", blockIdx.x,
                 blockIdx.y, blockIdx.z, exited_);
    int shown = 0;
    for (const auto& thread : threads_) {
      if (thread->state != State::kAtBarrier && thread->state != State::kInWarp) continue;
      if (shown++ < 8)
        std::fprintf(stderr, "  thread %d waits in %s, line %ld, mask %08x\n", thread->id, thread->waits_in,
                     thread->line, thread->mask);
    }
    std::fflush(stderr);
    _exit(77);
  }

  uint64_t launches_ = 0;
  std::mutex mutex_;
  std::function<void()> body_;
  Fiber starter_;
  std::vector<std::unique_ptr<Thread>> threads_;
  std::unique_ptr<Meetings> meetings_;
  std::vector<int> ready_;
  std::vector<Array> arrays_;
  size_t shared_bytes_ = 0;
  Fences fences_;
  Thread* current_ = nullptr;
  int live_ = 0, exited_ = 0, at_barrier_ = 0, barrier_phase_ = 0;
  bool random_ = true, reverse_ = false;
  uint64_t state_ = 1;
  char edges_[2];  // host to kernel, kernel to host
};

inline Machine machine;

inline void Machine::run_thread() {
  Fiber::arrived_from(machine.starter_);
  acquire(&machine.edges_[0]);
  machine.body_();
  release(&machine.edges_[1]);
  Fiber* own;
  {
    const Unwatched unwatched;
    Thread& thread = *machine.current_;
    thread.state = State::kDone;
    --machine.live_;
    ++machine.exited_;
    machine
        .open_barrier_if_full();  // the rest may wait for one that will never come: a mistake, and reported
    own = &thread.fiber;
  }
  own->switch_to(machine.starter_, true);
  std::abort();
}

}  // namespace emulator
