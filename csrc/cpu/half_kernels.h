// float16 and bfloat16 numbers as float32, by integer arithmetic.
#pragma once

#include "simd.h"

namespace pyhbt::cpu::PYHBT_ISA {
namespace {

typedef uint32_t Bits __attribute__((vector_size(4 * kFloats)));

inline Bits load_halves(const uint16_t* x) {
  typedef uint16_t Halves __attribute__((vector_size(2 * kFloats)));
  Halves halves;
  memcpy(&halves, x, sizeof halves);
  return __builtin_convertvector(halves, Bits);
}

inline Bits widened_bfloat16(Bits half) { return half << 16; }

inline Bits widened_float16(Bits half) {
  const Bits sign = (half & 0x8000u) << 16, magnitude = half & 0x7fffu;
  const Vector small = __builtin_convertvector(magnitude, Vector) * 5.9604644775390625e-8f;  // 2^-24
  const Bits normal = (magnitude << 13) + (112u << 23), special = (magnitude << 13) | 0x7f800000u;
  const Bits large = magnitude < 0x7c00u ? normal : special;
  return sign | (magnitude < 0x400u ? reinterpret_cast<Bits>(small) : large);
}

template <typename Widen>
inline void widen(const uint16_t* bits, int64_t count, float* out, const Widen& widened) {
  int64_t i = 0;
  for (; i + kFloats <= count; i += kFloats)
    store(out + i, reinterpret_cast<Vector>(widened(load_halves(bits + i))));
  if (i == count) return;
  uint16_t rest[kFloats] = {};
  memcpy(rest, bits + i, static_cast<size_t>(2 * (count - i)));
  const Bits wide = widened(load_halves(rest));
  memcpy(out + i, &wide, static_cast<size_t>(4 * (count - i)));
}

void widen_float16(const uint16_t* bits, int64_t count, float* out) {
  widen(bits, count, out, [](Bits half) { return widened_float16(half); });
}
void widen_bfloat16(const uint16_t* bits, int64_t count, float* out) {
  widen(bits, count, out, [](Bits half) { return widened_bfloat16(half); });
}

}  // namespace
}  // namespace pyhbt::cpu::PYHBT_ISA
