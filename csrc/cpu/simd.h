// Vectors of floats for the inner loops, written once and compiled once per instruction set.
//   Include after defining PYHBT_ISA (a namespace name) and PYHBT_VECTOR_FLOATS (4, 8 or 16); PYHBT_NEON allows
//   intrinsics of 64-bit ARM.
// Everything lives in PYHBT_ISA's own namespace and nothing of the standard library is used: a function
// shared with other translation units would be compiled here with instructions that they must not run.
// 16 floats also compile without AVX-512 (the compiler splits them), so that tests reach that form anywhere.
#pragma once

#include <math.h>  // INFINITY
#include <string.h>

#if defined(__SSE__)
#include <immintrin.h>
#elif defined(PYHBT_NEON)
#include <arm_neon.h>
#endif

#include "kernels.h"

#if defined(__clang__)
#define PYHBT_UNROLL _Pragma("unroll")
#else
#define PYHBT_UNROLL _Pragma("GCC unroll 16")
#endif

namespace pyhbt::cpu::PYHBT_ISA {
namespace {

constexpr int kFloats = PYHBT_VECTOR_FLOATS;

typedef float Vector __attribute__((vector_size(4 * kFloats)));
typedef float LooseVector __attribute__((vector_size(4 * kFloats), aligned(4), may_alias));
typedef int32_t IntVector __attribute__((vector_size(4 * kFloats)));

inline Vector load(const float* x) { return *reinterpret_cast<const LooseVector*>(x); }
inline void store(float* x, Vector v) { *reinterpret_cast<LooseVector*>(x) = v; }
inline Vector splat(float x) { return x - Vector{}; }
inline Vector larger(Vector a, Vector b) { return a > b ? a : b; }

inline float largest_lane(Vector v) {
  float max = v[0];
  for (int lane = 1; lane < kFloats; ++lane) max = v[lane] > max ? v[lane] : max;
  return max;
}

// Lanes are added in pairs, always the same ones.
inline float sum_of_lanes(Vector v) {
  float lanes[kFloats];
  memcpy(lanes, &v, sizeof lanes);
  for (int width = kFloats / 2; width > 0; width /= 2)
    for (int lane = 0; lane < width; ++lane) lanes[lane] += lanes[lane + width];
  return lanes[0];
}

// 2^x for x <= 0 to about one unit in the last place: zero below 2^-126, NaN for NaN.
// x = n + f with |f| <= 1/2; 2^f by its Taylor series to f^7, whose remainder is under
// (ln 2 / 2)^8 / 8! = 5.2e-9 relative.
inline Vector exp2_nonpositive(Vector x) {
  const Vector clamped = x < -126.0f ? splat(-126.0f) : x;
  const Vector shifted = clamped + 12582912.0f;  // 1.5 * 2^23 rounds to an integer held in the low bits
  const Vector whole = shifted - 12582912.0f;
  const Vector f = clamped - whole;
  Vector y = splat(1.5252733804059840e-5f);
  y = y * f + 1.5403530393381609e-4f;
  y = y * f + 1.3333558146428443e-3f;
  y = y * f + 9.6181291076284772e-3f;
  y = y * f + 5.5504108664821580e-2f;
  y = y * f + 2.4022650695910071e-1f;
  y = y * f + 6.9314718055994531e-1f;
  y = y * f + 1.0f;
  const IntVector bits = (reinterpret_cast<IntVector>(shifted) + 127) << 23;  // 2^n
  y = y * reinterpret_cast<Vector>(bits);  // a product, not an addition of exponents: keeps NaN a NaN
  return x < -126.0f ? Vector{} : y;
}

}  // namespace
}  // namespace pyhbt::cpu::PYHBT_ISA
