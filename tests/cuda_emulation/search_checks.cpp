// The kernels of search and of ranks against plain float64 on the host, to the bit.
#include "search.h"

#include "../../csrc/tile_math.h"
#include "checks.h"

namespace checks {
namespace {

using namespace pyhbt::cuda;
using pyhbt::DType;
using pyhbt::Embeddings;
using pyhbt::SearchFilter;

// The order of summation that defines a score.
double exact_dot(const float* a, const float* b, int64_t dim) {
  double lanes[8] = {};
  for (int64_t i = 0; i < dim; ++i) lanes[i % 8] += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  return ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])) + ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7]));
}

// Queries, passages and what screening says of them: integer-valued, so that ties abound, and given in
// float32 with an error bound that is far too wide, so that the exact kernels decide.
struct SearchCase {
  int64_t queries, passages, dim, capacity;
  Array<float> query_rows, passage_rows, scores, code_error, query_size, passage_size, passage_error, scale;
  Array<uint8_t> allowed, pools;
  Array<int32_t> partitions, listed, counts, scored, lost;
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
        pools(queries * 3, 1),
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
      pools[i * 3 + i % 3] = 0;
      excluded[i * 2] = i % passages;
      for (int64_t j = 0; j < passages; ++j)
        scores[i * passages + j] =
            static_cast<float>(score(i, j)) + 0.25f * static_cast<float>((i + j) % 3 - 1);
    }
  }

  double score(int64_t i, int64_t j) {
    return exact_dot(query_rows.data() + i * dim, passage_rows.data() + j * dim, dim);
  }
  bool accepts(int64_t i, int64_t j) {
    return allowed[j] != 0 && pools[i * 3 + partitions[j]] != 0 && excluded[i * 2] != j &&
           excluded[i * 2 + 1] != j;
  }
  SearchFilter filter() {
    return {.allowed = allowed.data(),
            .passage_partitions = partitions.data(),
            .pools = pools.data(),
            .num_partitions = 3,
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

void search_in_tiles(SearchCase& given, int64_t k, int64_t tile_passages) {
  Array<float> threshold(given.queries, -INFINITY);
  Array<double> scale(given.queries, 1.0);
  std::vector<float> memory;
  for (int64_t first = 0; first < given.passages; first += tile_passages) {
    const int64_t last = std::min(given.passages, first + tile_passages);
    append_open(given.tile(first, last, memory), threshold.data(), given.filter(), given.lists(), nullptr);
    score_lists(given.rows_of(given.query_rows), given.rows_of(given.passage_rows), nullptr, given.lists(),
                nullptr);
    select_best(given.lists(), k, scale.data(), last == given.passages, threshold.data(), nullptr);
  }
  for (int64_t i = 0; i < given.queries; ++i) {
    const auto wanted = given.ordered(i);
    const int64_t kept = std::min<int64_t>(k, static_cast<int64_t>(wanted.size()));
    expect(given.counts[i] == kept, "search", "count", i, given.counts[i], static_cast<double>(kept));
    for (int64_t r = 0; r < std::min<int64_t>(kept, given.counts[i]); ++r) {
      const int64_t at = i * given.capacity + r;
      const auto& best = wanted[static_cast<size_t>(r)];
      expect(given.listed[at] == best.index, "search", "passage", at, given.listed[at],
             static_cast<double>(best.index));
      expect(given.exact[at] == best.score, "search", "score", at, given.exact[at], best.score);
    }
    const double last = kept < k ? -INFINITY : wanted[static_cast<size_t>(k - 1)].score;
    expect(static_cast<double>(threshold[i]) == last, "search", "threshold", i,
           static_cast<double>(threshold[i]), last);
    expect(given.lost[i] == 0, "search", "lost", i, given.lost[i], 0);
  }
}

}  // namespace

void test_search() {
  for (const int64_t k : kShort ? std::vector<int64_t>{7} : std::vector<int64_t>{1, 7, 33}) {
    SearchCase given(kShort ? 1 : 3, 530, 19, k + 300);
    search_in_tiles(given, k, 300);
  }
  if (kShort) return;
  SearchCase few(2, 40, 3, 100);  // fewer than k, and thousands of ties among those
  search_in_tiles(few, 60, 17);
  SearchCase large(1, 900, 2, 900);
  search_in_tiles(large, 600, 900);
}

void test_overflow() {
  SearchCase given(2, 700, 5, 100);
  Array<float> threshold(given.queries, -INFINITY);
  Array<double> scale(given.queries, 1.0);
  std::vector<float> memory;
  append_open(given.tile(0, 700, memory), threshold.data(), given.filter(), given.lists(), nullptr);
  score_lists(given.rows_of(given.query_rows), given.rows_of(given.passage_rows), nullptr, given.lists(),
              nullptr);
  select_best(given.lists(), 10, scale.data(), true, threshold.data(), nullptr);
  for (int64_t i = 0; i < given.queries; ++i) {
    expect(given.lost[i] == 1, "overflow", "lost", i, given.lost[i], 1);
    expect(given.counts[i] == 10, "overflow", "count", i, given.counts[i], 10);
  }
}

void test_norms() {
  SearchCase given(2, 77, 19, 10);
  Array<double> norms(given.passages);
  exact_norms(given.rows_of(given.passage_rows), norms.data(), nullptr);
  for (int64_t j = 0; j < given.passages; ++j) {
    const float* row = given.passage_rows.data() + j * given.dim;
    const double wanted = std::sqrt(exact_dot(row, row, given.dim));
    expect(norms[j] == wanted, "norms", "row", j, norms[j], wanted);
  }
}

void test_ranks() {
  constexpr int64_t kTargets = 5, kTile = 230;
  SearchCase given(kShort ? 1 : 3, 530, 7, 300);
  Array<double> target_scores(given.queries * kTargets);
  Array<int32_t> target_passages(given.queries * kTargets), beaten(given.queries * (kTargets + 1), 0);
  Array<float> low(given.queries * kTargets), high(given.queries * kTargets);
  for (int64_t i = 0; i < given.queries; ++i) {
    std::vector<pyhbt::Candidate> targets;
    for (int64_t t = 0; t + 1 < kTargets; ++t) {
      const int64_t passage = (i * 101 + t * 37) % given.passages;
      targets.push_back({given.score(i, passage), passage});
    }
    std::sort(targets.begin(), targets.end(),
              [](const auto& a, const auto& b) { return pyhbt::ranks_before(b, a); });
    targets.push_back({INFINITY, 0});  // absent
    for (int64_t t = 0; t < kTargets; ++t) {
      const auto& target = targets[static_cast<size_t>(t)];
      target_scores[i * kTargets + t] = target.score;
      target_passages[i * kTargets + t] = static_cast<int32_t>(target.index);
      low[i * kTargets + t] = high[i * kTargets + t] = static_cast<float>(target.score);
    }
  }
  const Targets targets{.scores = target_scores.data(),
                        .passages = target_passages.data(),
                        .low = low.data(),
                        .high = high.data(),
                        .count = kTargets,
                        .beaten = beaten.data()};
  std::vector<float> memory;
  for (int64_t first = 0; first < given.passages; first += kTile) {
    const int64_t last = std::min(given.passages, first + kTile);
    count_beaten(given.tile(first, last, memory), targets, given.filter(), given.lists(), nullptr);
    score_lists(given.rows_of(given.query_rows), given.rows_of(given.passage_rows), nullptr, given.lists(),
                nullptr);
    settle_beaten(targets, given.lists(), nullptr);
  }
  for (int64_t i = 0; i < given.queries; ++i) {
    for (int64_t number = 1; number <= kTargets; ++number) {
      int32_t wanted = 0;
      for (int64_t j = 0; j < given.passages; ++j) {
        if (!given.accepts(i, j)) continue;
        int64_t beats = 0;
        while (beats < kTargets &&
               pyhbt::ranks_before({given.score(i, j), j}, {target_scores[i * kTargets + beats],
                                                            target_passages[i * kTargets + beats]}))
          ++beats;
        wanted += beats == number;
      }
      const int64_t at = i * (kTargets + 1) + number;
      expect(beaten[at] == wanted, "ranks", "beaten", at, beaten[at], wanted);
    }
    expect(given.lost[i] == 0, "ranks", "lost", i, given.lost[i], 0);
  }
}

}  // namespace checks
