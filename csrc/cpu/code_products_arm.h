// Products of int8 codes on 64-bit ARM: signed queries t with signed passages k, both in -127..127 and in place.
//   - i8mm: SMMLA multiplies two passages by two queries, eight codes of each, into a 2 x 2 block of int32. Strips of
//     queries are [dim / 8][lane][8 bytes]; two halves of passages make the other operand.
//   - dotprod: SDOT adds four products to an int32 and takes a passage's quad by element, so that nothing is broadcast.
//     USDOT of i8mm would do the same for unsigned queries, and no more of it.
//   - Otherwise bytes are multiplied into int16, two of them are added there, |t k + t' k'| <= 2 * 127^2 < 2^15, and
//     SADALP adds pairs of these to an int32: three instructions for 16 products, where float32 takes four.
// Included by code_products.h.
#pragma once

namespace pyhbt::cpu::PYHBT_ISA {
namespace {

constexpr auto begin_tile = nullptr;

// sums += products of bytes of a and b, four to a lane, in some order.
inline IntVector add_products(IntVector sums, IntVector a, IntVector b) {
  const int8x16_t left = reinterpret_cast<int8x16_t>(a), right = reinterpret_cast<int8x16_t>(b);
  const int32x4_t before = reinterpret_cast<int32x4_t>(sums);
#if defined(PYHBT_CODES_SDOT) || defined(PYHBT_CODES_SMMLA)
  return reinterpret_cast<IntVector>(vdotq_s32(before, left, right));
#else
  const int16x8_t pairs = vmlal_high_s8(vmull_s8(vget_low_s8(left), vget_low_s8(right)), left, right);
  return reinterpret_cast<IntVector>(vpadalq_s16(before, pairs));
#endif
}

#if defined(PYHBT_CODES_SMMLA)

template <int kVectors>
__attribute__((noinline)) void multiply_codes(const CodeRows& rows, const CodedStrip& strip, int64_t groups,
                                              IntVector* out) {
  constexpr int kPairs = kCodeRows / 2, kBlocks = 2 * kVectors;
  static_assert(kCodeRows % 2 == 0, "passages in pairs");
  const int8_t* queries = reinterpret_cast<const int8_t*>(strip.bytes);
  int32x4_t sums[kPairs][kBlocks] = {};
  for (int64_t group = 0; group < groups; ++group, queries += kQueryGroup * kStrip) {
    int8x16_t left[kPairs];
    PYHBT_UNROLL for (int p = 0; p < kPairs; ++p) left[p] =
        vcombine_s8(vld1_s8(rows.codes[2 * p] + kQueryGroup * group),
                    vld1_s8(rows.codes[2 * p + 1] + kQueryGroup * group));
    PYHBT_UNROLL for (int b = 0; b < kBlocks; ++b) {
      const int8x16_t right = vld1q_s8(queries + b * kVectorBytes);
      PYHBT_UNROLL for (int p = 0; p < kPairs; ++p) sums[p][b] = vmmlaq_s32(sums[p][b], left[p], right);
    }
  }
  PYHBT_UNROLL for (int p = 0; p < kPairs; ++p) PYHBT_UNROLL for (int v = 0; v < kVectors; ++v) {
    const int64x2_t first = vreinterpretq_s64_s32(sums[p][2 * v]),
                    second = vreinterpretq_s64_s32(sums[p][2 * v + 1]);
    out[2 * p * kVectors + v] = reinterpret_cast<IntVector>(vzip1q_s64(first, second));
    out[(2 * p + 1) * kVectors + v] = reinterpret_cast<IntVector>(vzip2q_s64(first, second));
  }
}

#elif defined(PYHBT_CODES_SDOT)

// The sums of one quad, number kQuad of the four that left holds of each passage.
template <int kQuad, int kVectors>
inline __attribute__((always_inline)) void add_quad(const int8_t* queries, const int8x16_t* left,
                                                    int32x4_t (*sums)[kVectors]) {
  PYHBT_UNROLL for (int v = 0; v < kVectors; ++v) {
    const int8x16_t right = vld1q_s8(queries + (kQuad * kStripVectors + v) * kVectorBytes);
    PYHBT_UNROLL for (int r = 0; r < kCodeRows; ++r) sums[r][v] =
        vdotq_laneq_s32(sums[r][v], right, left[r], kQuad);
  }
}

template <int kVectors>
__attribute__((noinline)) void multiply_codes(const CodeRows& rows, const CodedStrip& strip, int64_t quads,
                                              IntVector* out) {
  const int8_t* queries = reinterpret_cast<const int8_t*>(strip.bytes);
  int32x4_t sums[kCodeRows][kVectors] = {};
  int8x16_t left[kCodeRows];
  int64_t quad = 0;
  for (; quad + 4 <= quads; quad += 4, queries += 4 * kStripVectors * kVectorBytes) {
    PYHBT_UNROLL for (int r = 0; r < kCodeRows; ++r) left[r] = vld1q_s8(rows.codes[r] + 4 * quad);
    add_quad<0>(queries, left, sums);
    add_quad<1>(queries, left, sums);
    add_quad<2>(queries, left, sums);
    add_quad<3>(queries, left, sums);
  }
  if (quad < quads) {  // a row of codes goes on, with zeros; the queries end
    PYHBT_UNROLL for (int r = 0; r < kCodeRows; ++r) left[r] = vld1q_s8(rows.codes[r] + 4 * quad);
    add_quad<0>(queries, left, sums);
    if (quad + 1 < quads) add_quad<1>(queries, left, sums);
    if (quad + 2 < quads) add_quad<2>(queries, left, sums);
  }
  PYHBT_UNROLL for (int r = 0; r < kCodeRows; ++r) PYHBT_UNROLL for (int v = 0; v < kVectors; ++v)
      out[r * kVectors + v] = reinterpret_cast<IntVector>(sums[r][v]);
}

#else

inline int8x16_t broadcast_quad(const int8_t* codes) {
  int32_t bytes;
  memcpy(&bytes, codes, sizeof bytes);
  return vreinterpretq_s8_s32(vdupq_n_s32(bytes));
}

// A vector of queries has two of sums, of two lanes each.
template <int kVectors>
__attribute__((noinline)) void multiply_codes(const CodeRows& rows, const CodedStrip& strip, int64_t quads,
                                              IntVector* out) {
  const int8_t* queries = reinterpret_cast<const int8_t*>(strip.bytes);
  int32x4_t low[kCodeRows][kVectors] = {}, high[kCodeRows][kVectors] = {};
  int64_t quad = 0;
  for (; quad + 2 <= quads; quad += 2, queries += 2 * kStripVectors * kVectorBytes) {
    int8x16_t left[kCodeRows][2];
    PYHBT_UNROLL for (int r = 0; r < kCodeRows; ++r) PYHBT_UNROLL for (int i = 0; i < 2; ++i) left[r][i] =
        broadcast_quad(rows.codes[r] + 4 * (quad + i));
    PYHBT_UNROLL for (int v = 0; v < kVectors; ++v) {
      const int8x16_t first = vld1q_s8(queries + v * kVectorBytes),
                      second = vld1q_s8(queries + (kStripVectors + v) * kVectorBytes);
      PYHBT_UNROLL for (int r = 0; r < kCodeRows; ++r) {
        const int16x8_t products = vmull_s8(vget_low_s8(first), vget_low_s8(left[r][0]));
        low[r][v] = vpadalq_s16(low[r][v], vmlal_s8(products, vget_low_s8(second), vget_low_s8(left[r][1])));
        high[r][v] =
            vpadalq_s16(high[r][v], vmlal_high_s8(vmull_high_s8(first, left[r][0]), second, left[r][1]));
      }
    }
  }
  if (quad < quads) {
    PYHBT_UNROLL for (int r = 0; r < kCodeRows; ++r) {
      const int8x16_t left = broadcast_quad(rows.codes[r] + 4 * quad);
      PYHBT_UNROLL for (int v = 0; v < kVectors; ++v) {
        const int8x16_t right = vld1q_s8(queries + v * kVectorBytes);
        low[r][v] = vpadalq_s16(low[r][v], vmull_s8(vget_low_s8(right), vget_low_s8(left)));
        high[r][v] = vpadalq_s16(high[r][v], vmull_high_s8(right, left));
      }
    }
  }
  PYHBT_UNROLL for (int r = 0; r < kCodeRows; ++r) PYHBT_UNROLL for (int v = 0; v < kVectors; ++v)
      out[r * kVectors + v] = reinterpret_cast<IntVector>(vpaddq_s32(low[r][v], high[r][v]));
}

#endif

}  // namespace
}  // namespace pyhbt::cpu::PYHBT_ISA
