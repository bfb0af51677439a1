// Exact maximum inner product search, and ranks of given passages in the full order.
//   queries (nq,d), corpus (n,d) -> scores (nq,k), indices (nq,k);  targets (nq,t) -> ranks (nq,t)
// The score of a pair is its float64 dot product in one fixed summation order (docs/numerics.md); the order
// is higher score, then lower index. Passages are screened in float32 with a proved error bound and the
// survivors are scored exactly, so results equal a full float64 scan on every instruction set and thread
// count. Time 2 nq n d float32 flops plus O(d) for each survivor; memory O(n) beside the buffers of O(k) a
// query.
#pragma once

#include <cstdint>

namespace pyhbt {

struct SearchArguments {
  const float* queries;  // (nq,d) row-major, finite
  const float* corpus;   // (n,d) row-major, finite
  int64_t num_queries;
  int64_t num_passages;
  int64_t dim;
  int threads;
};

// Rows short of k (k > n) are padded with score -infinity and index -1.
// Throws std::invalid_argument on k < 1 and on non-finite input, naming the argument and its row.
void search(const SearchArguments& arguments, int64_t k, float* scores, int64_t* indices);

// 1-based rank of each target passage; a target of -1 has rank 0.
void ranks(const SearchArguments& arguments, const int64_t* targets, int64_t targets_per_query,
           int64_t* ranks);

}  // namespace pyhbt
