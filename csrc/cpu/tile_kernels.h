// The inner loops, written once over a vector width and compiled once per instruction set.
//   Include after defining PYHBT_ISA (a namespace name) and PYHBT_VECTOR_FLOATS (4 or 8).
// Everything lives in PYHBT_ISA's own namespace and nothing of the standard library is used: a function
// shared with other translation units would be compiled here with instructions that they must not run.
// Micro-tile: Van Zee and van de Geijn, "BLIS", ACM TOMS 41(3), 2015.
#include <math.h>  // INFINITY
#include <string.h>

#if PYHBT_VECTOR_FLOATS == 8
#include <immintrin.h>
#endif

#include "kernels.h"

#if defined(__clang__)
#define PYHBT_UNROLL _Pragma("unroll")
#else
#define PYHBT_UNROLL _Pragma("GCC unroll 8")
#endif

namespace pyhbt::cpu::PYHBT_ISA {
namespace {

constexpr int kFloats = PYHBT_VECTOR_FLOATS;
constexpr int kDoubles = kFloats / 2;
constexpr int kColumns = 2 * kFloats;  // of a strip

typedef float Vector __attribute__((vector_size(4 * kFloats)));
typedef float LooseVector __attribute__((vector_size(4 * kFloats), aligned(4), may_alias));
typedef int32_t IntVector __attribute__((vector_size(4 * kFloats)));
typedef double DoubleVector __attribute__((vector_size(8 * kDoubles)));
typedef double LooseDoubles __attribute__((vector_size(8 * kDoubles), aligned(8), may_alias));

inline Vector load(const float* x) { return *reinterpret_cast<const LooseVector*>(x); }
inline void store(float* x, Vector v) { *reinterpret_cast<LooseVector*>(x) = v; }
inline Vector splat(float x) { return x - Vector{}; }
inline Vector larger(Vector a, Vector b) { return a > b ? a : b; }

inline DoubleVector load_widened(const float* x) {
#if PYHBT_VECTOR_FLOATS == 8
  return _mm256_cvtps_pd(_mm_loadu_ps(x));  // GCC 12 makes four instructions of the generic form
#else
  return DoubleVector{static_cast<double>(x[0]), static_cast<double>(x[1])};
#endif
}

inline bool any(IntVector mask) {
#if PYHBT_VECTOR_FLOATS == 8
  return !_mm256_testz_si256(reinterpret_cast<__m256i>(mask), reinterpret_cast<__m256i>(mask));
#else
  int64_t halves[2];
  memcpy(halves, &mask, sizeof halves);
  return (halves[0] | halves[1]) != 0;
#endif
}

// 2^x for x <= 0 to about one unit in the last place: zero below 2^-126, NaN for NaN. x = n + f with |f| <=
// 1/2; 2^f by its Taylor series to f^7, whose remainder is under (ln 2 / 2)^8 / 8! = 5.2e-9 relative.
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

// One micro-tile: kStripRows x kColumns accumulators stay in registers over the whole depth.
template <bool kPacked>
inline void micro_tile(const float* a, const int64_t* row_offsets, const float* b, int64_t depth, float* c,
                       int64_t c_stride, bool accumulate) {
  const float* rows[kStripRows];
  PYHBT_UNROLL for (int r = 0; r < kStripRows; ++r) rows[r] = kPacked ? a : a + row_offsets[r];
  Vector left[kStripRows], right[kStripRows];
  PYHBT_UNROLL for (int r = 0; r < kStripRows; ++r) {
    left[r] = accumulate ? load(c + r * c_stride) : Vector{};
    right[r] = accumulate ? load(c + r * c_stride + kFloats) : Vector{};
  }
  for (int64_t k = 0; k < depth; ++k) {
    const Vector b_left = load(b + k * kColumns), b_right = load(b + k * kColumns + kFloats);
    PYHBT_UNROLL for (int r = 0; r < kStripRows; ++r) {
      const Vector a_rk = splat(kPacked ? a[k * kStripRows + r] : rows[r][k]);
      left[r] += a_rk * b_left;
      right[r] += a_rk * b_right;
    }
  }
  PYHBT_UNROLL for (int r = 0; r < kStripRows; ++r) {
    store(c + r * c_stride, left[r]);
    store(c + r * c_stride + kFloats, right[r]);
  }
}

// All rows of A times one strip of B. A short last strip repeats its last row and throws the extra results
// away.
template <bool kPacked>
inline void multiply(const float* a, int64_t a_stride, int64_t rows, const float* b_strip, int64_t depth,
                     float* c, int64_t c_stride, int64_t columns, bool accumulate) {
  int64_t offsets[kStripRows];
  for (int64_t row = 0; row < rows; row += kStripRows) {
    const int64_t here = rows - row < kStripRows ? rows - row : kStripRows;
    const float* a_tile = kPacked ? a + row * depth : a + row * a_stride;
    for (int64_t r = 0; r < kStripRows; ++r) offsets[r] = (r < here ? r : here - 1) * a_stride;
    float* c_tile = c + row * c_stride;
    if (here == kStripRows && columns == kColumns) {
      micro_tile<kPacked>(a_tile, offsets, b_strip, depth, c_tile, c_stride, accumulate);
      continue;
    }
    float edge[kStripRows * kColumns] = {};
    if (accumulate) {
      for (int64_t r = 0; r < here; ++r)
        for (int64_t j = 0; j < columns; ++j) edge[r * kColumns + j] = c_tile[r * c_stride + j];
    }
    micro_tile<kPacked>(a_tile, offsets, b_strip, depth, edge, kColumns, accumulate);
    for (int64_t r = 0; r < here; ++r)
      for (int64_t j = 0; j < columns; ++j) c_tile[r * c_stride + j] = edge[r * kColumns + j];
  }
}

void multiply_rows(const float* a, int64_t a_stride, int64_t rows, const float* b_strip, int64_t depth,
                   float* c, int64_t c_stride, int64_t columns, bool accumulate) {
  multiply<false>(a, a_stride, rows, b_strip, depth, c, c_stride, columns, accumulate);
}

void multiply_packed(const float* a_strips, int64_t rows, const float* b_strip, int64_t depth, float* c,
                     int64_t c_stride, int64_t columns, bool accumulate) {
  multiply<true>(a_strips, 0, rows, b_strip, depth, c, c_stride, columns, accumulate);
}

inline float reference_of(float max) { return max == -INFINITY ? 0.0f : max; }  // avoids inf - inf

RowStatistics row_statistics(const float* x, int64_t columns, float factor) {
  Vector top = splat(-INFINITY);
  for (int64_t j = 0; j < columns; j += kFloats) top = larger(load(x + j), top);
  float max = -INFINITY;
  for (int lane = 0; lane < kFloats; ++lane) max = top[lane] > max ? top[lane] : max;
  const float reference = reference_of(max);
  double sum = 0;
  constexpr int64_t kBlock = 512;  // float32 sums stay short: at most kBlock / kFloats terms a lane
  for (int64_t start = 0; start < columns; start += kBlock) {
    const int64_t end = columns - start < kBlock ? columns : start + kBlock;
    Vector part{};
    for (int64_t j = start; j < end; j += kFloats)
      part += exp2_nonpositive((load(x + j) - reference) * factor);
    double total = 0;
    for (int lane = 0; lane < kFloats; ++lane) total += static_cast<double>(part[lane]);
    sum += total;
  }
  return {max, sum};
}

void column_statistics(const float* x, int64_t stride, int64_t rows, int64_t columns, float factor,
                       float* max, double* sum) {
  for (int64_t j = 0; j < columns; j += kFloats) {
    Vector top = splat(-INFINITY);
    for (int64_t i = 0; i < rows; ++i) top = larger(load(x + i * stride + j), top);
    store(max + j, top);
    const Vector reference = top == -INFINITY ? Vector{} : top;
    for (int lane = 0; lane < kFloats; ++lane) sum[j + lane] = 0;
    constexpr int64_t kBlock = 64;
    for (int64_t start = 0; start < rows; start += kBlock) {
      const int64_t end = rows - start < kBlock ? rows : start + kBlock;
      Vector part{};
      for (int64_t i = start; i < end; ++i)
        part += exp2_nonpositive((load(x + i * stride + j) - reference) * factor);
      for (int lane = 0; lane < kFloats; ++lane) sum[j + lane] += static_cast<double>(part[lane]);
    }
  }
}

void softmax_gradient(float* x, int64_t columns, float factor, float row_max, float row_weight,
                      const float* col_max, const float* col_weight) {
  const float reference = reference_of(row_max);
  for (int64_t j = 0; j < columns; j += kFloats) {
    const Vector score = load(x + j);
    Vector g = exp2_nonpositive((score - reference) * factor) * row_weight;
    if (col_max != nullptr)
      g += exp2_nonpositive((score - load(col_max + j)) * factor) * load(col_weight + j);
    store(x + j, g);
  }
}

double dot(const double* a, const float* b, int64_t dim) {
  constexpr int kLanes = 8, kVectors = kLanes / kDoubles;
  DoubleVector sums[kVectors] = {};
  int64_t i = 0;
  for (; i + kLanes <= dim; i += kLanes) {
    PYHBT_UNROLL for (int v = 0; v < kVectors; ++v) {
      const DoubleVector left = *reinterpret_cast<const LooseDoubles*>(a + i + v * kDoubles);
      sums[v] += left * load_widened(b + i + v * kDoubles);
    }
  }
  double lanes[kLanes];
  memcpy(lanes, sums, sizeof lanes);
  for (int lane = 0; i < dim; ++i, ++lane) lanes[lane] += a[i] * static_cast<double>(b[i]);
  return ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])) + ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7]));
}

inline int64_t append_hits(IntVector mask, int64_t position, int64_t count, int32_t* hits) {
  for (int lane = 0; lane < kFloats; ++lane)
    if (mask[lane] != 0) hits[count++] = static_cast<int32_t>(position + lane);
  return count;
}

// Comparisons are written so that a NaN, from an overflow in float32, counts as undecided.
int64_t screen(const float* tile, int64_t rows, const float* norms, const StripBounds& bounds,
               int32_t* hits) {
  int64_t count = 0;
  for (int half = 0; half < kColumns; half += kFloats) {
    const Vector error = load(bounds.error + half), low = load(bounds.low + half);
    for (int64_t r = 0; r < rows; ++r) {
      const Vector upper = load(tile + r * kColumns + half) + error * norms[r];
      const IntVector open = ~(upper < low);
      if (any(open)) count = append_hits(open, r * kColumns + half, count, hits);
    }
  }
  return count;
}

int64_t screen_and_count(const float* tile, int64_t rows, const float* norms, const StripBounds& bounds,
                         int64_t* counts, int32_t* hits) {
  int64_t count = 0;
  for (int half = 0; half < kColumns; half += kFloats) {
    const Vector error = load(bounds.error + half), low = load(bounds.low + half),
                 high = load(bounds.high + half);
    IntVector over{};
    for (int64_t r = 0; r < rows; ++r) {
      const Vector score = load(tile + r * kColumns + half), slack = error * norms[r];
      const IntVector above = (score - slack) > high;
      const IntVector open = ~((score + slack) < low) & ~above;
      over -= above;  // a true lane is -1
      if (any(open)) count = append_hits(open, r * kColumns + half, count, hits);
    }
    for (int lane = 0; lane < kFloats; ++lane) counts[half + lane] += over[lane];
  }
  return count;
}

double fma_probe(int64_t iterations, float* checksum) {
  constexpr int kChains = 12;
  Vector chains[kChains];
  for (int c = 0; c < kChains; ++c) chains[c] = splat(static_cast<float>(c));
  const Vector ratio = splat(0.999f), step = splat(*checksum);
  for (int64_t i = 0; i < iterations; ++i) {
    _Pragma("GCC unroll 12") for (int c = 0; c < kChains; ++c) chains[c] = chains[c] * ratio + step;
  }
  Vector total{};
  for (int c = 0; c < kChains; ++c) total += chains[c];
  *checksum = total[0];
  return 2.0 * kChains * kFloats * static_cast<double>(iterations);
}

}  // namespace

CpuKernels table(const char* name) {
  return {name,           kColumns,          multiply_rows,    multiply_packed,
          row_statistics, column_statistics, softmax_gradient, dot,
          screen,         screen_and_count,  fma_probe};
}

}  // namespace pyhbt::cpu::PYHBT_ISA
