// The inner loops on nibbles, the coarse form of codes: first looks of a few queries, and their encoding.
//   A level, plus 64, and a query's byte are a pair that all instructions for bytes multiply exactly: two products
//   are at most 2 * 127 * 127 < 2^15.
#pragma once

#include "code_products.h"

namespace pyhbt::cpu::PYHBT_ISA {
namespace {

constexpr int kLevelOffset = 64;  // of levels, which become unsigned bytes
static_assert(kVectorBytes <= kNibbleGroup && kNibbleGroup % kVectorBytes == 0);

// The levels in every 16 bytes of a vector; computed by the compiler, which would do it for every four rows otherwise.
struct LevelTable {
  alignas(64) uint8_t bytes[kVectorBytes] = {};
  constexpr LevelTable() {
    for (int i = 0; i < kVectorBytes; ++i)
      bytes[i] = static_cast<uint8_t>(kNibbleLevels[i % 16] + kLevelOffset);
  }
};
constexpr LevelTable kLevelTable;

// In each byte the table's entry of this place, 0..15.
inline IntVector levels_at(IntVector table, IntVector places) {
#if defined(__AVX512BW__) && PYHBT_VECTOR_FLOATS == 16
  return reinterpret_cast<IntVector>(
      _mm512_shuffle_epi8(reinterpret_cast<__m512i>(table), reinterpret_cast<__m512i>(places)));
#elif defined(__AVX2__) && PYHBT_VECTOR_FLOATS == 8
  return reinterpret_cast<IntVector>(
      _mm256_shuffle_epi8(reinterpret_cast<__m256i>(table), reinterpret_cast<__m256i>(places)));
#else
  uint8_t levels[kVectorBytes], at[kVectorBytes];
  memcpy(levels, &table, sizeof levels);
  memcpy(at, &places, sizeof at);
  for (uint8_t& byte : at) byte = levels[byte];
  return load_bytes(at);
#endif
}

// Indices of a shuffle of two vectors that does the same in all fours of lanes; F: the first lane of the second one.
#define PYHBT_ONE_FOUR(a, b, c, d, by) (a) + (by), (b) + (by), (c) + (by), (d) + (by)
#if PYHBT_VECTOR_FLOATS == 16
#define PYHBT_FOURS(a, b, c, d)                                                                \
  PYHBT_ONE_FOUR(a, b, c, d, 0), PYHBT_ONE_FOUR(a, b, c, d, 4), PYHBT_ONE_FOUR(a, b, c, d, 8), \
      PYHBT_ONE_FOUR(a, b, c, d, 12)
#elif PYHBT_VECTOR_FLOATS == 8
#define PYHBT_FOURS(a, b, c, d) PYHBT_ONE_FOUR(a, b, c, d, 0), PYHBT_ONE_FOUR(a, b, c, d, 4)
#else
#define PYHBT_FOURS(a, b, c, d) PYHBT_ONE_FOUR(a, b, c, d, 0)
#endif

// In each four of lanes, at i: the sum of those of x[i].
inline IntVector sums_in_fours(const IntVector* x) {
  constexpr int F = kFloats;
  const auto halves = [](IntVector a, IntVector b) {
    return __builtin_shufflevector(a, b, PYHBT_FOURS(0, F, 1, F + 1)) +
           __builtin_shufflevector(a, b, PYHBT_FOURS(2, F + 2, 3, F + 3));
  };
  const IntVector a = halves(x[0], x[1]), b = halves(x[2], x[3]);
  return __builtin_shufflevector(a, b, PYHBT_FOURS(0, 1, F, F + 1)) +
         __builtin_shufflevector(a, b, PYHBT_FOURS(2, 3, F + 2, F + 3));
}

#undef PYHBT_FOURS
#undef PYHBT_ONE_FOUR

// In the i-th four of lanes the sum of the fours of x[i].
inline IntVector sums_of_fours(const IntVector* x) {
#if PYHBT_VECTOR_FLOATS == 16
  const auto halves = [](IntVector a, IntVector b) {
    return __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23) +
           __builtin_shufflevector(a, b, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
  };
  const IntVector a = halves(x[0], x[1]), b = halves(x[2], x[3]);
  return __builtin_shufflevector(a, b, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27) +
         __builtin_shufflevector(a, b, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
#elif PYHBT_VECTOR_FLOATS == 8
  return __builtin_shufflevector(x[0], x[1], 0, 1, 2, 3, 8, 9, 10, 11) +
         __builtin_shufflevector(x[0], x[1], 4, 5, 6, 7, 12, 13, 14, 15);
#else
  return x[0];
#endif
}

// Rows that are multiplied side by side, so that registers hold their sums: of four, or fewer.
template <int kQueries>
constexpr int kNibbleRows = kFloats == 16   ? 4
                            : kQueries == 1 ? 4
                            : kQueries == 2 ? 2
                                            : 1;

// out[q]: the products of four rows with query q, in parts: their sums are in fours of lanes.
template <int kQueries>
inline __attribute__((always_inline)) void multiply_nibbles(const uint8_t* const* rows, int64_t stride,
                                                            const NibbleQueries& queries, IntVector* out) {
  constexpr int kRows = kNibbleRows<kQueries>;
  const IntVector table = load_bytes(kLevelTable.bytes), half = splat_int(0x0f0f0f0f);
  IntVector parts[kQueries][4];
  for (int row = 0; row < 4; row += kRows) {
    IntVector products[kRows][kQueries] = {};
    for (int64_t at = 0; at < stride; at += kVectorBytes) {
      const int8_t* t = queries.rows + at / kNibbleGroup * 2 * kNibbleGroup + at % kNibbleGroup;
      PYHBT_UNROLL for (int r = 0; r < kRows; ++r) {
        __builtin_prefetch(rows[row + r] + at + kPrefetchBytes);
        const IntVector both = load_bytes(rows[row + r] + at);
        const IntVector low = levels_at(table, both & half), high = levels_at(table, (both >> 4) & half);
        PYHBT_UNROLL for (int q = 0; q < kQueries; ++q) {
          const int8_t* numbers = t + q * 2 * stride;
          products[r][q] = add_products(products[r][q], low, load_bytes(numbers));
          products[r][q] = add_products(products[r][q], high, load_bytes(numbers + kNibbleGroup));
        }
      }
    }
    PYHBT_UNROLL for (int r = 0; r < kRows; ++r) PYHBT_UNROLL for (int q = 0; q < kQueries; ++q)
        parts[q][row + r] = products[r][q];
  }
  PYHBT_UNROLL for (int q = 0; q < kQueries; ++q) out[q] = sums_in_fours(parts[q]);
}

template <int kQueries>
int64_t scan_nibbles_of(const CodedTile& tile, const NibbleQueries& queries, int32_t* hits) {
  const CorpusCodes& corpus = tile.corpus;
  const int64_t stride = nibble_stride(tile.dim);
  int64_t count = 0;
  for (int64_t row = 0; row < tile.rows; row += kFloats) {
    const int64_t here = tile.rows - row < kFloats ? tile.rows - row : kFloats, passage = tile.first + row;
    IntVector parts[kQueries][kFloats / 4];
    for (int64_t r = 0; r < kFloats; r += 4) {
      const uint8_t* rows[4];  // beyond the last it is repeated
      for (int64_t i = 0; i < 4; ++i)
        rows[i] = corpus.nibbles + (passage + (r + i < here ? r + i : here - 1)) * stride;
      IntVector products[kQueries];
      multiply_nibbles<kQueries>(rows, stride, queries, products);
      PYHBT_UNROLL for (int q = 0; q < kQueries; ++q) parts[q][r / 4] = products[q];
    }
    const Vector scale = load_first(corpus.inverse_scale + passage, here);
    const Vector along = load_first(corpus.along + passage, here);
    const Vector code_norm = load_first(corpus.code_norm + passage, here);
    const Vector residual = load_first(corpus.nibble_residual + passage, here);
    const Vector step = code_norm * queries.step;
    const unsigned real = here < kFloats ? (1u << here) - 1 : ~0u;
    PYHBT_UNROLL for (int q = 0; q < kQueries; ++q) {
      const Vector least = scale * queries.threshold[q] - along * queries.along[q] -
                           code_norm * queries.code_factor[q] - residual * queries.residual_factor[q];
      const Vector sum = to_float(sums_of_fours(parts[q]) - kLevelOffset * queries.sum[q]);
      unsigned open = not_less(sum * step, least) & real;
      for (; open != 0; open &= open - 1)
        hits[count++] = static_cast<int32_t>((row + __builtin_ctz(open)) * kStrip + q);
    }
  }
  return count;
}

int64_t scan_nibbles(const CodedTile& tile, const NibbleQueries& queries, int32_t* hits) {
  static_assert(kFewQueries == 4);
  switch (queries.count) {
    case 1:
      return scan_nibbles_of<1>(tile, queries, hits);
    case 2:
      return scan_nibbles_of<2>(tile, queries, hits);
    case 3:
      return scan_nibbles_of<3>(tile, queries, hits);
    default:
      return scan_nibbles_of<4>(tile, queries, hits);
  }
}

// Of hits the ones that codes leave open too, as scan_codes; they are moved to the front. Beyond what the first look
// has read, only rows of codes are: their sum is added up again, and most_residual is no less than any residual_norm.
int64_t check_hits(const CodedTile& tile, const CodedStrip& strip, float most_residual, int32_t* hits,
                   int64_t count) {
  const CorpusCodes& corpus = tile.corpus;
  const int64_t stride = code_stride(tile.dim);
  const IntVector offset = splat_int(static_cast<int32_t>(kRowOffset * 0x01010101u));
  int64_t kept = 0;
  for (int64_t h = 0; h < count; h += 4) {
    IntVector products[4] = {}, offsets[4] = {};
    int32_t at[4];  // beyond the last it is repeated
    const int8_t* codes[4];
    const uint8_t* rows[4];
    PYHBT_UNROLL for (int i = 0; i < 4; ++i) {
      at[i] = hits[h + i < count ? h + i : count - 1];
      codes[i] = corpus.codes + (tile.first + at[i] / kStrip) * stride;
      rows[i] = strip.rows + at[i] % kStrip * stride;
    }
    for (int64_t byte = 0; byte < stride; byte += kVectorBytes) {
      PYHBT_UNROLL for (int i = 0; i < 4; ++i) {
        const IntVector right = load_bytes(codes[i] + byte);
        products[i] = add_products(products[i], load_bytes(rows[i] + byte), right);
        offsets[i] = add_products(offsets[i], offset, right);
      }
    }
    PYHBT_UNROLL for (int i = 0; i < 4; ++i) products[i] -= offsets[i];
    const IntVector fours = sums_in_fours(products);
    for (int i = 0; i < 4 && h + i < count; ++i) {
      const int64_t passage = tile.first + at[i] / kStrip, q = at[i] % kStrip;
      int32_t sum = 0;
      PYHBT_UNROLL for (int four = 0; four < kFloats; four += 4) sum += fours[four + i];
      const float least =
          corpus.inverse_scale[passage] * strip.threshold[q] - corpus.along[passage] * strip.along[q] -
          corpus.code_norm[passage] * strip.code_factor[q] - most_residual * strip.residual_factor[q];
      if (!(static_cast<float>(sum) < least)) hits[kept++] = at[i];  // a NaN is open
    }
  }
  return kept;
}

// The nearest level to each number of inverse_scale * x, in units of step, as nibbles; and what is measured of
// them. places (2 nibble_stride(dim),) is scratch, zeros beyond dim.
EncodedNibbles encode_nibbles(const float* x, float inverse_scale, float step, int64_t dim, uint8_t* places,
                              uint8_t* nibbles) {
  const int* levels = kNibbleLevels + 8;  // those above zero
  float borders[7];                       // between one and the next
  for (int i = 0; i < 7; ++i) borders[i] = 0.5f * static_cast<float>(levels[i] + levels[i + 1]) * step;
  Vector level_squares{}, residuals{};
  int64_t i = 0;
  for (; i + kFloats <= dim; i += kFloats) {
    const Vector v = load(x + i) * inverse_scale, size = v < 0.0f ? -v : v;
    Vector level = splat(static_cast<float>(levels[0]));
    IntVector place{};
    PYHBT_UNROLL for (int border = 0; border < 7; ++border) {
      const IntVector above = size > splat(borders[border]);
      level += above ? splat(static_cast<float>(levels[border + 1] - levels[border])) : Vector{};
      place -= above;  // a true lane is -1
    }
    place = v < 0.0f ? 7 - place : 8 + place;
    const Vector residual = size - level * step;
    level_squares += level * level;
    residuals += residual * residual;
    typedef uint8_t Bytes __attribute__((vector_size(kFloats)));
    const Bytes bytes = __builtin_convertvector(place, Bytes);
    memcpy(places + i, &bytes, sizeof bytes);
  }
  EncodedNibbles out{sum_of_lanes(level_squares), sum_of_lanes(residuals)};
  for (; i < dim; ++i) {
    const float v = x[i] * inverse_scale, size = v < 0 ? -v : v;
    int place = 0;
    for (const float border : borders) place += size > border ? 1 : 0;
    const float level = static_cast<float>(levels[place]), residual = size - level * step;
    out.level_square += level * level;
    out.residual_square += residual * residual;
    places[i] = static_cast<uint8_t>(v < 0 ? 7 - place : 8 + place);
  }
  for (int64_t at = 0; at < nibble_stride(dim); at += kVectorBytes) {
    const uint8_t* from = places + at / kNibbleGroup * 2 * kNibbleGroup + at % kNibbleGroup;
    const IntVector both = load_bytes(from) | load_bytes(from + kNibbleGroup) << 4;
    memcpy(nibbles + at, &both, sizeof both);
  }
  return out;
}

}  // namespace
}  // namespace pyhbt::cpu::PYHBT_ISA
