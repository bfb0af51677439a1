// Cooperative threads of control: each has a stack, and one runs until it switches to another.
//   On x86-64 a switch is some twenty instructions; elsewhere ucontext does it, with a system call each.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <deque>

#include "sanitizers.h"

#if !defined(__x86_64__) || defined(EMULATOR_UCONTEXT)
#define EMULATOR_PORTABLE_FIBERS
#include <ucontext.h>
#endif

#if !defined(EMULATOR_PORTABLE_FIBERS)
extern "C" void emulator_switch(void** saved_stack, void* stack);
asm(R"(
.text
.weak emulator_switch
.type emulator_switch,@function
emulator_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size emulator_switch, .-emulator_switch
)");
#endif

namespace emulator {

class Fiber {
 public:
  Fiber() = default;
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;
  ~Fiber() {
    if (stack_ != nullptr) munmap(stack_ - kGuard, kStack + kGuard);
#if defined(__SANITIZE_THREAD__)
    if (owned_ && tsan_ != nullptr) __tsan_destroy_fiber(tsan_);
#endif
  }

  // Makes the next switch to this fiber begin in entry(), on an empty stack.
  void start_at(void (*entry)()) {
#if defined(__SANITIZE_THREAD__)  // a new stack and identity: ThreadSanitizer forgets the previous block
    if (stack_ != nullptr) munmap(stack_ - kGuard, kStack + kGuard);
    stack_ = nullptr;
    if (owned_ && tsan_ != nullptr) retire(tsan_);
    tsan_ = __tsan_create_fiber(0);
    owned_ = true;
#endif
    if (stack_ == nullptr) {
      const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
      void* memory = mmap(nullptr, kStack + kGuard, PROT_READ | PROT_WRITE, flags, -1, 0);
      if (memory == MAP_FAILED) {
        std::perror("emulator: no memory for a stack");
        std::exit(70);
      }
      mprotect(memory, kGuard, PROT_NONE);
      stack_ = static_cast<char*>(memory) + kGuard;
    }
    bottom_ = stack_;
    size_ = kStack;
    allow(stack_, kStack);
    fake_stack_ = nullptr;
#if defined(EMULATOR_PORTABLE_FIBERS)
    getcontext(&context_);
    context_.uc_stack.ss_sp = stack_;
    context_.uc_stack.ss_size = kStack;
    context_.uc_link = nullptr;
    makecontext(&context_, entry, 0);
#else
    void** top = reinterpret_cast<void**>(stack_ + kStack) - 3;  // 16-byte aligned at the entry
    *--top = reinterpret_cast<void*>(entry);
    for (int saved = 0; saved < 6; ++saved) *--top = nullptr;
    top_ = top;
#endif
  }

  // To be called first in the thread that starts the others.
  void adopt_current() {
#if defined(__SANITIZE_THREAD__)
    tsan_ = __tsan_get_current_fiber();
#endif
  }

  // Leaves this fiber, which is running, for another; returns when it is switched to again.
  EMULATOR_UNWATCHED void switch_to(Fiber& next, [[maybe_unused]] bool for_ever = false) {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(for_ever ? nullptr : &fake_stack_, next.bottom_, next.size_);
#endif
#if defined(__SANITIZE_THREAD__)
    __tsan_switch_to_fiber(next.tsan_, __tsan_switch_to_fiber_no_sync);
#endif
#if defined(EMULATOR_PORTABLE_FIBERS)
    swapcontext(&context_, &next.context_);
#else
    emulator_switch(&top_, next.top_);
#endif
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(fake_stack_, nullptr, nullptr);
#endif
  }

  // Makes `all` a clock of ThreadSanitizer's that knows what some clocks know, and what the host knows. This
  // fiber, which is running, adds nothing: another takes its place, made by the host, since a new one knows
  // what its maker knows.
  EMULATOR_UNWATCHED void join_clocks([[maybe_unused]] Fiber& host, [[maybe_unused]] void* const* clocks,
                                      [[maybe_unused]] size_t count, [[maybe_unused]] void* all) {
#if defined(__SANITIZE_THREAD__)
    __tsan_switch_to_fiber(host.tsan_, __tsan_switch_to_fiber_no_sync);
    void* carrier = __tsan_create_fiber(0);
    __tsan_switch_to_fiber(carrier, __tsan_switch_to_fiber_no_sync);
    for (size_t at = 0; at < count; ++at) __tsan_acquire(clocks[at]);
    __tsan_release(all);
    __tsan_switch_to_fiber(tsan_, __tsan_switch_to_fiber_no_sync);
    retire(carrier);
#endif
  }

  // After a launch, when its threads come before all that follows.
  static void forget_retired() {
#if defined(__SANITIZE_THREAD__)
    for (; !retired_.empty(); retired_.pop_front()) __tsan_destroy_fiber(retired_.front());
#endif
  }

  // First thing in entry(): AddressSanitizer learns where the stack that was left lies.
  static void arrived_from([[maybe_unused]] Fiber& starter) {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(nullptr, const_cast<const void**>(&starter.bottom_), &starter.size_);
#endif
  }

 private:
  static constexpr size_t kGuard = 4096;
#if defined(__SANITIZE_ADDRESS__)
  static constexpr size_t kStack = 256 << 10;
#else
  static constexpr size_t kStack = 64 << 10;
#endif

#if defined(EMULATOR_PORTABLE_FIBERS)
  ucontext_t context_;
#else
  void* top_ = nullptr;
#endif
  char* stack_ = nullptr;
  void* bottom_ = nullptr;
  size_t size_ = 0;
  void* fake_stack_ = nullptr;
  void* tsan_ = nullptr;
  bool owned_ = false;

#if defined(__SANITIZE_THREAD__)
  // ThreadSanitizer gives the number of one that is gone to a new one, and takes what comes before the new one
  // to come after the old: hidden edges between blocks. So none goes while its launch runs, up to what fits.
  static constexpr size_t kMostRetired = 6000;
  static inline std::deque<void*> retired_;
  EMULATOR_UNWATCHED static void retire(void* tsan) {
    const Unwatched unwatched;
    retired_.push_back(tsan);
    if (retired_.size() <= kMostRetired) return;
    __tsan_destroy_fiber(retired_.front());
    retired_.pop_front();
  }
#endif
};

}  // namespace emulator
