// Rows of embeddings as float32, whatever dtype they are stored in.
#pragma once

#include <vector>

#include "../embeddings.h"
#include "bytes.h"
#include "dispatch.h"

namespace pyhbt::cpu {

// Exact: every number of the other dtypes is a float32 number.
inline void widen_row(const Embeddings& x, int64_t row, float* out) {
  const void* bits = static_cast<const char*>(x.data) + row * x.stride * bytes_of(x.dtype);
  const CpuKernels& kernel = kernels();
  switch (x.dtype) {
    case DType::kFloat16:
      return kernel.widen_float16(static_cast<const uint16_t*>(bits), x.dim, out);
    case DType::kBFloat16:
      return kernel.widen_bfloat16(static_cast<const uint16_t*>(bits), x.dim, out);
    default:
      return widen_bytes(static_cast<const uint8_t*>(bits), x.dim, byte_values(x.dtype), out);
  }
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
