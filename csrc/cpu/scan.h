// What walks over the corpus share: the pairs that screening leaves open, tile by tile, and their exact scores.
#pragma once

#include <utility>
#include <vector>

#include "../interrupt.h"
#include "block_filter.h"
#include "pools.h"
#include "screen.h"
#include "walk.h"

namespace pyhbt::cpu {

// Calls open(query, passage, position) for every pair of a block of count queries (query: its place in the block) and
// passages of a walk that the filter accepts and the screen's bounds leave open, and strip_done(whether it was the last
// of its tile) after each strip of queries. Tiles follow one another in ascending order of passages.
template <typename Screen, typename Open, typename StripDone>
void for_open_pairs(BlockFilter& filter, int64_t count, Screen& screen, const Walk& walk,
                    Interrupt& interrupt, const Open& open, const StripDone& strip_done) {
  const int64_t width = kernels().strip;
  std::vector<int32_t> hits(static_cast<size_t>(kTilePassages * width));
  for_tiles(walk, screen.strips(), screen.dim(), [&](const PassageTile& tile) {
    interrupt.poll();
    screen.begin(tile);
    filter.begin(tile);
    for (int64_t strip = 0; strip < screen.strips(); ++strip) {
      const int64_t found = screen.open(strip, hits.data());
      for (int64_t h = 0; h < found; ++h) {
        const int64_t position = hits[static_cast<size_t>(h)], row = position / width;
        const int64_t query = strip * width + position % width;
        if (query >= count) continue;  // an infinite bound opens the lanes beyond the block too
        if (!filter.in_pool(query, row) || filter.excluded(query, tile.passage(row))) continue;
        open(query, tile.passage(row), position);
      }
      strip_done(strip + 1 == screen.strips());
    }
  });
}

// Calls each(passage, score) for these passages and one query.
template <typename Each>
void score_each(ExactScore& query, const int64_t* passages, int64_t count, const Each& each) {
  ExactScore* queries[kDots];
  std::fill_n(queries, kDots, &query);
  for (int64_t first = 0; first < count; first += kDots) {
    int64_t own[kDots];
    double scores[kDots];
    const int64_t here = std::min(kDots, count - first);
    for (int64_t i = first + kDots; i < std::min(count, first + 2 * kDots); ++i) query.prefetch(passages[i]);
    for (int64_t i = 0; i < kDots; ++i) own[i] = passages[first + std::min(i, here - 1)];
    ExactScore::pairs(queries, own, scores);
    for (int64_t i = 0; i < here; ++i) each(own[i], scores[i]);
  }
}

// The same of all passages in its pool.
template <typename Each>
void score_pool(const Pools& pools, const Partitions& partitions, ExactScore& query, const Each& each) {
  std::vector<int64_t> memory;
  const Walk walk = pools.walk(partitions, memory);
  score_each(query, walk.listed + walk.first, walk.size(), each);
}

// Pairs of one tile that wait for their exact scores: they are scored passage by passage, so that a row that many
// queries want is widened once for all of them.
class PairScorer {
 public:
  explicit PairScorer(std::vector<ExactScore>& queries)
      : queries_(queries), waiting_(static_cast<size_t>(kTilePassages) * queries.size()) {
    std::fill_n(passages_, kTilePassages, int64_t{-1});
  }

  // row: of the passage in its tile.
  void add(int64_t query, int64_t passage, int64_t row) {
    int32_t& count = counts_[row];
    filled_ |= uint64_t{1} << row;
    if (passages_[row] != passage) {
      passages_[row] = passage;
      queries_[0].prefetch(passage);
    }
    waiting_[static_cast<size_t>(row) * queries_.size() + static_cast<size_t>(count++)] =
        static_cast<int32_t>(query);
  }

  // Calls each(query, passage, score) for all that wait.
  template <typename Each>
  void score(const Each& each) {
    double scores[kDots];
    int64_t rest_passages[kDots], rest_queries[kDots], rest = 0;
    const auto score_rest = [&] {
      ExactScore* scorers[kDots];
      for (int64_t i = 0; i < kDots; ++i) {  // beyond the last it is repeated
        scorers[i] = &queries_[static_cast<size_t>(rest_queries[std::min(i, rest - 1)])];
        rest_passages[i] = rest_passages[std::min(i, rest - 1)];
      }
      ExactScore::pairs(scorers, rest_passages, scores);
      for (int64_t i = 0; i < rest; ++i) each(rest_queries[i], rest_passages[i], scores[i]);
      rest = 0;
    };
    for (uint64_t filled = std::exchange(filled_, 0); filled != 0; filled &= filled - 1) {
      const int64_t row = __builtin_ctzll(filled);
      const int64_t count = std::exchange(counts_[row], 0), passage = passages_[row];
      const int32_t* waiting = waiting_.data() + static_cast<size_t>(row) * queries_.size();
      if (count >= kDots) queries_[0].widen(passage, row_);
      int64_t at = 0;
      for (; at + kDots <= count; at += kDots) {
        const ExactScore* scorers[kDots];
        for (int64_t i = 0; i < kDots; ++i) scorers[i] = &queries_[static_cast<size_t>(waiting[at + i])];
        ExactScore::of_row(scorers, row_, passage, scores);
        for (int64_t i = 0; i < kDots; ++i) each(int64_t{waiting[at + i]}, passage, scores[i]);
      }
      for (; at < count; ++at) {
        rest_queries[rest] = waiting[at];
        rest_passages[rest++] = passage;
        if (rest == kDots) score_rest();
      }
    }
    if (rest > 0) score_rest();
  }

 private:
  std::vector<ExactScore>& queries_;
  std::vector<int32_t> waiting_;  // (rows of a tile, queries)
  static_assert(kTilePassages <= 64);
  uint64_t filled_ = 0;  // rows with a count above 0
  int32_t counts_[kTilePassages] = {};
  int64_t passages_[kTilePassages];  // the last of each row, on its way to the cache
  std::vector<double> row_;
};

}  // namespace pyhbt::cpu
