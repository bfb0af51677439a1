// A matrix of embeddings as Python hands it over: rows of one of the dtypes, elements of a row contiguous.
#pragma once

#include <cstdint>

namespace pyhbt {

// The only one of its kind, on every device; Python knows the values by name (border.h). Those of one byte are for
// search on the CPU alone.
enum class DType : int { kFloat32, kFloat16, kBFloat16, kInt8, kFloat8E4M3, kFloat8E5M2 };

inline int64_t bytes_of(DType dtype) {
  return dtype == DType::kFloat32 ? 4 : dtype == DType::kFloat16 || dtype == DType::kBFloat16 ? 2 : 1;
}

struct Embeddings {
  const void* data;
  DType dtype;
  int64_t rows;
  int64_t dim;
  int64_t stride;  // elements from one row to the next
};

}  // namespace pyhbt
