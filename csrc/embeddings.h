// A matrix of embeddings as Python hands it over: rows of one of the dtypes, elements of a row contiguous.
#pragma once

#include <cstdint>

namespace pyhbt {

enum class DType : int { kFloat32 = 0, kFloat16 = 1, kBFloat16 = 2 };

struct Embeddings {
  const void* data;
  DType dtype;
  int64_t rows;
  int64_t dim;
  int64_t stride;  // elements from one row to the next
};

}  // namespace pyhbt
