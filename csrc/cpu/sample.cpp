// Guesses of thresholds: sample.h.
#include "sample.h"

#include <functional>

#include "../parallel.h"

namespace pyhbt::cpu {

Sample::Sample(const Call& call, int64_t k, int64_t most_passages) {
  const int64_t n = num_passages_ = call.a.corpus.rows;
  // Large enough to know the k-th best within some 10 %, small beside the corpus.
  const bool few = call.a.queries.rows <= kFewQueries;  // whose walk costs no more than reading the corpus
  const int64_t most = std::clamp<int64_t>(n / 8, 256, few ? 1024 : 4096);
  const int64_t size = std::clamp<int64_t>(150 * n / k, std::min<int64_t>(most, 1024), most);
  // The k-th best of all lies near this rank of the sample; three standard deviations are added.
  const double expected = static_cast<double>(k) * static_cast<double>(size) / static_cast<double>(n);
  rank_ = static_cast<int64_t>(expected + 3 * std::sqrt(expected) + 3);
  if (most_passages < kLeastTimes * size || rank_ > size / 2) return;
  passages_.resize(static_cast<size_t>(size));
  codes_.resize(*call.a.codes, call.a.corpus.dim, size);
  // Every row comes from elsewhere in memory: threads wait for several at once.
  constexpr int64_t kRows = 128;
  parallel_for(call.a.threads, ceil_div(size, kRows), [&](int64_t task) {
    for (int64_t i = task * kRows; i < std::min(size, (task + 1) * kRows); ++i) {
      // One passage of each stretch, at a place that no period of the corpus follows.
      const int64_t start = n * i / size, length = n * (i + 1) / size - start;
      const uint64_t hash = static_cast<uint64_t>(i + 1) * 0x9e3779b97f4a7c15u >> 32;
      const int64_t passage = start + static_cast<int64_t>(hash % static_cast<uint64_t>(length));
      passages_[static_cast<size_t>(i)] = passage;
      codes_.set(i, *call.a.codes, passage);
    }
  });
}

std::vector<double> Sample::guesses(CodeScreen& screen, const std::vector<int64_t>& queries,
                                    const Filter& filter, bool one_pool) const {
  std::vector<double> found(queries.size(), kNoThreshold);
  if (empty() || queries.empty()) return found;
  const int64_t width = kernels().strip, count = static_cast<int64_t>(queries.size());
  // Passages excluded one by one count where they may all lie above the rank.
  const bool excluding = filter.excluded_per_query() * size() >= num_passages_;
  std::vector<float> tile(static_cast<size_t>(size() * width)), column;
  std::vector<int32_t> partitions;
  for (const int64_t passage : passages_) partitions.push_back(filter.partition(passage) + 1);
  std::vector<uint8_t> searched(static_cast<size_t>(filter.num_partitions() + 1));
  std::vector<int64_t> places;  // of passages in the pool of one query
  const auto find_places = [&](int64_t query) {
    places.clear();
    for (const int32_t partition : filter.partitions_of(query))
      searched[static_cast<size_t>(partition + 1)] = 1;
    for (int64_t i = 0; i < size(); ++i)
      if (searched[static_cast<size_t>(partitions[static_cast<size_t>(i)])] != 0) places.push_back(i);
    for (const int32_t partition : filter.partitions_of(query))
      searched[static_cast<size_t>(partition + 1)] = 0;
  };
  find_places(queries[0]);
  float quantiles[kMaxStrip];
  for (int64_t strip = 0; strip < screen.strips(); ++strip) {
    screen.estimates_in(codes_.view(), strip, 0, size(), tile.data());
    const int64_t lanes = std::min(width, count - strip * width);
    const bool together = one_pool && !excluding;
    if (together) {
      const int64_t rows = static_cast<int64_t>(places.size());
      if (rows <= rank_) return found;
      for (int64_t i = 0; i < rows && rows < size(); ++i)
        std::copy_n(tile.data() + places[static_cast<size_t>(i)] * width, width, tile.data() + i * width);
      kernels().upper_quantiles(tile.data(), rows, lanes, rank_, quantiles);
    }
    for (int64_t lane = 0; lane < lanes; ++lane) {
      const int64_t at = strip * width + lane, query = queries[static_cast<size_t>(at)];
      if (!together) {
        if (!one_pool) find_places(query);
        column.clear();
        const Excluded excluded = filter.excluded_of(query);
        const int64_t* next = excluded.first;
        for (const int64_t i : places) {
          const int64_t passage = passages_[static_cast<size_t>(i)];
          while (excluding && next != excluded.last && *next < passage) ++next;
          if (!excluding || next == excluded.last || *next != passage)
            column.push_back(tile[static_cast<size_t>(i * width + lane)]);
        }
        if (static_cast<int64_t>(column.size()) <= rank_) continue;
        const auto place = column.begin() + static_cast<std::ptrdiff_t>(rank_);
        std::nth_element(column.begin(), place, column.end(), std::greater<float>());
        quantiles[lane] = *place;
      }
      if (std::isfinite(quantiles[lane]))
        found[static_cast<size_t>(at)] = screen.score_of(at, quantiles[lane]);
    }
  }
  return found;
}

double Sample::open_share(CodeScreen& screen, int64_t num_queries) const {
  std::vector<int32_t> hits(static_cast<size_t>(size() * kernels().strip));
  int64_t open = 0;
  for (int64_t strip = 0; strip < screen.strips(); ++strip)
    open += screen.open_in(codes_.view(), strip, 0, size(), hits.data());
  return static_cast<double>(open) / static_cast<double>(size() * num_queries);
}

}  // namespace pyhbt::cpu
