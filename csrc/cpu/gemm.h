// A small float32 matrix product over packed operands: C (rows, columns) (+)= A B.
//   Each element of C is summed over the depth in one fixed order, whatever the tiles and threads.
// Time 2 * rows * columns * depth flops; memory: the packed copy of B, and one block of A a thread where A is
// not row-major. Blocking: Goto and van de Geijn, ACM TOMS 34(3), 2008.
#pragma once

#include <cstdint>
#include <memory>
#include <new>

#include "dispatch.h"

namespace pyhbt::cpu {

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
inline int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }

// Uninitialised floats, aligned to a cache line.
class FloatBuffer {
 public:
  FloatBuffer() = default;
  explicit FloatBuffer(int64_t size)
      : data_(static_cast<float*>(::operator new(static_cast<size_t>(size > 0 ? size : 1) * sizeof(float),
                                                 std::align_val_t{64}))) {}
  float* data() { return data_.get(); }
  const float* data() const { return data_.get(); }

 private:
  struct Free {
    void operator()(float* p) const { ::operator delete(p, std::align_val_t{64}); }
  };
  std::unique_ptr<float, Free> data_;
};

// A matrix read through strides: element (i, j) at data[i * row_stride + j * column_stride].
struct MatrixView {
  const float* data;
  int64_t rows;
  int64_t columns;
  int64_t row_stride;
  int64_t column_stride;

  MatrixView transposed() const { return {data, columns, rows, column_stride, row_stride}; }
};

// B (depth, columns) as [strip][depth][strip_columns], short last strip filled with zeros.
class PackedMatrix {
 public:
  PackedMatrix(int64_t max_depth, int64_t max_columns);
  void pack(const MatrixView& b, int threads);
  const float* strip(int64_t index, int64_t k) const {
    return buffer_.data() + (index * depth_ + k) * strip_columns_;
  }
  int64_t depth() const { return depth_; }
  int64_t columns() const { return columns_; }

 private:
  int64_t strip_columns_;
  int64_t depth_ = 0;
  int64_t columns_ = 0;
  FloatBuffer buffer_;
};

// Depth is cut into equal blocks of at most this many steps, so that one strip of B stays in the first cache.
constexpr int64_t kMaxBlockDepth = 264;
inline int64_t block_depth(int64_t depth) {
  return depth == 0 ? 1 : ceil_div(depth, ceil_div(depth, kMaxBlockDepth));
}

void multiply(const MatrixView& a, const PackedMatrix& b, float* c, int64_t c_stride, bool accumulate,
              int threads);

}  // namespace pyhbt::cpu
