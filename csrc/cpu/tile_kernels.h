// The matrix product of the CPU back end: C (+)= A B over one strip of B, kMicroRows rows of C at a time.
//   B (depth, kStrip) is contiguous: element (k, lane) at b[k * kStrip + lane]. A comes in three forms:
//   row-major; strips, element (r, k) at a[k / kStrip * strip_stride + r * kStrip + k % kStrip]; and the
//   transpose of one strip, element (r, k) at a[k * kStrip + r].
// kMicroRows x kStripVectors accumulators stay in registers over the whole depth, and every element of C is
// summed with k running upwards; the two that sum up gradients begin at zero and add C at the end, so that a long
// sum is one of blocks. 2 * rows * kStrip * depth flops.
// Micro-tile: Van Zee and van de Geijn, "BLIS", ACM TOMS 41(3), 2015.
#pragma once

#include "simd.h"

namespace pyhbt::cpu::PYHBT_ISA {
namespace {

constexpr int kStripVectors = PYHBT_STRIP_VECTORS;
constexpr int kStrip = kStripVectors * kFloats;
constexpr int kMicroRows = PYHBT_MICRO_ROWS;
constexpr int kDepthBlock = 8192 / kStrip / kStrip * kStrip;  // this much of a strip of B is up to 32 KiB
static_assert(kStrip <= kMaxStrip && kStrip % kMicroRows == 0, "tile");

struct Tile {
  Vector sums[kMicroRows][kStripVectors];

  void clear() {
    PYHBT_UNROLL for (int r = 0; r < kMicroRows; ++r) PYHBT_UNROLL for (int v = 0; v < kStripVectors; ++v)
        sums[r][v] = Vector{};
  }
  void read(const float* c, int64_t stride) {
    PYHBT_UNROLL for (int r = 0; r < kMicroRows; ++r) PYHBT_UNROLL for (int v = 0; v < kStripVectors; ++v)
        sums[r][v] = load(c + r * stride + v * kFloats);
  }
  void add_all(const float* c, int64_t stride) {
    PYHBT_UNROLL for (int r = 0; r < kMicroRows; ++r) PYHBT_UNROLL for (int v = 0; v < kStripVectors; ++v)
        sums[r][v] += load(c + r * stride + v * kFloats);
  }
  void write(float* c, int64_t stride) const {
    PYHBT_UNROLL for (int r = 0; r < kMicroRows; ++r) PYHBT_UNROLL for (int v = 0; v < kStripVectors; ++v)
        store(c + r * stride + v * kFloats, sums[r][v]);
  }
  // sums += a b for one k; element r of the column of A lies at a[r * a_stride].
  inline __attribute__((always_inline)) void add(const float* a, int64_t a_stride, const float* b) {
    Vector right[kStripVectors];
    PYHBT_UNROLL for (int v = 0; v < kStripVectors; ++v) right[v] = load(b + v * kFloats);
    PYHBT_UNROLL for (int r = 0; r < kMicroRows; ++r) {
      const Vector left = splat(a[r * a_stride]);
      PYHBT_UNROLL for (int v = 0; v < kStripVectors; ++v) sums[r][v] += left * right[v];
    }
  }
#if defined(PYHBT_NEON)
  // Products by element take numbers of A four to a register; vectors of B pass through one at a time. Clang, left
  // alone, spreads the numbers of A out and spills.
  template <int kLane>
  inline __attribute__((always_inline)) void add_to(Vector& sum, float32x4_t right, float32x4_t left) {
    sum = reinterpret_cast<Vector>(vfmaq_laneq_f32(reinterpret_cast<float32x4_t>(sum), right, left, kLane));
  }
  template <int kLane>
  inline __attribute__((always_inline)) void add_column(const float32x4_t* left, const float* b) {
    PYHBT_UNROLL for (int v = 0; v < kStripVectors; ++v) {
      const float32x4_t right = vld1q_f32(b + kLane * kStrip + v * kFloats);
      PYHBT_UNROLL for (int r = 0; r < kMicroRows; ++r) add_to<kLane>(sums[r][v], right, left[r]);
    }
  }
  // sums += A B for four k; row r of A begins at row(r).
  template <typename Row>
  inline __attribute__((always_inline)) void add_four(const Row& row, const float* b) {
    float32x4_t left[kMicroRows];
    PYHBT_UNROLL for (int r = 0; r < kMicroRows; ++r) left[r] = vld1q_f32(row(r));
    add_column<0>(left, b);
    add_column<1>(left, b);
    add_column<2>(left, b);
    add_column<3>(left, b);
  }
  // sums += a b for one k, the numbers of the column of A side by side.
  inline __attribute__((always_inline)) void add_side_by_side(const float* a, const float* b) {
    static_assert(kMicroRows == 4, "a column of A is one vector");
    const float32x4_t left = vld1q_f32(a);
    PYHBT_UNROLL for (int v = 0; v < kStripVectors; ++v) {
      const float32x4_t right = vld1q_f32(b + v * kFloats);
      add_to<0>(sums[0][v], right, left);
      add_to<1>(sums[1][v], right, left);
      add_to<2>(sums[2][v], right, left);
      add_to<3>(sums[3][v], right, left);
    }
  }
#endif
};

// C (rows, kStrip) row-major with c_stride (+)= A B, A row-major. Rows beyond the last full tile repeat the
// last row of A and throw the extra results away.
void multiply_rows(const float* a, int64_t a_stride, int64_t rows, const float* b, int64_t depth, float* c,
                   int64_t c_stride, bool accumulate) {
  for (int64_t row = 0; row < rows; row += kMicroRows) {
    const int64_t here = rows - row < kMicroRows ? rows - row : kMicroRows;
    const float* left[kMicroRows];
    for (int64_t r = 0; r < kMicroRows; ++r) left[r] = a + (row + (r < here ? r : here - 1)) * a_stride;
    float* out = c + row * c_stride;
    float edge[kMicroRows * kStrip];
    const bool whole = here == kMicroRows;
    if (accumulate && !whole) {
      memset(edge, 0, sizeof edge);
      for (int64_t r = 0; r < here; ++r) memcpy(edge + r * kStrip, out + r * c_stride, 4 * kStrip);
    }
    float* target = whole ? out : edge;
    const int64_t stride = whole ? c_stride : kStrip;
    Tile tile;
    if (accumulate)
      tile.read(target, stride);
    else
      tile.clear();
    int64_t k = 0;
#if defined(PYHBT_NEON)
    for (; k + 4 <= depth; k += 4) tile.add_four([&](int r) { return left[r] + k; }, b + k * kStrip);
#endif
    for (; k < depth; ++k) {
      Vector right[kStripVectors];
      PYHBT_UNROLL for (int v = 0; v < kStripVectors; ++v) right[v] = load(b + k * kStrip + v * kFloats);
      PYHBT_UNROLL for (int r = 0; r < kMicroRows; ++r) {
        const Vector one = splat(left[r][k]);
        PYHBT_UNROLL for (int v = 0; v < kStripVectors; ++v) tile.sums[r][v] += one * right[v];
      }
    }
    tile.write(target, stride);
    if (!whole)
      for (int64_t r = 0; r < here; ++r) memcpy(out + r * c_stride, edge + r * kStrip, 4 * kStrip);
  }
}

// C (rows, columns <= kStrip) row-major (+)= A B, A in strips with rows padded to full tiles; depth is a
// multiple of kStrip. The next tile of C is fetched ahead, since C may be far larger than the caches.
void multiply_strips(const float* a, int64_t strip_stride, int64_t rows, const float* b, int64_t depth,
                     float* c, int64_t c_stride, int64_t columns, bool accumulate) {
  for (int64_t row = 0; row < rows; row += kMicroRows) {
    const int64_t here = rows - row < kMicroRows ? rows - row : kMicroRows;
    float* out = c + row * c_stride;
    float edge[kMicroRows * kStrip];
    const bool whole = here == kMicroRows && columns == kStrip;
    if (accumulate && !whole) {
      memset(edge, 0, sizeof edge);
      for (int64_t r = 0; r < here; ++r)
        for (int64_t lane = 0; lane < columns; ++lane) edge[r * kStrip + lane] = out[r * c_stride + lane];
    }
    if (accumulate && whole) {
      PYHBT_UNROLL for (int r = 0; r < kMicroRows; ++r) {
        __builtin_prefetch(out + r * c_stride, 1);
        __builtin_prefetch(out + r * c_stride + kStrip - 1, 1);
      }
    }
    Tile tile;
    tile.clear();
    const float* left = a + row * kStrip;
    const float* right = b;
    for (int64_t k = 0; k < depth; k += kStrip, left += strip_stride, right += kStrip * kStrip) {
#if defined(PYHBT_NEON)
      for (int s = 0; s < kStrip; s += 4)
        tile.add_four([&](int r) { return left + s + r * kStrip; }, right + s * kStrip);
#else
      _Pragma("GCC unroll 8") for (int s = 0; s < kStrip; ++s) tile.add(left + s, kStrip, right + s * kStrip);
#endif
    }
    float* target = whole ? out : edge;
    const int64_t stride = whole ? c_stride : kStrip;
    if (accumulate) tile.add_all(target, stride);
    tile.write(target, stride);
    if (!whole) {
      for (int64_t r = 0; r < here; ++r)
        for (int64_t lane = 0; lane < columns; ++lane) out[r * c_stride + lane] = edge[r * kStrip + lane];
    }
  }
}

// C (kStrip, kStrip) contiguous (+)= A B, A the transpose of a strip.
void multiply_transposed(const float* a, const float* b, int64_t depth, float* c, bool accumulate) {
  for (int row = 0; row < kStrip; row += kMicroRows) {
    Tile tile;
    tile.clear();
#if defined(PYHBT_NEON)
    for (int64_t k = 0; k < depth; ++k) tile.add_side_by_side(a + k * kStrip + row, b + k * kStrip);
#else
    _Pragma("GCC unroll 4") for (int64_t k = 0; k < depth; ++k)
        tile.add(a + k * kStrip + row, 1, b + k * kStrip);
#endif
    if (accumulate) tile.add_all(c + row * kStrip, kStrip);
    tile.write(c + row * kStrip, kStrip);
  }
}

// out[k][lane] = factor * x[lane][k] for k < dim; lanes from rows on, and k from dim to depth, are zero.
void transpose_strip(const float* x, int64_t x_stride, int64_t rows, int64_t dim, int64_t depth, float factor,
                     float* out) {
  int64_t k = 0;
#if defined(__SSE__)
  if (rows == kStrip) {
    const __m128 scale = _mm_set1_ps(factor);
    for (; k + 4 <= dim; k += 4) {
      for (int lane = 0; lane < kStrip; lane += 4) {
        __m128 r0 = _mm_loadu_ps(x + lane * x_stride + k), r1 = _mm_loadu_ps(x + (lane + 1) * x_stride + k);
        __m128 r2 = _mm_loadu_ps(x + (lane + 2) * x_stride + k),
               r3 = _mm_loadu_ps(x + (lane + 3) * x_stride + k);
        _MM_TRANSPOSE4_PS(r0, r1, r2, r3);
        float* to = out + k * kStrip + lane;
        _mm_storeu_ps(to, _mm_mul_ps(r0, scale));
        _mm_storeu_ps(to + kStrip, _mm_mul_ps(r1, scale));
        _mm_storeu_ps(to + 2 * kStrip, _mm_mul_ps(r2, scale));
        _mm_storeu_ps(to + 3 * kStrip, _mm_mul_ps(r3, scale));
      }
    }
  }
#elif defined(PYHBT_NEON)
  if (rows == kStrip) {
    for (; k + 4 <= dim; k += 4) {
      for (int lane = 0; lane < kStrip; lane += 4) {
        const float* from = x + lane * x_stride + k;
        const float32x4x2_t low = vtrnq_f32(vld1q_f32(from), vld1q_f32(from + x_stride));
        const float32x4x2_t high = vtrnq_f32(vld1q_f32(from + 2 * x_stride), vld1q_f32(from + 3 * x_stride));
        for (int odd = 0; odd < 2; ++odd) {
          const float64x2_t first = vreinterpretq_f64_f32(low.val[odd]),
                            second = vreinterpretq_f64_f32(high.val[odd]);
          float* to = out + (k + odd) * kStrip + lane;
          vst1q_f32(to, vmulq_n_f32(vreinterpretq_f32_f64(vzip1q_f64(first, second)), factor));
          vst1q_f32(to + 2 * kStrip, vmulq_n_f32(vreinterpretq_f32_f64(vzip2q_f64(first, second)), factor));
        }
      }
    }
  }
#endif
  for (; k < depth; ++k)
    for (int lane = 0; lane < kStrip; ++lane)
      out[k * kStrip + lane] = k < dim && lane < rows ? factor * x[lane * x_stride + k] : 0.0f;
}

double fma_probe(int64_t iterations, float* checksum) {
#if defined(PYHBT_NEON)
  constexpr int kChains = 24;
#else
  constexpr int kChains = 12;
#endif
  Vector chains[kChains];
  for (int c = 0; c < kChains; ++c) chains[c] = splat(static_cast<float>(c));
  const Vector ratio = splat(0.999f), step = splat(*checksum);
  for (int64_t i = 0; i < iterations; ++i) {
#if defined(PYHBT_NEON)  // the sum is what the instruction overwrites
    PYHBT_UNROLL for (int c = 0; c < kChains; ++c) chains[c] = reinterpret_cast<Vector>(
        vfmaq_f32(reinterpret_cast<float32x4_t>(chains[c]), reinterpret_cast<float32x4_t>(ratio),
                  reinterpret_cast<float32x4_t>(step)));
#else
    PYHBT_UNROLL for (int c = 0; c < kChains; ++c) chains[c] = chains[c] * ratio + step;
#endif
  }
  Vector total{};
  for (int c = 0; c < kChains; ++c) total += chains[c];
  *checksum = total[0];
  return 2.0 * kChains * kFloats * static_cast<double>(iterations);
}

}  // namespace
}  // namespace pyhbt::cpu::PYHBT_ISA
