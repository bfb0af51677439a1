// What exact search and rank counting share: norms, proved error bounds, and the walk over screened score
// tiles.
//   A screened score s (float32, any summation order) of query q and passage c satisfies
//   |s - q.c| <= error(q) * norm(c) + kUnderflow(d); proof in docs/numerics.md.
// A tile is up to kTileRows passages by one strip of queries; the corpus is read in place, queries are
// packed.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "../search.h"
#include "buffer.h"
#include "dispatch.h"

#if defined(__SSE__)
#include <xmmintrin.h>
#endif

namespace pyhbt::cpu {

constexpr int64_t kTileRows = 96;
constexpr int64_t kBlockQueries = 128;  // queries that share one walk over the corpus
constexpr float kInfinity = std::numeric_limits<float>::infinity();

// While alive, this thread keeps subnormal numbers, whatever torch.set_flush_denormal or another library has
// set.
class KeepSubnormals {
 public:
#if defined(__SSE__)
  KeepSubnormals() : saved_(_mm_getcsr()) { _mm_setcsr(saved_ & ~0x8040u); }
  ~KeepSubnormals() { _mm_setcsr(saved_); }
#else
  KeepSubnormals() = default;
#endif
  KeepSubnormals(const KeepSubnormals&) = delete;
  KeepSubnormals& operator=(const KeepSubnormals&) = delete;

#if defined(__SSE__)
 private:
  unsigned saved_;
#endif
};

// The nearest float32 values not below and not above a finite or infinite float64 value.
inline float float_up(double x) {
  const float rounded = static_cast<float>(x);
  return static_cast<double>(rounded) >= x ? rounded : std::nextafter(rounded, kInfinity);
}
inline float float_down(double x) { return -float_up(-x); }

// Euclidean norms (rows,), rounded up. Throws on a non-finite row, naming the argument and the row.
std::vector<float> upper_norms(const float* x, int64_t rows, int64_t dim, const char* name, int threads);

// The factor of norm(c) in the error bound; infinite where float32 scores may overflow: all is then scored
// exactly.
float screening_error(float query_norm, float max_passage_norm, int64_t dim);

// The part of the bound that does not shrink with the norms: products rounded among subnormal numbers.
inline double underflow_error(int64_t dim) { return static_cast<double>(dim + 4) * std::ldexp(1.0, -149); }

// A block of queries as [strip][k][lane].
class PackedQueries {
 public:
  PackedQueries(const float* queries, int64_t rows, int64_t dim);
  const float* strip(int64_t index, int64_t k) const { return buffer_.data() + (index * dim_ + k) * width_; }

 private:
  int64_t width_, dim_;
  FloatBuffer buffer_;
};

// A query block against a slice of the corpus, tile by tile in ascending order of passages.
//   visit(first_query, first_passage, rows, tile) gets tile (rows, strip) of screened scores.
template <typename Visit>
void walk_tiles(const SearchArguments& a, const PackedQueries& queries, int64_t num_queries, int64_t first,
                int64_t last, const Visit& visit) {
  const CpuKernels& kernel = kernels();
  const int64_t width = kernel.strip, step = ceil_div(a.dim, ceil_div(a.dim, kernel.depth_block));
  alignas(64) float tile[kTileRows * kMaxStrip];
  for (int64_t passage = first; passage < last; passage += kTileRows) {
    const int64_t rows = std::min(kTileRows, last - passage);
    for (int64_t query = 0; query < num_queries; query += width) {
      for (int64_t k = 0; k < a.dim; k += step)
        kernel.multiply_rows(a.corpus + passage * a.dim + k, a.dim, rows, queries.strip(query / width, k),
                             std::min(step, a.dim - k), tile, width, k > 0);
      visit(query, passage, rows, tile);
    }
  }
}

// How the work is cut: query blocks, and slices of the corpus where there are fewer blocks than threads.
struct Division {
  int64_t block_queries, blocks, slices, slice_passages;
};
Division divide(const SearchArguments& a);

// One query in float64, as the exact score wants it.
void widen(const float* row, int64_t dim, std::vector<double>& out);

// The arguments with as many threads as the work is worth. Throws on a dim or a number of threads below 1.
SearchArguments checked(SearchArguments a);

}  // namespace pyhbt::cpu
