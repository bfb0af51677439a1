// The inner loops on int8 codes: encoding, products of codes, and screening by them.
//   Queries are unsigned bytes t + kQueryOffset, passages signed bytes k. Products of four pairs of bytes are
//   added to an int32: one instruction with VNNI; elsewhere in AVX2 queries have 7 bits, since two products
//   of a full and a signed byte overflow the int16 that its multiply-add sums them in.
// A strip of queries is [dim / 4][lane][4 bytes]; rows of passages are read in place.
#pragma once

#include "screen_kernels.h"

namespace pyhbt::cpu::PYHBT_ISA {
namespace {

#if defined(__AVX512BW__) || (defined(__AVX2__) && PYHBT_VECTOR_FLOATS == 8)
constexpr bool kFastCodes = true;
#else
constexpr bool kFastCodes = false;
#endif
#if defined(__AVX2__) && !defined(__AVX512VNNI__)
constexpr int kQueryLimit = 63;
#else
constexpr int kQueryLimit = 127;
#endif
constexpr int kQueryOffset = kQueryLimit + 1;
constexpr int64_t kVectorBytes = 4 * kFloats;
constexpr int64_t kPrefetchBytes = 4096;  // the hardware's own prefetch ends with each page

inline IntVector load_bytes(const void* x) {
  IntVector v;
  memcpy(&v, x, sizeof v);
  return v;
}

// sums[lane] += the four products of bytes of a (unsigned) and b (signed) in this lane.
inline IntVector add_products(IntVector sums, IntVector a, IntVector b) {
#if defined(__AVX512VNNI__) && PYHBT_VECTOR_FLOATS == 16
  return reinterpret_cast<IntVector>(_mm512_dpbusd_epi32(
      reinterpret_cast<__m512i>(sums), reinterpret_cast<__m512i>(a), reinterpret_cast<__m512i>(b)));
#elif defined(__AVX512BW__) && PYHBT_VECTOR_FLOATS == 16
  const __m512i pairs = _mm512_maddubs_epi16(reinterpret_cast<__m512i>(a), reinterpret_cast<__m512i>(b));
  return sums + reinterpret_cast<IntVector>(_mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
#elif defined(__AVX2__) && PYHBT_VECTOR_FLOATS == 8
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

inline Vector to_float(IntVector x) { return __builtin_convertvector(x, Vector); }

// sums (kMicroRows, kVectors) = the products of the passages at rows[r] with the first lanes of a strip.
template <int kVectors>
inline __attribute__((always_inline)) void multiply_codes(const int8_t* const* rows, const int32_t* code_sum,
                                                          const uint8_t* strip, int64_t quads,
                                                          IntVector (&sums)[kMicroRows][kVectors]) {
  PYHBT_UNROLL for (int r = 0; r < kMicroRows; ++r) PYHBT_UNROLL for (int v = 0; v < kVectors; ++v)
      sums[r][v] = splat_int(-kQueryOffset * code_sum[r]);
  for (int64_t quad = 0; quad < quads; ++quad, strip += 4 * kStrip) {
    IntVector left[kVectors];
    PYHBT_UNROLL for (int v = 0; v < kVectors; ++v) left[v] = load_bytes(strip + v * kVectorBytes);
    PYHBT_UNROLL for (int r = 0; r < kMicroRows; ++r) {
      int32_t bytes;
      memcpy(&bytes, rows[r] + 4 * quad, sizeof bytes);
      const IntVector right = splat_int(bytes);
      PYHBT_UNROLL for (int v = 0; v < kVectors; ++v) sums[r][v] = add_products(sums[r][v], left[v], right);
    }
  }
}

// Calls each(r, v, products) for passages first..first+rows against a strip.
template <int kVectors, typename Each>
inline __attribute__((always_inline)) void for_products(const CorpusCodes& corpus, int64_t dim, int64_t first,
                                                        int64_t rows, const CodedStrip& strip, Each each) {
  const int64_t stride = code_stride(dim), quads = (dim + 3) / 4;
  for (int64_t row = 0; row < rows; row += kMicroRows) {
    const int64_t here = rows - row < kMicroRows ? rows - row : kMicroRows;
    const int8_t* pointers[kMicroRows];
    int32_t code_sum[kMicroRows];
    for (int64_t r = 0; r < kMicroRows; ++r) {  // beyond the last passage it is repeated
      const int64_t passage = first + row + (r < here ? r : here - 1);
      pointers[r] = corpus.codes + passage * stride;
      code_sum[r] = corpus.code_sum[passage];
    }
    for (int64_t at = 0; at < kMicroRows * stride; at += 64)
      __builtin_prefetch(pointers[0] + kPrefetchBytes + at, 0, 2);
    IntVector sums[kMicroRows][kVectors];
    multiply_codes<kVectors>(pointers, code_sum, strip.bytes, quads, sums);
    PYHBT_UNROLL for (int v = 0; v < kVectors; ++v) PYHBT_UNROLL for (int r = 0; r < kMicroRows; ++r) {
      if (r < here) each(row + r, v, sums[r][v]);
    }
  }
}

template <int kVectors>
int64_t screen_codes_of(const CorpusCodes& corpus, int64_t dim, int64_t first, int64_t rows,
                        const CodedStrip& strip, int32_t* hits) {
  Vector threshold[kVectors], along[kVectors], code_factor[kVectors], residual_factor[kVectors];
  PYHBT_UNROLL for (int v = 0; v < kVectors; ++v) {
    threshold[v] = load(strip.threshold + v * kFloats);
    along[v] = load(strip.along + v * kFloats);
    code_factor[v] = load(strip.code_factor + v * kFloats);
    residual_factor[v] = load(strip.residual_factor + v * kFloats);
  }
  int64_t count = 0;
  for_products<kVectors>(corpus, dim, first, rows, strip, [&](int64_t r, int v, IntVector products) {
    const int64_t passage = first + r;
    const Vector least = threshold[v] * corpus.inverse_scale[passage] - along[v] * corpus.along[passage] -
                         code_factor[v] * corpus.code_norm[passage] -
                         residual_factor[v] * corpus.residual_norm[passage];
    const unsigned open = not_less(to_float(products), least);
    if (__builtin_expect(open != 0, 0)) count = append_bits(open, r * kStrip + v * kFloats, count, hits);
  });
  return count;
}

int64_t screen_codes(const CorpusCodes& corpus, int64_t dim, int64_t first, int64_t rows,
                     const CodedStrip& strip, int32_t* hits) {
  if (kStripVectors > 1 && strip.lanes <= kFloats)
    return screen_codes_of<1>(corpus, dim, first, rows, strip, hits);
  return screen_codes_of<kStripVectors>(corpus, dim, first, rows, strip, hits);
}

template <int kVectors>
void estimate_codes_of(const CorpusCodes& corpus, int64_t dim, int64_t first, int64_t rows,
                       const CodedStrip& strip, float* out) {
  for_products<kVectors>(corpus, dim, first, rows, strip, [&](int64_t r, int v, IntVector products) {
    const int64_t passage = first + r;
    const Vector sum = to_float(products) + load(strip.along + v * kFloats) * corpus.along[passage];
    store(out + r * kStrip + v * kFloats, sum * (1.0f / corpus.inverse_scale[passage]));
  });
}

// out (rows, kStrip) = estimated scores times the query's scale, in the lanes that hold queries.
void estimate_codes(const CorpusCodes& corpus, int64_t dim, int64_t first, int64_t rows,
                    const CodedStrip& strip, float* out) {
  if (kStripVectors > 1 && strip.lanes <= kFloats)
    return estimate_codes_of<1>(corpus, dim, first, rows, strip, out);
  return estimate_codes_of<kStripVectors>(corpus, dim, first, rows, strip, out);
}

int64_t count_codes(const CorpusCodes& corpus, int64_t dim, int64_t first, int64_t rows,
                    const CodedStrip& strip, const RankCounting& bounds, RankHit* hits) {
  int64_t found = 0;
  for_products<kStripVectors>(corpus, dim, first, rows, strip, [&](int64_t r, int v, IntVector products) {
    const int64_t passage = first + r;
    const int part = v * kFloats;
    const Vector middle = to_float(products) + load(strip.along + part) * corpus.along[passage];
    const Vector slack = load(strip.code_factor + part) * corpus.code_norm[passage] +
                         load(strip.residual_factor + part) * corpus.residual_norm[passage];
    const float scale = corpus.inverse_scale[passage];
    found = count_against(middle - slack, middle + slack, scale, r, part, bounds, hits, found);
  });
  return found;
}

inline int32_t sum_of_ints(IntVector v) {
  typedef int32_t Four __attribute__((vector_size(16)));
  Four parts[kFloats / 4];
  memcpy(parts, &v, sizeof parts);
  for (int width = kFloats / 8; width > 0; width /= 2)
    for (int part = 0; part < width; ++part) parts[part] += parts[part + width];
  return (parts[0][0] + parts[0][1]) + (parts[0][2] + parts[0][3]);
}

template <int kLanes>
int64_t scan_codes_of(const CorpusCodes& corpus, int64_t dim, int64_t first, int64_t rows,
                      const CodedStrip& strip, int32_t* hits) {
  const int64_t stride = code_stride(dim);
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
      }
      const int32_t offset = kQueryOffset * corpus.code_sum[first + row + r];
      PYHBT_UNROLL for (int q = 0; q < kLanes; ++q) sums[q][r] = sum_of_ints(products[q]) - offset;
    }
    float terms[4][kFloats] = {};
    const int64_t passage = first + row;
    memcpy(terms[0], corpus.inverse_scale + passage, static_cast<size_t>(4 * here));
    memcpy(terms[1], corpus.along + passage, static_cast<size_t>(4 * here));
    memcpy(terms[2], corpus.code_norm + passage, static_cast<size_t>(4 * here));
    memcpy(terms[3], corpus.residual_norm + passage, static_cast<size_t>(4 * here));
    const unsigned real = here < kFloats ? (1u << here) - 1 : ~0u;
    for (int q = 0; q < kLanes; ++q) {
      const Vector least = load(terms[0]) * strip.threshold[q] - load(terms[1]) * strip.along[q] -
                           load(terms[2]) * strip.code_factor[q] - load(terms[3]) * strip.residual_factor[q];
      unsigned open = not_less(to_float(load_bytes(sums[q])), least) & real;
      for (; open != 0; open &= open - 1)
        hits[count++] = static_cast<int32_t>((row + __builtin_ctz(open)) * kStrip + q);
    }
  }
  return count;
}

// Screening for a few queries: vectors run along the codes, since one read of the corpus is what costs.
int64_t scan_codes(const CorpusCodes& corpus, int64_t dim, int64_t first, int64_t rows,
                   const CodedStrip& strip, int32_t* hits) {
  static_assert(kFewQueries == 4);
  switch (strip.lanes) {
    case 1:
      return scan_codes_of<1>(corpus, dim, first, rows, strip, hits);
    case 2:
      return scan_codes_of<2>(corpus, dim, first, rows, strip, hits);
    case 3:
      return scan_codes_of<3>(corpus, dim, first, rows, strip, hits);
    default:
      return scan_codes_of<4>(corpus, dim, first, rows, strip, hits);
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
#endif
  for (; i < stride; ++i) rest += query[i] * codes[i];
  return rest;
}

// One passage: x = factor * row - centre, then codes and what is measured of them. x (dim,) is scratch.
EncodedRow encode_row(const float* row, double factor, const float* centre, const float* direction,
                      int64_t dim, float* x, int8_t* codes) {
  // One rounding, relative to x itself, which may be far smaller than the numbers that it is the difference of.
  if (factor == 1.0)
    for (int64_t j = 0; j < dim; ++j) x[j] = row[j] - centre[j];
  else
    for (int64_t j = 0; j < dim; ++j)
      x[j] = static_cast<float>(static_cast<double>(row[j]) * factor - static_cast<double>(centre[j]));
  Vector largest{}, along{}, zeros{};
  int64_t i = 0;
  for (; i + kFloats <= dim; i += kFloats) {
    const Vector v = load(x + i);
    largest = larger(largest, v < 0.0f ? -v : v);
    along += v * load(direction + i);
    zeros += v * 0.0f;  // a NaN or an infinity makes it NaN
  }
  float max = largest_lane(largest), projection = sum_of_lanes(along), zero = sum_of_lanes(zeros);
  for (; i < dim; ++i) {
    const float size = x[i] < 0 ? -x[i] : x[i];
    max = max < size ? size : max;
    projection += x[i] * direction[i];
    zero += x[i] * 0.0f;
  }
  EncodedRow out{};
  constexpr float kLargest = 1.152921504606846976e18f;  // 2^60
  out.served = zero == 0.0f && max <= kLargest;
  if (!out.served) return out;
  // Tiny rows get coarse codes instead of an inverse scale that overflows.
  out.inverse_scale = max > 1.0f / kLargest ? 127.0f / max : 127.0f * kLargest;
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  Vector squares{}, residuals{}, sums{};
  for (i = 0; i + kFloats <= dim; i += kFloats) {
    const Vector v = load(x + i) * out.inverse_scale;
    const Vector shifted = v + kRound, code = shifted - kRound;
    const Vector residual = v - code;
    squares += code * code;
    residuals += residual * residual;
    sums += code;
    typedef int8_t Bytes __attribute__((vector_size(kFloats)));
    const Bytes bytes = __builtin_convertvector(__builtin_convertvector(code, IntVector), Bytes);
    memcpy(codes + i, &bytes, sizeof bytes);
  }
  float square = sum_of_lanes(squares), residual_square = sum_of_lanes(residuals), sum = sum_of_lanes(sums);
  for (; i < dim; ++i) {
    const float v = x[i] * out.inverse_scale;
    const float code = static_cast<float>(static_cast<int32_t>(v < 0 ? v - 0.5f : v + 0.5f));
    square += code * code;
    residual_square += (v - code) * (v - code);
    sum += code;
    codes[i] = static_cast<int8_t>(code);
  }
  out.along = projection * out.inverse_scale;
  out.code_square = square;
  out.residual_square = residual_square;
  out.code_sum = static_cast<int32_t>(sum);
  return out;
}

}  // namespace
}  // namespace pyhbt::cpu::PYHBT_ISA
