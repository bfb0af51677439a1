// Encoding of one passage as int8 codes, with what is measured of them.
#pragma once

#include "screen_kernels.h"

namespace pyhbt::cpu::PYHBT_ISA {
namespace {

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
