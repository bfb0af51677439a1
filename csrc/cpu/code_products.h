// Products of int8 codes: a few passages at a time with a strip of queries.
//   Every sum is an exact integer. A strip of queries is [dim / kQueryGroup][lane][kQueryGroup bytes].
//   - VNNI adds the products of four pairs of bytes, of unsigned queries t + kStripOffset and signed passages k, to
//     an int32: one instruction. Passages are read in place.
//   - Elsewhere on x86 pairs of products are summed in int16. Passages are copied as unsigned bytes k + 128, a
//     tile at a time (begin_tile), queries are signed and have 7 bits, lest a pair of products overflow. The
//     sums of kChunkQuads such pairs are added in int16 before they are widened: the offset of the passages may
//     wrap around and is taken off by what the sum starts from; what is left, t . k over one int16 of a chunk,
//     fits because no query has more than kMostLaneSum of |t| there.
//   - 64-bit ARM multiplies signed bytes by signed ones: code_products_arm.h.
//   - The rest adds products one by one.
// The loops of the first two are written so that compilers keep all accumulators in registers: GCC 12, left alone,
// moves the multiplications ahead and spills, and loses a third of the speed.
#pragma once

#include "screen_kernels.h"

namespace pyhbt::cpu::PYHBT_ISA {
namespace {

#if defined(PYHBT_NEON)
#define PYHBT_CODES_ARM
#elif (defined(__AVX512VNNI__) && PYHBT_VECTOR_FLOATS == 16) || \
    (defined(__AVXVNNI__) && PYHBT_VECTOR_FLOATS == 8)
#define PYHBT_CODES_VNNI
#elif (defined(__AVX512BW__) && PYHBT_VECTOR_FLOATS == 16) || (defined(__AVX2__) && PYHBT_VECTOR_FLOATS == 8)
#define PYHBT_CODES_INT16
#endif

#if defined(PYHBT_CODES_VNNI)
constexpr bool kFastCodes = true;
constexpr int kQueryLimit = 127;
constexpr int kCodeRows = kMicroRows;
#elif defined(PYHBT_CODES_ARM)
constexpr bool kFastCodes = true;
constexpr int kQueryLimit = 127;
#if defined(PYHBT_CODES_SDOT) || defined(PYHBT_CODES_SMMLA)
constexpr int kCodeRows = kMicroRows;
#else
constexpr int kCodeRows = 2;  // a vector of queries takes two of sums
#endif
#elif defined(PYHBT_CODES_INT16)
constexpr bool kFastCodes = true;
constexpr int kQueryLimit = 63;
constexpr int kCodeRows = PYHBT_VECTOR_FLOATS == 8 ? 3 : kMicroRows;  // one register holds the products
#else
constexpr bool kFastCodes = false;
constexpr int kQueryLimit = 127;
constexpr int kCodeRows = kMicroRows;
#endif
#if defined(PYHBT_CODES_ARM)
constexpr int kRowOffset = 0;  // of rows of queries
#else
constexpr int kRowOffset = kQueryLimit + 1;
#endif
#if defined(PYHBT_CODES_INT16)
constexpr bool kChunkedSums = true;
constexpr int kStripOffset = 0;
#else
constexpr bool kChunkedSums = false;
constexpr int kStripOffset = kRowOffset;
#endif
#if defined(PYHBT_CODES_SMMLA)
constexpr int kQueryGroup = 8;
#else
constexpr int kQueryGroup = 4;
#endif
constexpr int64_t kVectorBytes = 4 * kFloats;
constexpr int64_t kPrefetchBytes = 4096;  // the hardware's own prefetch ends with each page

inline IntVector load_bytes(const void* x) {
  IntVector v;
  memcpy(&v, x, sizeof v);
  return v;
}

// The passages that are multiplied at once; beyond the last of the tile it is repeated.
struct CodeRows {
  const int8_t* codes[kCodeRows];
  int32_t code_sum[kCodeRows];
};

#if defined(PYHBT_CODES_ARM)

}  // namespace
}  // namespace pyhbt::cpu::PYHBT_ISA
#include "code_products_arm.h"
namespace pyhbt::cpu::PYHBT_ISA {
namespace {

#else

// sums[lane] += the four products of bytes of a (unsigned) and b (signed) in this lane.
inline IntVector add_products(IntVector sums, IntVector a, IntVector b) {
#if defined(PYHBT_CODES_VNNI) && PYHBT_VECTOR_FLOATS == 16
  return reinterpret_cast<IntVector>(_mm512_dpbusd_epi32(
      reinterpret_cast<__m512i>(sums), reinterpret_cast<__m512i>(a), reinterpret_cast<__m512i>(b)));
#elif defined(PYHBT_CODES_VNNI)
  return reinterpret_cast<IntVector>(_mm256_dpbusd_avx_epi32(
      reinterpret_cast<__m256i>(sums), reinterpret_cast<__m256i>(a), reinterpret_cast<__m256i>(b)));
#elif defined(PYHBT_CODES_INT16) && PYHBT_VECTOR_FLOATS == 16
  const __m512i pairs = _mm512_maddubs_epi16(reinterpret_cast<__m512i>(a), reinterpret_cast<__m512i>(b));
  return sums + reinterpret_cast<IntVector>(_mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
#elif defined(PYHBT_CODES_INT16)
  const __m256i pairs = _mm256_maddubs_epi16(reinterpret_cast<__m256i>(a), reinterpret_cast<__m256i>(b));
  return sums + reinterpret_cast<IntVector>(_mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
#else
  uint8_t left[kVectorBytes];
  int8_t right[kVectorBytes];
  memcpy(left, &a, sizeof left);
  memcpy(right, &b, sizeof right);
  for (int lane = 0; lane < kFloats; ++lane)
    for (int i = 4 * lane; i < 4 * lane + 4; ++i) sums[lane] += left[i] * right[i];
  return sums;
#endif
}

inline IntVector broadcast_quad(const int8_t* codes) {
  int32_t bytes;
  memcpy(&bytes, codes, sizeof bytes);
  return splat_int(bytes);
}

#endif

// The first numbers of x; those beyond are 0, lest more than an array be read.
inline Vector load_first(const float* x, int64_t count) {
  if (__builtin_expect(count == kFloats, 1)) return load(x);
  float numbers[kFloats] = {};
  for (int64_t i = 0; i < count; ++i) numbers[i] = x[i];
  return load(numbers);
}

inline Vector to_float(IntVector x) { return __builtin_convertvector(x, Vector); }

inline int32_t sum_of_ints(IntVector v) {
  typedef int32_t Four __attribute__((vector_size(16)));
  Four parts[kFloats / 4];
  memcpy(parts, &v, sizeof parts);
  for (int width = kFloats / 8; width > 0; width /= 2)
    for (int part = 0; part < width; ++part) parts[part] += parts[part + width];
  return (parts[0][0] + parts[0][1]) + (parts[0][2] + parts[0][3]);
}

#if defined(PYHBT_CODES_INT16)

// sums += the pairs of products of bytes of a (unsigned) and b (signed), in int16.
inline __attribute__((always_inline)) void add_pairs(IntVector& sums, IntVector a, IntVector b) {
  IntVector pairs;
  asm("vpmaddubsw %1, %2, %0" : "=v"(pairs) : "v"(b), "v"(a));
  asm("vpaddw %1, %0, %0" : "+v"(sums) : "v"(pairs));
}

inline IntVector widened(IntVector sums) {
#if PYHBT_VECTOR_FLOATS == 16
  return reinterpret_cast<IntVector>(
      _mm512_madd_epi16(reinterpret_cast<__m512i>(sums), _mm512_set1_epi16(1)));
#else
  return reinterpret_cast<IntVector>(
      _mm256_madd_epi16(reinterpret_cast<__m256i>(sums), _mm256_set1_epi16(1)));
#endif
}

// out (kCodeRows, kVectors) = the products of the passages with the first lanes of a strip.
template <int kVectors>
__attribute__((noinline)) void multiply_codes(const CodeRows& rows, const CodedStrip& strip, int64_t quads,
                                              IntVector* out) {
  const uint8_t* bytes = strip.bytes;
  const uint16_t* starts = strip.starts;
  int64_t quad = 0;
  while (quad < quads) {
    IntVector sums[kCodeRows][kVectors];
    PYHBT_UNROLL for (int r = 0; r < kCodeRows; ++r) PYHBT_UNROLL for (int v = 0; v < kVectors; ++v)
        sums[r][v] = load_bytes(starts + 2 * v * kFloats);
    const auto add_quad = [&]() __attribute__((always_inline)) {
      IntVector right[kVectors];
      PYHBT_UNROLL for (int v = 0; v < kVectors; ++v) right[v] = load_bytes(bytes + v * kVectorBytes);
      PYHBT_UNROLL for (int r = 0; r < kCodeRows; ++r) {
        const IntVector left = broadcast_quad(rows.codes[r] + 4 * quad);
        PYHBT_UNROLL for (int v = 0; v < kVectors; ++v) add_pairs(sums[r][v], left, right[v]);
      }
      bytes += 4 * kStrip;
      ++quad;
    };
    const bool first = quad == 0;
    if (quads - quad >= kChunkQuads) {
      PYHBT_UNROLL for (int i = 0; i < kChunkQuads; ++i) add_quad();
    } else {
      while (quad < quads) add_quad();
    }
    PYHBT_UNROLL for (int i = 0; i < kCodeRows * kVectors; ++i) {
      const IntVector wide = widened(sums[i / kVectors][i % kVectors]);
      out[i] = first ? wide : out[i] + wide;
    }
    starts += 2 * kStrip;
  }
}

// out (rows, stride of codes): the passages as unsigned bytes k + 128.
void begin_tile(const CorpusCodes& corpus, int64_t dim, int64_t first, int64_t rows, int8_t* out) {
  const int64_t stride = code_stride(dim);
  const int8_t* codes = corpus.codes + first * stride;
  for (int64_t at = 0; at < rows * stride; at += kVectorBytes) {
    __builtin_prefetch(codes + kPrefetchBytes + at, 0, 2);
    const IntVector bytes = load_bytes(codes + at) ^ splat_int(static_cast<int32_t>(0x80808080u));
    memcpy(out + at, &bytes, sizeof bytes);
  }
}

#elif !defined(PYHBT_CODES_ARM)

constexpr auto begin_tile = nullptr;

template <int kVectors>
#if defined(PYHBT_CODES_VNNI)
__attribute__((noinline))
#endif
void multiply_codes(const CodeRows& rows, const CodedStrip& strip, int64_t quads, IntVector* out) {
  const uint8_t* bytes = strip.bytes;
  IntVector sums[kCodeRows][kVectors];
  PYHBT_UNROLL for (int r = 0; r < kCodeRows; ++r) PYHBT_UNROLL for (int v = 0; v < kVectors; ++v)
      sums[r][v] = splat_int(-kStripOffset * rows.code_sum[r]);
  for (int64_t quad = 0; quad < quads; ++quad, bytes += 4 * kStrip) {
    IntVector left[kVectors];
    PYHBT_UNROLL for (int v = 0; v < kVectors; ++v) left[v] = load_bytes(bytes + v * kVectorBytes);
    PYHBT_UNROLL for (int r = 0; r < kCodeRows; ++r) {
      const IntVector right = broadcast_quad(rows.codes[r] + 4 * quad);
      PYHBT_UNROLL for (int v = 0; v < kVectors; ++v) {
#if defined(PYHBT_CODES_VNNI) && PYHBT_VECTOR_FLOATS == 8
        asm("%{vex%} vpdpbusd %1, %2, %0" : "+x"(sums[r][v]) : "x"(right), "x"(left[v]));
#elif defined(PYHBT_CODES_VNNI)
        asm("vpdpbusd %1, %2, %0" : "+v"(sums[r][v]) : "v"(right), "v"(left[v]));
#else
        sums[r][v] = add_products(sums[r][v], left[v], right);
#endif
      }
    }
  }
  PYHBT_UNROLL for (int r = 0; r < kCodeRows; ++r) PYHBT_UNROLL for (int v = 0; v < kVectors; ++v)
      out[r * kVectors + v] = sums[r][v];
}

#endif

}  // namespace
}  // namespace pyhbt::cpu::PYHBT_ISA
