// The packed matrix product of gemm.h: tasks own tiles of C, so no two threads write one element.
#include "gemm.h"

#include <algorithm>

#include "../parallel.h"

namespace pyhbt::cpu {

PackedMatrix::PackedMatrix(int64_t max_depth, int64_t max_columns)
    : strip_columns_(kernels().strip_columns), buffer_(max_depth * round_up(max_columns, strip_columns_)) {}

void PackedMatrix::pack(const MatrixView& b, int threads) {
  depth_ = b.rows;
  columns_ = b.columns;
  const int64_t width = strip_columns_;
  parallel_for(threads, ceil_div(columns_, width), [&](int64_t index) {
    float* out = buffer_.data() + index * depth_ * width;
    const int64_t first = index * width, used = std::min(width, columns_ - first);
    const float* source = b.data + first * b.column_stride;
    if (used < width) std::fill(out, out + depth_ * width, 0.0f);
    constexpr int64_t kBlock =
        64;  // keeps the written lines in the first cache when rows of the source are long
    for (int64_t start = 0; start < depth_; start += kBlock) {
      const int64_t end = std::min(depth_, start + kBlock);
      if (b.column_stride == 1) {
        for (int64_t k = start; k < end; ++k) std::copy_n(source + k * b.row_stride, used, out + k * width);
      } else {
        for (int64_t j = 0; j < used; ++j)
          for (int64_t k = start; k < end; ++k)
            out[k * width + j] = source[k * b.row_stride + j * b.column_stride];
      }
    }
  });
}

namespace {

// A (rows, depth) as [row strip][depth][kStripRows]; a short last strip is filled with zeros.
void pack_rows(const MatrixView& a, int64_t row, int64_t rows, int64_t k0, int64_t depth, float* out) {
  for (int64_t strip = 0; strip < rows; strip += kStripRows, out += kStripRows * depth) {
    const int64_t used = std::min(kStripRows, rows - strip);
    const float* source = a.data + (row + strip) * a.row_stride + k0 * a.column_stride;
    for (int64_t k = 0; k < depth; ++k) {
      for (int64_t r = 0; r < used; ++r)
        out[k * kStripRows + r] = source[r * a.row_stride + k * a.column_stride];
      for (int64_t r = used; r < kStripRows; ++r) out[k * kStripRows + r] = 0.0f;
    }
  }
}

}  // namespace

void multiply(const MatrixView& a, const PackedMatrix& b, float* c, int64_t c_stride, bool accumulate,
              int threads) {
  const CpuKernels& kernel = kernels();
  const int64_t width = kernel.strip_columns, depth = a.columns, strips = ceil_div(b.columns(), width);
  const bool packed = a.column_stride != 1;
  // Tiles as large as the second cache likes, then smaller until every thread has a few. Columns are not cut
  // where A must be packed, since each cut would pack it again.
  int64_t tile_rows = packed ? 96 : 132, tile_strips = packed ? strips : std::min<int64_t>(strips, 32);
  const auto tasks = [&] { return ceil_div(a.rows, tile_rows) * ceil_div(strips, tile_strips); };
  while (tasks() < 4 * threads && tile_rows > 4 * kStripRows) tile_rows = round_up(tile_rows / 2, kStripRows);
  while (tasks() < 4 * threads && tile_strips > 4 && !packed) tile_strips /= 2;
  const int64_t row_tiles = ceil_div(a.rows, tile_rows);
  const int64_t step = block_depth(depth);

  parallel_for(threads, tasks(), [&](int64_t task) {
    const int64_t row = task % row_tiles * tile_rows, rows = std::min(tile_rows, a.rows - row);
    const int64_t first = task / row_tiles * tile_strips, last = std::min(strips, first + tile_strips);
    FloatBuffer scratch(packed ? round_up(rows, kStripRows) * step : 0);
    for (int64_t k = 0; k < depth; k += step) {
      const int64_t here = std::min(step, depth - k);
      if (packed) pack_rows(a, row, rows, k, here, scratch.data());
      for (int64_t strip = first; strip < last; ++strip) {
        const int64_t column = strip * width, columns = std::min(width, b.columns() - column);
        float* tile = c + row * c_stride + column;
        const bool add = accumulate || k > 0;
        if (packed) {
          kernel.multiply_packed(scratch.data(), rows, b.strip(strip, k), here, tile, c_stride, columns, add);
        } else {
          kernel.multiply_rows(a.data + row * a.row_stride + k, a.row_stride, rows, b.strip(strip, k), here,
                               tile, c_stride, columns, add);
        }
      }
    }
  });
}

}  // namespace pyhbt::cpu
