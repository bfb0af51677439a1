// Rows of embeddings as float32, whatever dtype they are stored in.
#pragma once

#include <cstring>
#include <vector>

#include "../embeddings.h"

namespace pyhbt::cpu {

// Exact: every bfloat16 and float16 number is a float32 number.
inline float widened_bfloat16(uint16_t bits) {
  const uint32_t wide = static_cast<uint32_t>(bits) << 16;
  float value;
  std::memcpy(&value, &wide, sizeof value);
  return value;
}

inline float widened_float16(uint16_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000u) << 16, magnitude = bits & 0x7fffu;
  const float subnormal =
      static_cast<float>(static_cast<int32_t>(magnitude)) * 5.9604644775390625e-8f;  // 2^-24
  uint32_t small;
  std::memcpy(&small, &subnormal, sizeof small);
  const uint32_t normal = (magnitude << 13) + (112u << 23), special = (magnitude << 13) | 0x7f800000u;
  const uint32_t wide = sign | (magnitude < 0x400u ? small : magnitude < 0x7c00u ? normal : special);
  float value;
  std::memcpy(&value, &wide, sizeof value);
  return value;
}

// One row; scratch holds it where it must be converted.
inline const float* float_row(const Embeddings& x, int64_t row, std::vector<float>& scratch) {
  const int64_t first = row * x.stride;
  if (x.dtype == DType::kFloat32) return static_cast<const float*>(x.data) + first;
  scratch.resize(static_cast<size_t>(x.dim));
  float* wide = scratch.data();
  const uint16_t* bits = static_cast<const uint16_t*>(x.data) + first;
  if (x.dtype == DType::kBFloat16)
    for (int64_t k = 0; k < x.dim; ++k) wide[k] = widened_bfloat16(bits[k]);
  else
    for (int64_t k = 0; k < x.dim; ++k) wide[k] = widened_float16(bits[k]);
  return wide;
}

}  // namespace pyhbt::cpu
