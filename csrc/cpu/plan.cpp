// Order, runs and blocks of queries: plan.h.
#include "plan.h"

#include <iterator>

namespace pyhbt::cpu {
namespace {

// Scoring so many passages costs a query less than its codes.
constexpr int64_t kFewPassages = 128;
constexpr int64_t kMostExactQueries = 64;  // of a block

// Packed queries and a tile of passages share the second cache.
constexpr int64_t kMostQueries = 256, kMostQueriesInFloats = 128;

// Numbers of a block's tables of partitions and queries (block_filter.h, penalties.h).
constexpr int64_t kMostPenalties = int64_t{1} << 20;

// Relative to a passage that one strip screens.
double cost(int64_t passages, int64_t queries, int64_t dim) {
  constexpr double kBlock = 64;
  const double strips = static_cast<double>(ceil_div(queries, kernels().strip));
  return static_cast<double>(passages) * (gathering_cost(dim) + strips) + kBlock;
}

}  // namespace

Plan::Plan(const Call& call, const Filter& filter, const Pools& pools, const std::vector<int64_t>& queries)
    : filter_(filter), pools_(pools), order_(queries) {
  const int64_t count = static_cast<int64_t>(queries.size());
  if (!pools.listed()) {
    runs_.push_back({{0, count, true, false}, call.a.corpus.rows, {}});
    return;
  }
  std::stable_sort(order_.begin(), order_.end(),
                   [&](int64_t a, int64_t b) { return filter.partitions_of(a) < filter.partitions_of(b); });
  int64_t num_exact = 0;
  if (call.a.screening == Screening::kAuto) {
    const auto few = [&](int64_t query) {
      return pools.size_of(filter.partitions_of(query)) <= kFewPassages;
    };
    num_exact = std::stable_partition(order_.begin(), order_.end(), few) - order_.begin();
    if (num_exact > 0) runs_.push_back({{0, num_exact, false, true}, 0, {}});
  }
  std::vector<Run> screened;
  for (int64_t start = num_exact, end; start < count; start = end) {
    const Partitions own = filter.partitions_of(order_[static_cast<size_t>(start)]);
    for (end = start + 1; end < count; ++end)
      if (!(filter.partitions_of(order_[static_cast<size_t>(end)]) == own)) break;
    screened.push_back({{start, end, true, false}, pools.size_of(own), {own.begin(), own.end()}});
  }
  // Again and again: what fills a strip may pay beside another strip, where a single query more does not.
  size_t before = 0;
  for (int64_t joined = 1; joined < kMostQueries && before != screened.size(); joined *= 2) {
    before = screened.size();
    join(screened, call.a.corpus.dim);
  }
  for (Run& run : screened) runs_.push_back({run.queries, run.passages, {}});
}

void Plan::join(std::vector<Run>& runs, int64_t dim) const {
  std::vector<Run> joined;
  std::vector<int32_t> both;
  for (Run& next : runs) {
    const int64_t added = next.queries.end - next.queries.start;
    const int64_t now =
        joined.empty() ? kMostQueries : joined.back().queries.end - joined.back().queries.start;
    if (now + added <= kMostQueries) {
      Run& last = joined.back();
      both.clear();
      std::set_union(last.partitions.begin(), last.partitions.end(), next.partitions.begin(),
                     next.partitions.end(), std::back_inserter(both));
      const int64_t passages = pools_.size_of({both.data(), both.data() + both.size()});
      const int64_t penalties = round_up(now + added, kMaxStrip) * static_cast<int64_t>(both.size());
      if (penalties <= kMostPenalties &&
          cost(passages, now + added, dim) <=
              cost(last.passages, now, dim) + cost(next.passages, added, dim)) {
        last.queries = {last.queries.start, next.queries.end, false, false};
        last.passages = passages;
        last.partitions.swap(both);
        continue;
      }
    }
    joined.push_back(std::move(next));
  }
  runs.swap(joined);
}

void Plan::cut(const Call& call) {
  blocks_.clear();
  const int64_t width = kernels().strip, threads = call.a.threads;
  const int64_t threads_of_run = ceil_div(threads, static_cast<int64_t>(runs_.size()));
  for (const Run& run : runs_) {
    const int64_t start = run.queries.start, count = run.queries.end - start;
    // A screened block has two strips at least, lest the corpus be read more often than the arithmetic hides.
    const int64_t unit = run.queries.exact ? 1 : width;
    const int64_t units = ceil_div(count, unit);
    const int64_t most = run.queries.exact ? kMostExactQueries
                         : call.by_codes() ? kMostQueries
                                           : kMostQueriesInFloats;
    const int64_t wanted = ceil_div(count, most * threads_of_run) * threads_of_run;
    const int64_t number =
        std::clamp<int64_t>(wanted, 1, run.queries.exact ? units : std::max<int64_t>(1, units / 2));
    for (int64_t i = 0; i < number; ++i) {
      QueryBlock block = run.queries;
      block.start = start + std::min(count, units * i / number * unit);
      block.end = start + std::min(count, units * (i + 1) / number * unit);
      blocks_.push_back(block);
    }
  }
  const int64_t blocks = static_cast<int64_t>(blocks_.size());
  const int64_t most_parts = std::max<int64_t>(1, ceil_div(most_passages(), 4 * kTilePassages));
  parts_ = blocks >= threads ? 1 : std::min(most_parts, ceil_div(threads, blocks));
}

std::vector<int32_t> Plan::partitions(const std::vector<int64_t>& queries) const {
  std::vector<int32_t> found;
  Partitions last{};
  for (const int64_t query : queries) {
    const Partitions own = filter_.partitions_of(query);
    if (own == last) continue;
    found.insert(found.end(), own.begin(), own.end());
    last = own;
  }
  std::sort(found.begin(), found.end());
  found.erase(std::unique(found.begin(), found.end()), found.end());
  return found;
}

QueryBlock Plan::largest() const {
  QueryBlock found{};
  int64_t most = 0;
  for (const Run& run : runs_) {
    if (run.passages <= most) continue;
    most = run.passages;
    found = run.queries;
  }
  return found;
}

int64_t Plan::most_passages() const {
  int64_t most = 0;
  for (const Run& run : runs_) most = std::max(most, run.passages);
  return most;
}

}  // namespace pyhbt::cpu
