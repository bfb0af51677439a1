// The inner loops of search and ranks: exact dot products, and screening of score tiles by error bounds.
#pragma once

#include "tile_kernels.h"

namespace pyhbt::cpu::PYHBT_ISA {
namespace {

constexpr int kDoubles = kFloats < 8 ? 2 : 4;  // GCC 12 splits wider conversions badly

typedef double DoubleVector __attribute__((vector_size(8 * kDoubles)));
typedef double LooseDoubles __attribute__((vector_size(8 * kDoubles), aligned(8), may_alias));

inline DoubleVector load_widened(const double* x) { return *reinterpret_cast<const LooseDoubles*>(x); }
inline DoubleVector load_widened(const float* x) {
#if defined(__AVX__)
  return _mm256_cvtps_pd(_mm_loadu_ps(x));  // GCC 12 makes four instructions of the generic form
#else
  return DoubleVector{static_cast<double>(x[0]), static_cast<double>(x[1])};
#endif
}

template <typename Real>
inline double dot_of(const Real* a, const float* b, int64_t dim) {
  constexpr int kLanes = 8, kVectors = kLanes / kDoubles;
  DoubleVector sums[kVectors] = {};
  int64_t i = 0;
  for (; i + kLanes <= dim; i += kLanes) {
    PYHBT_UNROLL for (int v = 0; v < kVectors; ++v) sums[v] +=
        load_widened(a + i + v * kDoubles) * load_widened(b + i + v * kDoubles);
  }
  double lanes[kLanes];
  memcpy(lanes, sums, sizeof lanes);
  for (int lane = 0; i < dim; ++i, ++lane)
    lanes[lane] += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  return ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])) + ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7]));
}

double dot(const double* a, const float* b, int64_t dim) { return dot_of(a, b, dim); }
double dot_floats(const float* a, const float* b, int64_t dim) { return dot_of(a, b, dim); }

inline int64_t append_hits(IntVector mask, int64_t position, int64_t count, int32_t* hits) {
  for (int lane = 0; lane < kFloats; ++lane)
    if (mask[lane] != 0) hits[count++] = static_cast<int32_t>(position + lane);
  return count;
}

// Comparisons are written so that a NaN, from an overflow in float32, counts as undecided.
int64_t screen(const float* tile, int64_t rows, const float* norms, const StripBounds& bounds,
               int32_t* hits) {
  int64_t count = 0;
  for (int part = 0; part < kStrip; part += kFloats) {
    const Vector error = load(bounds.error + part), low = load(bounds.low + part);
    for (int64_t r = 0; r < rows; ++r) {
      const Vector upper = load(tile + r * kStrip + part) + error * norms[r];
      const IntVector open = ~(upper < low);
      if (any(open)) count = append_hits(open, r * kStrip + part, count, hits);
    }
  }
  return count;
}

int64_t screen_and_count(const float* tile, int64_t rows, const float* norms, const StripBounds& bounds,
                         int64_t* counts, int32_t* hits) {
  int64_t count = 0;
  for (int part = 0; part < kStrip; part += kFloats) {
    const Vector error = load(bounds.error + part), low = load(bounds.low + part),
                 high = load(bounds.high + part);
    IntVector over{};
    for (int64_t r = 0; r < rows; ++r) {
      const Vector score = load(tile + r * kStrip + part), slack = error * norms[r];
      const IntVector above = (score - slack) > high;
      const IntVector open = ~((score + slack) < low) & ~above;
      over -= above;  // a true lane is -1
      if (any(open)) count = append_hits(open, r * kStrip + part, count, hits);
    }
    for (int lane = 0; lane < kFloats; ++lane) counts[part + lane] += over[lane];
  }
  return count;
}

}  // namespace
}  // namespace pyhbt::cpu::PYHBT_ISA
