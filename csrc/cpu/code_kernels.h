// The inner loops on int8 codes: estimates of scores, and screening and counting by them.
#pragma once

#include "code_products.h"

namespace pyhbt::cpu::PYHBT_ISA {
namespace {

constexpr int kNarrowVectors = kStripVectors == 6 ? 3 : 1;  // of a strip with few queries

// Calls each(r, v, products) for the passages of a tile against a strip.
template <int kVectors, typename Each>
inline __attribute__((always_inline)) void for_products(const CodedTile& tile, const CodedStrip& strip,
                                                        Each each) {
  const int64_t stride = code_stride(tile.dim), groups = (tile.dim + kQueryGroup - 1) / kQueryGroup;
  const int8_t* codes = tile.copy != nullptr ? tile.copy : tile.corpus.codes + tile.first * stride;
  for (int64_t row = 0; row < tile.rows; row += kCodeRows) {
    const int64_t here = tile.rows - row < kCodeRows ? tile.rows - row : kCodeRows;
    CodeRows rows;
    for (int64_t r = 0; r < kCodeRows; ++r) {
      const int64_t at = row + (r < here ? r : here - 1);
      rows.codes[r] = codes + at * stride;
      rows.code_sum[r] = tile.corpus.code_sum[tile.first + at];
    }
    if (tile.copy == nullptr)
      for (int64_t at = 0; at < kCodeRows * stride; at += 64)
        __builtin_prefetch(rows.codes[0] + kPrefetchBytes + at, 0, 2);
    IntVector products[kCodeRows * kVectors];
    multiply_codes<kVectors>(rows, strip, groups, products);
    PYHBT_UNROLL for (int v = 0; v < kVectors; ++v) PYHBT_UNROLL for (int r = 0; r < kCodeRows; ++r) {
      if (r < here) each(row + r, v, products[r * kVectors + v]);
    }
  }
}

// kPairs: wanted (rows,) is what each passage wants, as CodedStrip has it.
template <int kVectors, bool kPairs>
int64_t screen_codes_of(const CodedTile& tile, const CodedStrip& strip, const float* wanted, int32_t* hits) {
  const CorpusCodes& corpus = tile.corpus;
  Vector threshold[kVectors], along[kVectors], code_factor[kVectors], residual_factor[kVectors];
  PYHBT_UNROLL for (int v = 0; v < kVectors; ++v) {
    threshold[v] = load(strip.threshold + v * kFloats);
    along[v] = load(strip.along + v * kFloats);
    code_factor[v] = load(strip.code_factor + v * kFloats);
    residual_factor[v] = load(strip.residual_factor + v * kFloats);
  }
  int64_t count = 0;
  for_products<kVectors>(tile, strip, [&](int64_t r, int v, IntVector products) {
    const int64_t passage = tile.first + r;
    Vector score = threshold[v];
    if (kPairs) {
      const Vector other =
          load(strip.pair_factor + v * kFloats) * wanted[r] + load(strip.pair_base + v * kFloats);
      score =
          other < score ? other : score;  // of a NaN, which only lanes beyond the block have, the threshold
    }
    const Vector least = score * corpus.inverse_scale[passage] - along[v] * corpus.along[passage] -
                         code_factor[v] * corpus.code_norm[passage] -
                         residual_factor[v] * corpus.residual_norm[passage];
    const unsigned open = not_less(to_float(products), least);
    if (__builtin_expect(open != 0, 0)) count = append_bits(open, r * kStrip + v * kFloats, count, hits);
  });
  return count;
}

int64_t screen_codes(const CodedTile& tile, const CodedStrip& strip, int32_t* hits) {
  if (kStripVectors > kNarrowVectors && strip.lanes <= kNarrowVectors * kFloats)
    return screen_codes_of<kNarrowVectors, false>(tile, strip, nullptr, hits);
  return screen_codes_of<kStripVectors, false>(tile, strip, nullptr, hits);
}

int64_t screen_pairs(const CodedTile& tile, const CodedStrip& strip, const float* wanted, int32_t* hits) {
  return screen_codes_of<kStripVectors, true>(tile, strip, wanted, hits);
}

template <int kVectors>
void estimate_codes_of(const CodedTile& tile, const CodedStrip& strip, float* out) {
  const CorpusCodes& corpus = tile.corpus;
  for_products<kVectors>(tile, strip, [&](int64_t r, int v, IntVector products) {
    const int64_t passage = tile.first + r;
    const Vector sum = to_float(products) + load(strip.along + v * kFloats) * corpus.along[passage];
    store(out + r * kStrip + v * kFloats, sum * (1.0f / corpus.inverse_scale[passage]));
  });
}

// out (rows, kStrip) = estimated scores times the query's scale, in the lanes that hold queries.
void estimate_codes(const CodedTile& tile, const CodedStrip& strip, float* out) {
  if (kStripVectors > kNarrowVectors && strip.lanes <= kNarrowVectors * kFloats)
    return estimate_codes_of<kNarrowVectors>(tile, strip, out);
  return estimate_codes_of<kStripVectors>(tile, strip, out);
}

int64_t count_codes(const CodedTile& tile, const CodedStrip& strip, const RankCounting& bounds,
                    RankHit* hits) {
  const CorpusCodes& corpus = tile.corpus;
  int64_t found = 0;
  for_products<kStripVectors>(tile, strip, [&](int64_t r, int v, IntVector products) {
    const int64_t passage = tile.first + r;
    const int part = v * kFloats;
    const Vector middle = to_float(products) + load(strip.along + part) * corpus.along[passage];
    const Vector slack = load(strip.code_factor + part) * corpus.code_norm[passage] +
                         load(strip.residual_factor + part) * corpus.residual_norm[passage];
    const float scale = corpus.inverse_scale[passage];
    found = count_against(middle - slack, middle + slack, scale, r, part, bounds, hits, found);
  });
  return found;
}

template <int kLanes>
int64_t scan_codes_of(const CodedTile& tile, const CodedStrip& strip, int32_t* hits) {
  const CorpusCodes& corpus = tile.corpus;
  const int64_t first = tile.first, rows = tile.rows, stride = code_stride(tile.dim);
  int64_t count = 0;
  for (int64_t row = 0; row < rows; row += kFloats) {
    const int64_t here = rows - row < kFloats ? rows - row : kFloats;
    int32_t sums[kLanes][kFloats] = {};
    for (int64_t r = 0; r < here; ++r) {
      const int8_t* codes = corpus.codes + (first + row + r) * stride;
      IntVector products[kLanes] = {};
      for (int64_t at = 0; at < stride; at += kVectorBytes) {
        __builtin_prefetch(codes + at + kPrefetchBytes);
        const IntVector right = load_bytes(codes + at);
        PYHBT_UNROLL for (int q = 0; q < kLanes; ++q) products[q] =
            add_products(products[q], load_bytes(strip.rows + q * stride + at), right);
#if defined(PYHBT_NEON)  // one prefetch for four vectors
        for (const int64_t last = at + 3 * kVectorBytes; at < last;) {
          at += kVectorBytes;
          const IntVector next = load_bytes(codes + at);
          PYHBT_UNROLL for (int q = 0; q < kLanes; ++q) products[q] =
              add_products(products[q], load_bytes(strip.rows + q * stride + at), next);
        }
#endif
      }
      const int32_t offset = kRowOffset * corpus.code_sum[first + row + r];
      PYHBT_UNROLL for (int q = 0; q < kLanes; ++q) sums[q][r] = sum_of_ints(products[q]) - offset;
    }
    const int64_t passage = first + row;
    const Vector scale = load_first(corpus.inverse_scale + passage, here);
    const Vector along = load_first(corpus.along + passage, here);
    const Vector code_norm = load_first(corpus.code_norm + passage, here);
    const Vector residual = load_first(corpus.residual_norm + passage, here);
    const unsigned real = here < kFloats ? (1u << here) - 1 : ~0u;
    for (int q = 0; q < kLanes; ++q) {
      const Vector least = scale * strip.threshold[q] - along * strip.along[q] -
                           code_norm * strip.code_factor[q] - residual * strip.residual_factor[q];
      unsigned open = not_less(to_float(load_bytes(sums[q])), least) & real;
      for (; open != 0; open &= open - 1)
        hits[count++] = static_cast<int32_t>((row + __builtin_ctz(open)) * kStrip + q);
    }
  }
  return count;
}

// Screening for a few queries: vectors run along the codes, since one read of the corpus is what costs.
int64_t scan_codes(const CodedTile& tile, const CodedStrip& strip, int32_t* hits) {
  static_assert(kFewQueries == 4);
  switch (strip.lanes) {
    case 1:
      return scan_codes_of<1>(tile, strip, hits);
    case 2:
      return scan_codes_of<2>(tile, strip, hits);
    case 3:
      return scan_codes_of<3>(tile, strip, hits);
    default:
      return scan_codes_of<4>(tile, strip, hits);
  }
}

// Sum of query[i] * codes[i]; the caller sees to it that no int32 overflows.
int32_t dot_codes(const int16_t* query, const int8_t* codes, int64_t stride) {
  int64_t i = 0;
  int32_t rest = 0;
#if defined(__AVX512BW__) && PYHBT_VECTOR_FLOATS == 16
  __m512i sums[2] = {_mm512_setzero_si512(), _mm512_setzero_si512()};
  for (; i + 64 <= stride; i += 64) {
    for (int half = 0; half < 2; ++half) {
      const __m512i wide =
          _mm512_cvtepi8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes + i + 32 * half)));
      sums[half] =
          _mm512_add_epi32(sums[half], _mm512_madd_epi16(_mm512_loadu_si512(query + i + 32 * half), wide));
    }
  }
  rest = sum_of_ints(reinterpret_cast<IntVector>(_mm512_add_epi32(sums[0], sums[1])));
#elif defined(__AVX2__)
  __m256i sums[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
  for (; i + 32 <= stride; i += 32) {
    for (int half = 0; half < 2; ++half) {
      const __m256i wide =
          _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(codes + i + 16 * half)));
      const __m256i left = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(query + i + 16 * half));
      sums[half] = _mm256_add_epi32(sums[half], _mm256_madd_epi16(left, wide));
    }
  }
  int32_t lanes[8];
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(lanes), _mm256_add_epi32(sums[0], sums[1]));
  for (const int32_t lane : lanes) rest += lane;
#elif defined(PYHBT_NEON)
  int32x4_t sums[4] = {};
  for (; i + 16 <= stride; i += 16) {
    const int8x16_t right = vld1q_s8(codes + i);
    const int16x8_t low = vmovl_s8(vget_low_s8(right)), high = vmovl_high_s8(right);
    const int16x8_t left_low = vld1q_s16(query + i), left_high = vld1q_s16(query + i + 8);
    sums[0] = vmlal_s16(sums[0], vget_low_s16(left_low), vget_low_s16(low));
    sums[1] = vmlal_high_s16(sums[1], left_low, low);
    sums[2] = vmlal_s16(sums[2], vget_low_s16(left_high), vget_low_s16(high));
    sums[3] = vmlal_high_s16(sums[3], left_high, high);
  }
  rest = vaddvq_s32(vaddq_s32(vaddq_s32(sums[0], sums[1]), vaddq_s32(sums[2], sums[3])));
#endif
  for (; i < stride; ++i) rest += query[i] * codes[i];
  return rest;
}

}  // namespace
}  // namespace pyhbt::cpu::PYHBT_ISA
