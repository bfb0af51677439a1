// The memory-bound parts of exact search and rank counting on a GPU, around products of matrices in float16
// that are not ours.
//   A tile of screening scores is read once, what it leaves open goes to a list of each query, and lists are
//   scored exactly: in float64, in the order of summation of the CPU kernels, so that both give the same bits.
//   Lists grow by integer atomics in any order; what is read from them afterwards does not depend on it.
//   Launches are asynchronous on the stream and allocate nothing.
#pragma once

#include "../embeddings.h"
#include "../search_filter.h"
#include "language.h"

namespace pyhbt::cuda {

// Screening scores of some queries against passages first..first+columns, and what bounds their error: in
// units of the float16 rows,
//   |exact - scores[i][j]| <= code_error[i] * passage_size[j] + query_size[i] * passage_error[j],
// and one unit is 2^-unit[i] 2^-unit[j]: an exact score x is x * scale_i * passage_scale[j] here, scales
// being powers of two. A passage that float16 cannot serve has an infinite size: nothing excludes it.
struct ScoreTile {
  const float* scores;  // (queries, columns)
  int64_t queries, first, columns;
  const float *code_error, *query_size;                       // (queries,)
  const float *passage_size, *passage_error, *passage_scale;  // (n,), of all passages
};

// A list of passages for each query.
struct Lists {
  int32_t* passages;  // (queries, capacity)
  double* scores;     // (queries, capacity) exact, of those that have been scored
  int32_t* counts;    // (queries,) entries appended; beyond the capacity they are lost
  int32_t* scored;    // (queries,) the first so many have an exact score
  int32_t* lost;      // (queries,) 1 once a list has overflowed
  int64_t queries, capacity;
};

// Appends the passages whose exact score may reach the query's threshold, in units of the tile:
// threshold[i] = exact threshold times scale_i, rounded down.
void append_open(const ScoreTile& tile, const float* threshold, const SearchFilter& filter,
                 const Lists& lists, cudaStream_t stream);

// norms (rows,) = roots of the dot products of the rows with themselves, in the order of exact scores.
void exact_norms(const Embeddings& rows, double* norms, cudaStream_t stream);

// Scores the entries that have none. queries are float32; norms (n,): cosine, divided by the norm of the
// passage (0 where that is 0), or nullptr.
void score_lists(const Embeddings& queries, const Embeddings& corpus, const double* norms, const Lists& lists,
                 cudaStream_t stream);

constexpr int kMostSelected = 2048;

// Leaves the best min(k, count) scored entries in each list, in the order of results (higher score, then
// lower index) where sorted is set, and the k-th best score, times scale (queries,) and rounded down, as
// threshold; -infinity where there are fewer. k <= kMostSelected.
void select_best(const Lists& lists, int64_t k, const double* scale, bool sorted, float* threshold,
                 cudaStream_t stream);

// Targets of each query in rising order of results (absent ones, of infinite score, last).
struct Targets {
  const double* scores;     // (queries, count)
  const int32_t* passages;  // (queries, count)
  const float *low, *high;  // (queries, count) the score times scale_i, rounded down and up
  int64_t count;
  int32_t* beaten;  // (queries, count + 1): how many passages come before exactly so many targets
};

// Adds to beaten the passages that certainly come before some targets; those on which the tile leaves a
// target undecided are appended to the lists.
void count_beaten(const ScoreTile& tile, const Targets& targets, const SearchFilter& filter,
                  const Lists& lists, cudaStream_t stream);

// Adds the scored entries of the lists to beaten, and empties the lists.
void settle_beaten(const Targets& targets, const Lists& lists, cudaStream_t stream);

}  // namespace pyhbt::cuda
