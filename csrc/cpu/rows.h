// Rows of embeddings as float32, whatever dtype they are stored in.
#pragma once

#include <vector>

#include "../embeddings.h"
#include "dispatch.h"

namespace pyhbt::cpu {

// Exact: every bfloat16 and float16 number is a float32 number.
inline void widen_row(const Embeddings& x, int64_t row, float* out) {
  const uint16_t* bits = static_cast<const uint16_t*>(x.data) + row * x.stride;
  const CpuKernels& kernel = kernels();
  (x.dtype == DType::kBFloat16 ? kernel.widen_bfloat16 : kernel.widen_float16)(bits, x.dim, out);
}

// One row; scratch holds it where it must be converted.
inline const float* float_row(const Embeddings& x, int64_t row, std::vector<float>& scratch) {
  const int64_t first = row * x.stride;
  if (x.dtype == DType::kFloat32) return static_cast<const float*>(x.data) + first;
  scratch.resize(static_cast<size_t>(x.dim));
  widen_row(x, row, scratch.data());
  return scratch.data();
}

}  // namespace pyhbt::cpu
