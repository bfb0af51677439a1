// The inner loops of search and ranks: exact dot products, and screening of score tiles by error bounds.
#pragma once

#include "tile_kernels.h"

namespace pyhbt::cpu::PYHBT_ISA {
namespace {

#if defined(__AVX512F__) && PYHBT_VECTOR_FLOATS == 16
constexpr int kDoubles = 8;
#elif defined(__AVX__)
constexpr int kDoubles = 4;
#else
constexpr int kDoubles = 2;
#endif

typedef double DoubleVector __attribute__((vector_size(8 * kDoubles)));

inline DoubleVector load_widened(const float* x) {
#if defined(__AVX512F__) && PYHBT_VECTOR_FLOATS == 16
  return _mm512_maskz_cvtps_pd(0xff, _mm256_loadu_ps(x));  // unmasked, GCC 12 warns of its own header
#elif defined(__AVX__)
  return _mm256_cvtps_pd(_mm_loadu_ps(x));  // GCC 12 makes four instructions of the generic form
#elif defined(PYHBT_NEON)
  return reinterpret_cast<DoubleVector>(vcvt_f64_f32(vld1_f32(x)));
#else
  return DoubleVector{static_cast<double>(x[0]), static_cast<double>(x[1])};
#endif
}

double dot(const float* a, const float* b, int64_t dim) {
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

// The same for kDots pairs at once: one alone waits for its own additions.
void dots(const float* const* a, const float* const* b, int64_t dim, double* out) {
  constexpr int kLanes = 8, kVectors = kLanes / kDoubles;
  DoubleVector sums[kDots][kVectors] = {};
  int64_t i = 0;
  for (; i + kLanes <= dim; i += kLanes) {
    PYHBT_UNROLL for (int r = 0; r < kDots; ++r) PYHBT_UNROLL for (int v = 0; v < kVectors; ++v) sums[r][v] +=
        load_widened(a[r] + i + v * kDoubles) * load_widened(b[r] + i + v * kDoubles);
  }
  for (int r = 0; r < kDots; ++r) {
    double lanes[kLanes];
    memcpy(lanes, sums[r], sizeof lanes);
    for (int64_t j = i; j < dim; ++j)
      lanes[j - i] += static_cast<double>(a[r][j]) * static_cast<double>(b[r][j]);
    out[r] =
        ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])) + ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7]));
  }
}

void dots_of_row(const float* const* a, const double* b, int64_t dim, double* out) {
  constexpr int kLanes = 8, kVectors = kLanes / kDoubles;
  typedef double LooseDoubles __attribute__((vector_size(8 * kDoubles), aligned(8), may_alias));
  DoubleVector sums[kDots][kVectors] = {};
  int64_t i = 0;
  for (; i + kLanes <= dim; i += kLanes) {
    DoubleVector right[kVectors];
    PYHBT_UNROLL for (int v = 0; v < kVectors; ++v) right[v] =
        *reinterpret_cast<const LooseDoubles*>(b + i + v * kDoubles);
    PYHBT_UNROLL for (int r = 0; r < kDots; ++r) PYHBT_UNROLL for (int v = 0; v < kVectors; ++v) sums[r][v] +=
        load_widened(a[r] + i + v * kDoubles) * right[v];
  }
  for (int r = 0; r < kDots; ++r) {
    double lanes[kLanes];
    memcpy(lanes, sums[r], sizeof lanes);
    for (int64_t j = i; j < dim; ++j) lanes[j - i] += static_cast<double>(a[r][j]) * b[j];
    out[r] =
        ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])) + ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7]));
  }
}

void widen_doubles(const float* x, int64_t count, double* out) {
  for (int64_t i = 0; i < count; ++i) out[i] = static_cast<double>(x[i]);
}

// Bit i: lane i of a comparison is true.
inline unsigned bits_of(IntVector mask) {
#if defined(PYHBT_NEON)
  const uint64_t lanes =  // 16 bits each
      vget_lane_u64(vreinterpret_u64_u16(vshrn_n_u32(reinterpret_cast<uint32x4_t>(mask), 16)), 0);
  return static_cast<unsigned>((lanes & 0x0008000400020001u) * 0x0001000100010001u >> 48);
#else
  int32_t lanes[kFloats];
  memcpy(lanes, &mask, sizeof lanes);
  unsigned bits = 0;
  for (int lane = 0; lane < kFloats; ++lane) bits |= (static_cast<unsigned>(lanes[lane]) & 1u) << lane;
  return bits;
#endif
}

// Bit i: not a[i] < b[i], which is also true for a NaN.
inline unsigned not_less(Vector a, Vector b) {
#if defined(__AVX512F__) && PYHBT_VECTOR_FLOATS == 16
  return _mm512_cmp_ps_mask(reinterpret_cast<__m512>(a), reinterpret_cast<__m512>(b), _CMP_NLT_UQ);
#elif defined(__AVX__) && PYHBT_VECTOR_FLOATS == 8
  return static_cast<unsigned>(_mm256_movemask_ps(
      _mm256_cmp_ps(reinterpret_cast<__m256>(a), reinterpret_cast<__m256>(b), _CMP_NLT_UQ)));
#else
  const IntVector mask = ~(a < b);
  return bits_of(mask);
#endif
}

// Bit i: not a[i] > b[i], which is also true for a NaN.
inline unsigned not_greater(Vector a, Vector b) {
#if defined(__AVX512F__) && PYHBT_VECTOR_FLOATS == 16
  return _mm512_cmp_ps_mask(reinterpret_cast<__m512>(a), reinterpret_cast<__m512>(b), _CMP_NGT_UQ);
#elif defined(__AVX__) && PYHBT_VECTOR_FLOATS == 8
  return static_cast<unsigned>(_mm256_movemask_ps(
      _mm256_cmp_ps(reinterpret_cast<__m256>(a), reinterpret_cast<__m256>(b), _CMP_NGT_UQ)));
#else
  const IntVector mask = ~(a > b);
  return bits_of(mask);
#endif
}

// Bit i: lane i of a comparison is true.
inline unsigned true_lanes(IntVector mask) {
#if defined(__AVX512F__) && PYHBT_VECTOR_FLOATS == 16
  return _mm512_test_epi32_mask(reinterpret_cast<__m512i>(mask), reinterpret_cast<__m512i>(mask));
#elif defined(__AVX__) && PYHBT_VECTOR_FLOATS == 8
  return static_cast<unsigned>(_mm256_movemask_ps(reinterpret_cast<__m256>(mask)));
#else
  return bits_of(mask);
#endif
}

inline IntVector splat_int(int32_t x) { return x - IntVector{}; }
inline IntVector load_ints(const int32_t* x) {
  IntVector v;
  memcpy(&v, x, sizeof v);
  return v;
}

inline int64_t append_bits(unsigned bits, int64_t position, int64_t count, int32_t* hits) {
  for (; bits != 0; bits &= bits - 1) hits[count++] = static_cast<int32_t>(position + __builtin_ctz(bits));
  return count;
}

// tile (rows, kStrip) of float32 scores.
// Comparisons are written so that a NaN, from an overflow in float32, counts as undecided.
int64_t screen(const float* tile, int64_t rows, const float* norms, const StripBounds& bounds,
               int32_t* hits) {
  int64_t count = 0;
  for (int part = 0; part < kStrip; part += kFloats) {
    const Vector error = load(bounds.error + part), low = load(bounds.low + part);
    for (int64_t r = 0; r < rows; ++r) {
      const unsigned open = not_less(load(tile + r * kStrip + part) + error * norms[r], low);
      if (__builtin_expect(open != 0, 0)) count = append_bits(open, r * kStrip + part, count, hits);
    }
  }
  return count;
}

// tile (rows, kStrip); out[lane] = a number that at least rank + 1 of the rows reach, and few more, for lanes
// that hold queries: bisection in all lanes of a vector at once.
void upper_quantiles(const float* tile, int64_t rows, int64_t lanes, int64_t rank, float* out) {
  constexpr int kSteps = 13;
  for (int part = 0; part < lanes; part += kFloats) {
    Vector low = load(tile + part), high = low;
    for (int64_t r = 1; r < rows; ++r) {
      const Vector x = load(tile + r * kStrip + part);
      low = x < low ? x : low;
      high = larger(high, x);
    }
    for (int step = 0; step < kSteps; ++step) {
      const Vector middle = low + (high - low) * 0.5f;
      IntVector below_count{};  // minus the rows that reach the middle
      for (int64_t r = 0; r < rows; ++r) below_count += load(tile + r * kStrip + part) >= middle;
      const IntVector enough = below_count < splat_int(static_cast<int32_t>(-rank));
      low = enough ? middle : low;
      high = enough ? high : middle;
    }
    store(out + part, low);
  }
}

// In lane i the number of target at[i], where low or high of the first target's bounds is x.
inline Vector bounds_at(const float* x, IntVector at) {
  constexpr int kStride = sizeof(RankBounds) / sizeof(float);
  IntVector lane;
  for (int i = 0; i < kFloats; ++i) lane[i] = i;
  const IntVector places = at * kStride + lane;
#if defined(__AVX512F__) && PYHBT_VECTOR_FLOATS == 16
  return reinterpret_cast<Vector>(_mm512_mask_i32gather_ps(  // unmasked, GCC 12 warns of its own header
      _mm512_setzero_ps(), 0xffff, reinterpret_cast<__m512i>(places), x, 4));
#elif defined(__AVX2__) && PYHBT_VECTOR_FLOATS == 8
  return reinterpret_cast<Vector>(_mm256_i32gather_ps(x, reinterpret_cast<__m256i>(places), 4));
#else
  Vector found;
  for (int i = 0; i < kFloats; ++i) found[i] = x[places[i]];
  return found;
#endif
}

// As count_against, of many targets: the place of each score among them is counted in a register.
inline int64_t place_among(Vector lower, Vector upper, float scale, int64_t row, int part,
                           const RankCounting& counting, RankHit* hits, int64_t found) {
  constexpr int64_t kStride = sizeof(RankBounds) / sizeof(float);
  constexpr int kAtOnce = 8;
  const int64_t targets = counting.targets;
  const float *low = counting.bounds->low + part, *high = counting.bounds->high + part;
  IntVector place{};  // how many targets the score is certainly above
  int64_t first = 0;
  while (first + kAtOnce <= targets) {
    const IntVector before = place;
    PYHBT_UNROLL for (int t = 0; t < kAtOnce; ++t) place -=
        lower > load(high + (first + t) * kStride) * scale;
    first = true_lanes(place != before) != 0 ? first + kAtOnce : targets;  // none: nor above a higher target
  }
  for (; first < targets; ++first) place -= lower > load(high + first * kStride) * scale;
  int32_t places[kFloats], nowhere = 0;
  memcpy(places, &place, sizeof places);
  PYHBT_UNROLL for (int i = 0; i < kFloats; ++i) {
    int32_t* counted = counting.counts + (places[i] - 1) * int64_t{kMaxStrip} + part + i;
    ++*(places[i] > 0 ? counted : &nowhere);
  }
  for (IntVector t = place;; t += 1) {
    const IntVector inside = t < splat_int(static_cast<int32_t>(targets));
    const Vector least = bounds_at(low, inside ? t : IntVector{}) * scale;
    const unsigned open = true_lanes(inside & ~(upper < least));  // a NaN is open
    if (open == 0) return found;                                  // targets rise: it is below all others too
    for (unsigned bits = open; bits != 0; bits &= bits - 1) {
      const int lane = __builtin_ctz(bits);
      hits[found++] = {static_cast<int16_t>(row), static_cast<int16_t>(part + lane), t[lane]};
    }
  }
}

// Places one vector of scores, each in lower..upper, against every target: what is certainly above one is
// counted, what is undecided becomes a hit. Returns the number of hits.
inline int64_t count_against(Vector lower, Vector upper, float scale, int64_t row, int part,
                             const RankCounting& counting, RankHit* hits, int64_t found) {
  if (counting.penalties != nullptr && counting.penalties[row] != nullptr) {
    const Vector penalty = load(counting.penalties[row] + part);
    lower += penalty;
    upper += penalty;
  }
  if (counting.targets >= kManyTargets)
    return place_among(lower, upper, scale, row, part, counting, hits, found);
  for (int64_t t = 0; t < counting.targets; ++t) {
    const RankBounds& bounds = counting.bounds[t];
    const unsigned reached = not_less(upper, load(bounds.low + part) * scale);
    if (reached == 0) return found;  // targets rise: it is below all others too
    const IntVector above = lower > load(bounds.high + part) * scale;
    const unsigned open = reached & not_greater(lower, load(bounds.high + part) * scale);
    int32_t* counts = counting.counts + t * kMaxStrip + part;
    IntVector sums = load_ints(counts);
    sums -= above;  // a true lane is -1
    memcpy(counts, &sums, sizeof sums);
    for (unsigned bits = open; bits != 0; bits &= bits - 1)
      hits[found++] = {static_cast<int16_t>(row), static_cast<int16_t>(part + __builtin_ctz(bits)),
                       static_cast<int32_t>(t)};
  }
  return found;
}

int64_t screen_and_count(const float* tile, int64_t rows, const float* norms, const float* errors,
                         const RankCounting& counting, RankHit* hits) {
  int64_t found = 0;
  for (int part = 0; part < kStrip; part += kFloats) {
    const Vector error = load(errors + part);
    for (int64_t r = 0; r < rows; ++r) {
      const Vector score = load(tile + r * kStrip + part), slack = error * norms[r];
      found = count_against(score - slack, score + slack, 1.0f, r, part, counting, hits, found);
    }
  }
  return found;
}

}  // namespace
}  // namespace pyhbt::cpu::PYHBT_ISA
