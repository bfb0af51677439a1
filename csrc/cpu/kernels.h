// The inner loops of the CPU back end, one table of them per instruction set, chosen once at load.
//   A strip is kStripRows rows of A by strip_columns columns of B; packed B is [strip][depth][strip_columns].
// The tables are filled by tile_kernels.h, compiled once per instruction set (kernels_*.cpp).
#pragma once

#include <cstdint>

namespace pyhbt::cpu {

constexpr int64_t kStripRows = 6;
constexpr int64_t kMaxStripColumns = 16;
constexpr int64_t kRowAlignment = 16;  // row kernels work on lengths that are multiples of this

struct RowStatistics {
  float max;   // over the row; -infinity for a row of nothing but -infinity
  double sum;  // of exp2((x - max) * factor)
};

// Bounds for one strip of queries: a screened score is off by at most error[query] * norm[passage].
struct StripBounds {
  float error[kMaxStripColumns];
  float low[kMaxStripColumns];   // score + error below this: certainly under the threshold
  float high[kMaxStripColumns];  // score - error above this: certainly over the threshold
};

struct CpuKernels {
  const char* name;
  int64_t strip_columns;

  // C (rows, columns <= strip_columns) (+)= A B for one strip of packed B, depth k running upwards.
  // A is row-major: element (r, k) at a[r * a_stride + k].
  void (*multiply_rows)(const float* a, int64_t a_stride, int64_t rows, const float* b_strip, int64_t depth,
                        float* c, int64_t c_stride, int64_t columns, bool accumulate);
  // The same with A packed as [row strip][depth][kStripRows].
  void (*multiply_packed)(const float* a_strips, int64_t rows, const float* b_strip, int64_t depth, float* c,
                          int64_t c_stride, int64_t columns, bool accumulate);

  // Statistics of exp2((x - max) * factor) over a row of length columns.
  RowStatistics (*row_statistics)(const float* x, int64_t columns, float factor);
  // The same down each column of x (rows, columns), written to max and sum (columns,).
  void (*column_statistics)(const float* x, int64_t stride, int64_t rows, int64_t columns, float factor,
                            float* max, double* sum);
  // x <- row_weight * exp2((x - row_max) * factor), plus the same with col_max, col_weight where not null.
  void (*softmax_gradient)(float* x, int64_t columns, float factor, float row_max, float row_weight,
                           const float* col_max, const float* col_weight);

  // Sum over i of a[i] * b[i]: eight interleaved lanes, then ((0+1)+(2+3))+((4+5)+(6+7)). The products are
  // exact.
  double (*dot)(const double* a, const float* b, int64_t dim);

  // Positions r * strip_columns + c in tile (rows, strip_columns) whose score is not certainly under low[c];
  // written to hits, the number of them is returned.
  int64_t (*screen)(const float* tile, int64_t rows, const float* norms, const StripBounds& bounds,
                    int32_t* hits);
  // Adds to counts[c] the rows certainly over high[c]; hits gets the undecided positions.
  int64_t (*screen_and_count)(const float* tile, int64_t rows, const float* norms, const StripBounds& bounds,
                              int64_t* counts, int32_t* hits);

  // Runs iterations of independent multiply-adds in registers; returns the flops done, checksum keeps them
  // alive.
  double (*fma_probe)(int64_t iterations, float* checksum);
};

}  // namespace pyhbt::cpu
