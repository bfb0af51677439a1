// The inner loops on nibbles, the coarse form of codes: first looks of a few queries, and their encoding.
//   A level, plus 64, and a query's byte are a pair that all instructions for bytes multiply exactly: two products
//   are at most 2 * 127 * 127 < 2^15.
#pragma once

#include "code_products.h"

namespace pyhbt::cpu::PYHBT_ISA {
namespace {

constexpr int kLevelOffset = 64;  // of levels, which become unsigned bytes
static_assert(kVectorBytes <= kNibbleGroup && kNibbleGroup % kVectorBytes == 0);

// The levels in every 16 bytes of a vector.
inline IntVector level_table() {
  uint8_t bytes[kVectorBytes];
  for (int i = 0; i < kVectorBytes; ++i)
    bytes[i] = static_cast<uint8_t>(kNibbleLevels[i % 16] + kLevelOffset);
  return load_bytes(bytes);
}

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

template <int kQueries>
int64_t scan_nibbles_of(const CodedTile& tile, const NibbleQueries& queries, int32_t* hits) {
  const CorpusCodes& corpus = tile.corpus;
  const int64_t first = tile.first, stride = nibble_stride(tile.dim);
  const IntVector table = level_table(), half = splat_int(0x0f0f0f0f);
  int64_t count = 0;
  for (int64_t row = 0; row < tile.rows; row += kFloats) {
    const int64_t here = tile.rows - row < kFloats ? tile.rows - row : kFloats;
    int32_t sums[kQueries][kFloats] = {};
    for (int64_t r = 0; r < here; ++r) {
      const uint8_t* nibbles = corpus.nibbles + (first + row + r) * stride;
      IntVector products[kQueries] = {};
      for (int64_t at = 0; at < stride; at += kVectorBytes) {
        __builtin_prefetch(nibbles + at + kPrefetchBytes);
        const IntVector both = load_bytes(nibbles + at);
        const IntVector low = levels_at(table, both & half), high = levels_at(table, (both >> 4) & half);
        const int64_t number = at / kNibbleGroup * 2 * kNibbleGroup + at % kNibbleGroup;
        PYHBT_UNROLL for (int q = 0; q < kQueries; ++q) {
          const int8_t* t = queries.rows + q * 2 * stride + number;
          products[q] = add_products(products[q], low, load_bytes(t));
          products[q] = add_products(products[q], high, load_bytes(t + kNibbleGroup));
        }
      }
      PYHBT_UNROLL for (int q = 0; q < kQueries; ++q) sums[q][r] =
          sum_of_ints(products[q]) - kLevelOffset * queries.sum[q];
    }
    float terms[4][kFloats] = {};
    const int64_t passage = first + row;
    memcpy(terms[0], corpus.inverse_scale + passage, static_cast<size_t>(4 * here));
    memcpy(terms[1], corpus.along + passage, static_cast<size_t>(4 * here));
    memcpy(terms[2], corpus.code_norm + passage, static_cast<size_t>(4 * here));
    memcpy(terms[3], corpus.nibble_residual + passage, static_cast<size_t>(4 * here));
    const unsigned real = here < kFloats ? (1u << here) - 1 : ~0u;
    const Vector step = load(terms[2]) * queries.step;
    for (int q = 0; q < kQueries; ++q) {
      const Vector least = load(terms[0]) * queries.threshold[q] - load(terms[1]) * queries.along[q] -
                           load(terms[2]) * queries.code_factor[q] -
                           load(terms[3]) * queries.residual_factor[q];
      unsigned open = not_less(to_float(load_bytes(sums[q])) * step, least) & real;
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
