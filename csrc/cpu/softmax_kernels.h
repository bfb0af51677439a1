// Softmax over the strips of scores of the contrastive loss.
//   x (rows, kStrip) contiguous: row j is a passage, a lane is a query; scores are exponents of two.
// Minus infinity stands for a pair that takes no part. O(rows * kStrip) each.
#pragma once

#include "tile_kernels.h"

namespace pyhbt::cpu::PYHBT_ISA {
namespace {

inline Vector finite_reference(Vector max) { return max == -INFINITY ? Vector{} : max; }  // avoids inf - inf

// Makes x minus infinity where it is above limit (kStrip,). max and sum (kStrip,) get, by lane, the largest
// x and the sum of 2^(x - max); float32 sums run over a quarter of the rows each.
void query_statistics(float* x, int64_t rows, const float* limit, float* max, float* sum) {
  for (int v = 0; v < kStrip; v += kFloats) {
    const Vector most = load(limit + v);
    Vector top = splat(-INFINITY);
    for (int64_t j = 0; j < rows; ++j) {
      Vector score = load(x + j * kStrip + v);
      score = score > most ? splat(-INFINITY) : score;
      store(x + j * kStrip + v, score);
      top = larger(score, top);
    }
    store(max + v, top);
    const Vector reference = finite_reference(top);
    Vector parts[4] = {};
    int64_t j = 0;
    for (; j + 4 <= rows; j += 4)
      PYHBT_UNROLL for (int u = 0; u < 4; ++u) parts[u] +=
          exp2_nonpositive(load(x + (j + u) * kStrip + v) - reference);
    for (; j < rows; ++j) parts[0] += exp2_nonpositive(load(x + j * kStrip + v) - reference);
    store(sum + v, (parts[0] + parts[1]) + (parts[2] + parts[3]));
  }
}

// The same by passage, over all strips: max and sum (rows,).
void passage_statistics(const float* x, int64_t strip_stride, int64_t strips, int64_t rows, float* max,
                        float* sum) {
  for (int64_t j = 0; j < rows; ++j) {
    const float* row = x + j * kStrip;
    Vector top = splat(-INFINITY);
    for (int64_t s = 0; s < strips; ++s)
      for (int v = 0; v < kStrip; v += kFloats) top = larger(load(row + s * strip_stride + v), top);
    max[j] = largest_lane(top);
    const Vector reference = finite_reference(splat(max[j]));
    Vector part{};
    for (int64_t s = 0; s < strips; ++s)
      for (int v = 0; v < kStrip; v += kFloats)
        part += exp2_nonpositive(load(row + s * strip_stride + v) - reference);
    sum[j] = sum_of_lanes(part);
  }
}

// x <- weight * 2^(x - max) by lane, plus the same by row where passage_max is not null.
// The maxima are finite.
void softmax_gradient(float* x, int64_t rows, const float* query_max, const float* query_weight,
                      const float* passage_max, const float* passage_weight) {
  Vector max[kStripVectors], weight[kStripVectors];
  for (int v = 0; v < kStripVectors; ++v) {
    max[v] = load(query_max + v * kFloats);
    weight[v] = load(query_weight + v * kFloats);
  }
  for (int64_t j = 0; j < rows; ++j) {
    for (int v = 0; v < kStripVectors; ++v) {
      float* at = x + j * kStrip + v * kFloats;
      const Vector score = load(at);
      Vector gradient = exp2_nonpositive(score - max[v]) * weight[v];
      if (passage_max != nullptr) gradient += exp2_nonpositive(score - passage_max[j]) * passage_weight[j];
      store(at, gradient);
    }
  }
}

}  // namespace
}  // namespace pyhbt::cpu::PYHBT_ISA
