// The kernels of search and of ranks against plain float64 on the host, to the bit.
#include "search_case.h"

namespace checks {
namespace {

using namespace pyhbt::cuda;

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
    const int64_t tile = kShort ? 70 : 300;
    SearchCase given(kShort ? 1 : 3, kShort ? 130 : 530, 19, k + tile);
    search_in_tiles(given, k, tile);
  }
  if (kShort) return;
  SearchCase few(2, 40, 3, 100);  // fewer than k, and thousands of ties among those
  search_in_tiles(few, 60, 17);
  SearchCase large(1, 900, 2, 900);
  search_in_tiles(large, 600, 900);
}

void test_overflow() {
  SearchCase given(kShort ? 1 : 2, 700, 5, 100);
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

void test_ranks() {
  constexpr int64_t kTargets = 5, kTile = kShort ? 70 : 230;
  SearchCase given(kShort ? 1 : 3, kShort ? 130 : 530, 7, kTile + 70);
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
