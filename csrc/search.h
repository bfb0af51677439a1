// Exact maximum inner product search, and ranks of given passages in the full order.
//   queries (nq,d), corpus (n,d) -> scores (nq,k), indices (nq,k);  targets (nq,t) -> ranks (nq,t)
// The score of a pair is its float64 dot product in one fixed summation order, divided by |c| and then |q|
// for similarity "cosine" (docs/how-it-works/numerics.md); the order is higher score (cosine: before the
// division by |q|), then lower index. Passages are screened by int8 codes (codes.h) or in float32, with a
// proved error bound, and the survivors are scored exactly, so results equal a full float64 scan on every
// instruction set and thread count. Time 2 nq n d operations on bytes or floats plus O(d) for each survivor;
// memory O(n) beside the buffers of O(k) a query.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <vector>

#include "codes.h"
#include "embeddings.h"
#include "search_filter.h"
#include "tile_math.h"

namespace pyhbt {

enum class Screening { kAuto, kCodes, kFloats };

struct SearchArguments {
  Embeddings queries;                // finite
  Embeddings corpus;                 // finite
  std::optional<CorpusCodes> codes;  // of the same corpus and similarity; none: screening in float32
  bool cosine;
  SearchFilter filter;
  Screening screening;
  int threads;
};

// Rows short of k are padded with score -infinity and index -1. exact_scores (nq,k), if given, gets the
// numbers that decided the order. Throws std::invalid_argument on k < 1 and on non-finite input, naming the
// argument and its row (a corpus with codes was checked when they were made), Interrupted when the interrupt
// check (interrupt.h) asks for it.
void search(const SearchArguments& arguments, int64_t k, float* scores, int64_t* indices,
            double* exact_scores = nullptr);

// As search() of the corpus for each of its own passages, which does not find itself: k of the n - 1 others, (n,k).
// Every product serves both passages of its pair: n^2 dim operations, half as many. Memory up to 24 max(2 k, k + 32)
// bytes a passage, or a gibibyte. The queries of the arguments are the corpus; throws std::invalid_argument where they are not, on
// a filter, or on a corpus without codes.
void neighbours(const SearchArguments& arguments, int64_t k, float* scores, int64_t* indices);

// What each query finds, in the order of results, with the scores that decide it.
struct RangeResults {
  std::vector<std::vector<Candidate>> rows;
  std::vector<double> norms;  // cosine: |q|, which scores are divided by when they are returned

  double returned(size_t query, double score) const {
    if (norms.empty()) return score;
    return norms[query] > 0 ? score / norms[query] : 0.0;
  }
};

// All passages whose score, as it is returned but in float64, is at least least[query]. Memory 16 bytes a result, up to twice that while they come in. Throws std::length_error as soon as more than most
// are found, std::invalid_argument on a NaN in least (nq,), and what search() throws.
RangeResults search_range(const SearchArguments& arguments, const double* least, int64_t most);

// The corpus cut into runs of passages: those of one language, say.
struct Groups {
  const int64_t* ends = nullptr;  // (count,) one past the last passage of each, rising to n
  int64_t count = 0;              // 0: there are no groups

  int64_t of(int64_t passage) const { return std::upper_bound(ends, ends + count, passage) - ends; }
};

// 1-based rank of each target among the passages that its query may find; a target of -1 has rank 0. A target
// outside the filter gets the rank that it would have. With groups, within (nq,t) gets the rank of each target among
// the passages of its own group, from the same pass. Throws std::invalid_argument on groups beside a filter.
void ranks(const SearchArguments& arguments, const int64_t* targets, int64_t targets_per_query,
           int64_t* ranks, const Groups& groups = {}, int64_t* within = nullptr);

}  // namespace pyhbt
