// Queries, passages and lists for the checks of the search kernels.
#pragma once

#include "../../csrc/tile_math.h"
#include "checks.h"
#include "search.h"

namespace checks {

using pyhbt::DType;
using pyhbt::Embeddings;
using pyhbt::SearchFilter;
using pyhbt::cuda::Lists;
using pyhbt::cuda::ScoreTile;

// The order of summation that defines a score.
inline double exact_dot(const float* a, const float* b, int64_t dim) {
  double lanes[8] = {};
  for (int64_t i = 0; i < dim; ++i) lanes[i % 8] += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  return ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])) + ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7]));
}

// Queries, passages and what screening says of them: integer-valued, so that ties abound, and given in
// float32 with an error bound that is far too wide, so that the exact kernels decide.
struct SearchCase {
  int64_t queries, passages, dim, capacity;
  Array<float> query_rows, passage_rows, scores, code_error, query_size, passage_size, passage_error, scale;
  Array<uint8_t> allowed;
  Array<int32_t> query_partitions, partitions, listed, counts, scored, lost;
  Array<int64_t> excluded;
  Array<double> exact;

  SearchCase(int64_t queries_, int64_t passages_, int64_t dim_, int64_t capacity_)
      : queries(queries_),
        passages(passages_),
        dim(dim_),
        capacity(capacity_),
        query_rows(queries * dim),
        passage_rows(passages * dim),
        scores(queries * passages),
        code_error(queries, 0.5f),
        query_size(queries, 1.0f),
        passage_size(passages, 1.0f),
        passage_error(passages, 0.25f),
        scale(passages, 1.0f),
        allowed(passages, 1),
        query_partitions(queries * 3, 1),
        partitions(passages),
        listed(queries * capacity),
        counts(queries, 0),
        scored(queries, 0),
        lost(queries, 0),
        excluded(queries * 2, -1),
        exact(queries * capacity) {
    std::uniform_int_distribution<int> integer(-2, 2);
    for (Array<float>* rows : {&query_rows, &passage_rows})
      for (int64_t i = 0; i < rows->size(); ++i) (*rows)[i] = static_cast<float>(integer(generator));
    for (int64_t j = 0; j < passages; ++j) {
      allowed[j] = j % 13 != 5;
      partitions[j] = static_cast<int32_t>(j % 3);
    }
    for (int64_t i = 0; i < queries; ++i) {
      for (int64_t p = 0, place = 1; p < 3; ++p)
        if (p != i % 3) query_partitions[i * 3 + place++] = static_cast<int32_t>(p);
      query_partitions[i * 3] = -1;
      excluded[i * 2 + 1] = i % passages;
      for (int64_t j = 0; j < passages; ++j)
        scores[i * passages + j] =
            static_cast<float>(score(i, j)) + 0.25f * static_cast<float>((i + j) % 3 - 1);
    }
  }

  double score(int64_t i, int64_t j) {
    return exact_dot(query_rows.data() + i * dim, passage_rows.data() + j * dim, dim);
  }
  bool accepts(int64_t i, int64_t j) {
    return allowed[j] != 0 && partitions[j] != i % 3 && excluded[i * 2] != j && excluded[i * 2 + 1] != j;
  }
  SearchFilter filter() {
    return {.allowed = allowed.data(),
            .passage_partitions = partitions.data(),
            .num_partitions = 3,
            .query_partitions = query_partitions.data(),
            .partitions_per_query = 3,
            .excluded = excluded.data(),
            .excluded_per_query = 2};
  }
  // A tile of its own memory: columns first..last.
  ScoreTile tile(int64_t first, int64_t last, std::vector<float>& memory) {
    memory.clear();
    for (int64_t i = 0; i < queries; ++i)
      for (int64_t j = first; j < last; ++j) memory.push_back(scores[i * passages + j]);
    memory.shrink_to_fit();
    return {.scores = memory.data(),
            .queries = queries,
            .first = first,
            .columns = last - first,
            .code_error = code_error.data(),
            .query_size = query_size.data(),
            .passage_size = passage_size.data(),
            .passage_error = passage_error.data(),
            .passage_scale = scale.data()};
  }
  Lists lists() {
    return {.passages = listed.data(),
            .scores = exact.data(),
            .counts = counts.data(),
            .scored = scored.data(),
            .lost = lost.data(),
            .queries = queries,
            .capacity = capacity};
  }
  Embeddings rows_of(Array<float>& rows) {
    return {rows.data(), DType::kFloat32, rows.size() / dim, dim, dim};
  }
  std::vector<pyhbt::Candidate> ordered(int64_t i) {
    std::vector<pyhbt::Candidate> all;
    for (int64_t j = 0; j < passages; ++j)
      if (accepts(i, j)) all.push_back({score(i, j), j});
    std::sort(all.begin(), all.end(), pyhbt::ranks_before);
    return all;
  }
};

}  // namespace checks
