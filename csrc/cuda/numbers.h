// Embeddings of any dtype as the kernels read them: one number at a time, exactly, in float64.
#pragma once

#include "../embeddings.h"
#include "language.h"

namespace pyhbt::cuda {

__device__ inline double number(const float* row, int64_t at) { return static_cast<double>(row[at]); }

struct HalfBits {
  uint16_t bits;
};
__device__ inline double number(const HalfBits* row, int64_t at) {
  return static_cast<double>(from_half_bits(row[at].bits));
}

struct BFloatBits {
  uint16_t bits;
};
__device__ inline double number(const BFloatBits* row, int64_t at) {
  return static_cast<double>(from_bfloat_bits(row[at].bits));
}

template <typename Number>
__device__ inline const Number* row_of(const Embeddings& rows, int64_t row) {
  return static_cast<const Number*>(rows.data) + row * rows.stride;
}

}  // namespace pyhbt::cuda
