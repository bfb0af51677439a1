// CUDA C++ for g++: the words of the language that the kernels use, on the machine of machine.h.
//   What it shows and cannot show: README.md.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "machine.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)

using cudaStream_t = void*;
struct alignas(8) float2 {
  float x, y;
};

namespace emulator {

template <typename T>
T shuffle(const char* operation, long line, uint32_t mask, T value, int argument, int width,
          bool exclusive_or) {
  if (width < 1 || width > kWarp || (width & (width - 1)) != 0)
    machine.fail("%s in line %ld with width %d, expected a power of two up to 32", operation, line, width);
  T taken{};
  struct Given {
    T value;
    int argument;
  } given{value, argument};
  machine.meet(operation, line, mask, &given, &taken, [=](const Given* const* givens, T* const* takens) {
    for (int lane = 0; lane < kWarp; ++lane) {
      if (takens[lane] == nullptr) continue;
      const int asked = givens[lane]->argument, first = lane & ~(width - 1);
      int source = exclusive_or ? lane ^ asked : first + (asked & (width - 1));
      if (source >= first + width) source = lane;
      if (givens[source] == nullptr)
        machine.fail("%s in line %ld: lane %d reads lane %d, which takes no part", operation, line, lane,
                     source);
      *takens[lane] = givens[source]->value;
    }
  });
  return taken;
}

inline uint32_t ballot(long line, uint32_t mask, bool predicate) {
  uint32_t taken = 0;
  machine.meet("__ballot_sync", line, mask, &predicate, &taken,
               [](const bool* const* givens, uint32_t* const* takens) {
                 uint32_t bits = 0;
                 for (int lane = 0; lane < kWarp; ++lane)
                   if (givens[lane] != nullptr && *givens[lane]) bits |= 1u << lane;
                 for (int lane = 0; lane < kWarp; ++lane)
                   if (takens[lane] != nullptr) *takens[lane] = bits;
               });
  return taken;
}

inline void sync_warp(long line, uint32_t mask = ~0u) {
  const char given = 0;
  char taken = 0;
  machine.meet("__syncwarp", line, mask, &given, &taken, [](const char* const*, char* const*) {}, true);
}

template <typename T, typename Change>
T change_atomically(T* place, Change change) {
  machine.maybe_preempt();
  machine.order_by_atomic(place);
  T old;
  __atomic_load(place, &old, __ATOMIC_RELAXED);
  for (T wanted = change(old);  // relaxed: it orders no other memory
       !__atomic_compare_exchange(place, &old, &wanted, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
       wanted = change(old)) {
  }
  return old;
}

struct Shuffle {
  const char* operation;
  long line;
  bool exclusive_or;
  template <typename T>
  T operator()(uint32_t mask, T value, int argument, int width = kWarp) const {
    return shuffle(operation, line, mask, value, argument, width, exclusive_or);
  }
};

}  // namespace emulator

#define __syncthreads() emulator::machine.barrier(__LINE__)
#define __syncwarp(...) emulator::sync_warp(__LINE__ __VA_OPT__(, ) __VA_ARGS__)
#define __shfl_sync \
  emulator::Shuffle { "__shfl_sync", __LINE__, false }
#define __shfl_xor_sync \
  emulator::Shuffle { "__shfl_xor_sync", __LINE__, true }
#define __ballot_sync(mask, predicate) emulator::ballot(__LINE__, mask, predicate)

inline void __threadfence() { emulator::machine.fence(emulator::kDevice); }
inline void __threadfence_block() { emulator::machine.fence(emulator::kBlock); }

template <typename T>
T atomicAdd(T* place, T value) {
  return emulator::change_atomically(place, [=](T old) { return static_cast<T>(old + value); });
}
template <typename T>
T atomicExch(T* place, T value) {
  return emulator::change_atomically(place, [=](T) { return value; });
}

inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline float __expf(float x) { return std::exp(x); }
inline long long __double_as_longlong(double x) {
  long long bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}
inline double __longlong_as_double(long long bits) {
  double x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}
