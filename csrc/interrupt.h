// Lets the caller stop a long call: Ctrl-C in Python.
#pragma once

#include <atomic>
#include <chrono>
#include <thread>

namespace pyhbt {

struct Interrupted {};

// Asked on the calling thread some ten times a second; true stops the call. Null: never.
inline std::atomic<bool (*)()> interrupt_check{nullptr};

// One a call; every thread polls it between small pieces of work.
class Interrupt {
 public:
  Interrupt() : caller_(std::this_thread::get_id()), last_(Clock::now()) {}

  // Throws Interrupted once the check has said so.
  void poll() {
    if (stopped_.load(std::memory_order_relaxed)) throw Interrupted{};
    if (std::this_thread::get_id() != caller_) return;
    const auto check = interrupt_check.load();
    if (check == nullptr || Clock::now() - last_ < std::chrono::milliseconds(100)) return;
    last_ = Clock::now();
    if (!check()) return;
    stopped_.store(true);
    throw Interrupted{};
  }

 private:
  using Clock = std::chrono::steady_clock;
  std::thread::id caller_;
  Clock::time_point last_;  // of the calling thread alone
  std::atomic<bool> stopped_{false};
};

}  // namespace pyhbt
