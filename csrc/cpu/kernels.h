// The inner loops of the CPU back end, one table of them per instruction set, chosen once at load.
//   A strip is strip lanes wide; packed matrices are [strip][row][lane], short last strips filled with zeros.
// The tables are filled by kernel_table.h, compiled once per instruction set (kernels_*.cpp); what each loop
// computes is said where it is defined.
#pragma once

#include <cstdint>

namespace pyhbt::cpu {

constexpr int64_t kMaxStrip = 32;
constexpr int64_t kMaxTileRows = 8;

// Bounds for one strip of queries: a screened score is off by at most error[query] * norm[passage].
struct StripBounds {
  float error[kMaxStrip];
  float low[kMaxStrip];   // score + error below this: certainly under the threshold
  float high[kMaxStrip];  // score - error above this: certainly over the threshold
};

struct CpuKernels {
  const char* name;
  int64_t strip;        // lanes
  int64_t tile_rows;    // rows of A that are multiplied at once
  int64_t depth_block;  // depth of a strip that stays in the first cache

  // tile_kernels.h: C (rows, strip) (+)= A B, B (depth, strip) contiguous.
  void (*multiply_rows)(const float* a, int64_t a_stride, int64_t rows, const float* b, int64_t depth,
                        float* c, int64_t c_stride, bool accumulate);
  void (*multiply_strips)(const float* a, int64_t strip_stride, int64_t rows, const float* b, int64_t depth,
                          float* c, int64_t c_stride, int64_t columns, bool accumulate);
  void (*multiply_transposed)(const float* a, const float* b, int64_t depth, float* c, bool accumulate);
  void (*transpose_strip)(const float* x, int64_t x_stride, int64_t rows, int64_t dim, int64_t depth,
                          float factor, float* out);

  // softmax_kernels.h: x (rows, strip), passages by queries, scores as exponents of two.
  void (*query_statistics)(float* x, int64_t rows, const float* limit, float* max, float* sum);
  void (*passage_statistics)(const float* x, int64_t strip_stride, int64_t strips, int64_t rows, float* max,
                             float* sum);
  void (*softmax_gradient)(float* x, int64_t rows, const float* query_max, const float* query_weight,
                           const float* passage_max, const float* passage_weight);

  // screen_kernels.h.
  // Sum over i of a[i] * b[i]: eight interleaved lanes, then ((0+1)+(2+3))+((4+5)+(6+7)). The products are
  // exact.
  double (*dot)(const double* a, const float* b, int64_t dim);
  double (*dot_floats)(const float* a, const float* b, int64_t dim);
  // Positions r * strip + lane in tile (rows, strip) whose score is not certainly under low[lane]; written to
  // hits, the number of them is returned.
  int64_t (*screen)(const float* tile, int64_t rows, const float* norms, const StripBounds& bounds,
                    int32_t* hits);
  // Adds to counts[lane] the rows certainly over high[lane]; hits gets the undecided positions.
  int64_t (*screen_and_count)(const float* tile, int64_t rows, const float* norms, const StripBounds& bounds,
                              int64_t* counts, int32_t* hits);

  // Runs iterations of independent multiply-adds in registers; returns the flops done, checksum keeps them
  // alive.
  double (*fma_probe)(int64_t iterations, float* checksum);
};

}  // namespace pyhbt::cpu
