// The language of the kernels: CUDA C++, or the same words on the CPU, for verification
// (tests/cuda_emulation). The only file that says one thing to nvcc and another to g++.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(PYHBT_CUDA_EMULATED)
#include "emulator.h"
#else
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#endif

namespace pyhbt::cuda {

constexpr unsigned kAllLanes = 0xffffffffu;
constexpr int kWarp = 32;

#if defined(PYHBT_CUDA_EMULATED)

#define PYHBT_LAUNCH(kernel, grid, block, stream, ...) \
  ((void)(stream), emulator::machine.launch(grid, block, [=] { kernel(__VA_ARGS__); }))
#define PYHBT_SHARED(type, name, extents) \
  static const char name##_key = 0;       \
  typedef type name##_type extents;       \
  name##_type& name = *static_cast<name##_type*>(emulator::machine.shared(&name##_key, sizeof(name##_type)))

inline uint16_t half_bits(float x) {  // to nearest, ties to even, as __float2half_rn
  const _Float16 rounded = static_cast<_Float16>(x);
  uint16_t bits;
  std::memcpy(&bits, &rounded, sizeof bits);
  return bits;
}
inline float from_half_bits(uint16_t bits) {
  _Float16 x;
  std::memcpy(&x, &bits, sizeof x);
  return static_cast<float>(x);
}
inline uint16_t bfloat_bits(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fff;  // a NaN
  return static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
}

#else

#define PYHBT_LAUNCH(kernel, grid, block, stream, ...) kernel<<<grid, block, 0, stream>>>(__VA_ARGS__)
#define PYHBT_SHARED(type, name, extents) __shared__ type name extents

__device__ inline uint16_t half_bits(float x) { return __half_as_ushort(__float2half_rn(x)); }
__device__ inline float from_half_bits(uint16_t bits) { return __half2float(__ushort_as_half(bits)); }
__device__ inline uint16_t bfloat_bits(float x) { return __bfloat16_as_ushort(__float2bfloat16_rn(x)); }

#endif

__device__ inline float from_bfloat_bits(uint16_t bits) {
  const uint32_t wide = static_cast<uint32_t>(bits) << 16;
  float x;
  memcpy(&x, &wide, sizeof x);
  return x;
}

}  // namespace pyhbt::cuda
