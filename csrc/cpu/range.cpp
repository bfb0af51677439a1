// Range search: what screening leaves open is scored and held against the query's least score, tile by tile.
#include <atomic>
#include <numeric>
#include <stdexcept>
#include <string>

#include "../interrupt.h"
#include "../parallel.h"
#include "../search.h"
#include "coded_queries.h"
#include "filter.h"
#include "plan.h"
#include "pools.h"
#include "scan.h"
#include "screen.h"
#include "sort_candidates.h"

namespace pyhbt::cpu {
namespace {

using Rows = std::vector<std::vector<Candidate>>;  // what was found for some queries

struct RangeSearch {
  const Call& call;
  const Filter& filter;
  const Pools& pools;
  const double* least;
  const int64_t most;
  const RangeResults& results;  // for its norms
  std::atomic<int64_t> total{0};
  Interrupt interrupt{};

  // No score below this, as the order has it, is the least one after the division.
  double screened_at(int64_t query) const {
    const double wanted = least[query];
    if (!call.a.cosine) return wanted;
    const double norm = call.query_norms[static_cast<size_t>(query)], score = wanted * norm;
    if (norm == 0) return 0 >= wanted ? kNoThreshold : -kNoThreshold;
    return std::isfinite(score) ? score - 0x1p-50 * std::abs(score) - 0x1p-1000 : score;
  }

  template <typename Screen>
  void scan(const std::vector<int64_t>& queries, BlockFilter& accepted, Screen& screen, const Walk& walk,
            Rows& found) {
    std::vector<ExactScore> exact;
    std::vector<double> at_least;
    for (const int64_t query : queries) {
      exact.emplace_back(call, query);
      at_least.push_back(screened_at(query));
      screen.set_threshold(static_cast<int64_t>(at_least.size()) - 1, at_least.back());
    }
    PairScorer waiting(exact);
    const auto open = [&](int64_t query, int64_t passage, int64_t position) {
      if (screen.interval(query, passage, position).upper >= at_least[static_cast<size_t>(query)])
        waiting.add(query, passage, position / kernels().strip);
    };
    const auto score = [&](bool last_strip) {
      if (!last_strip) return;
      int64_t added = 0;
      waiting.score([&](int64_t at, int64_t passage, double exact_score) {
        const int64_t query = queries[static_cast<size_t>(at)];
        if (!(results.returned(static_cast<size_t>(query), exact_score) >= least[query])) return;
        found[static_cast<size_t>(at)].push_back({exact_score, passage});
        ++added;
      });
      count(added);
    };
    for_open_pairs(accepted, static_cast<int64_t>(queries.size()), screen, walk, interrupt, open, score);
  }

  void count(int64_t added) {
    if (added > 0 && total.fetch_add(added) + added > most)
      throw std::length_error("threshold: more than " + std::to_string(most) +
                              " pairs of query and passage reach it, expected at most that many; raise the "
                              "threshold or max_results");
  }

  // Pools so small that all of each is scored.
  void scan_own_pools(const std::vector<int64_t>& queries, Rows& found) {
    for (size_t at = 0; at < queries.size(); ++at) {
      interrupt.poll();
      ExactScore exact(call, queries[at]);
      score_pool(pools, filter.partitions_of(queries[at]), exact, [&](int64_t passage, double score) {
        if (results.returned(static_cast<size_t>(queries[at]), score) >= least[queries[at]] &&
            !filter.excluded(queries[at], passage))
          found[at].push_back({score, passage});
      });
      count(static_cast<int64_t>(found[at].size()));
    }
  }

  void scan_block(const Plan& plan, const QueryBlock& block, int64_t part, Rows& found) {
    const std::vector<int64_t> queries = plan.queries(block);
    found.resize(queries.size());
    if (block.exact) {
      if (part == 0) scan_own_pools(queries, found);
      return;
    }
    const std::vector<int32_t> searched = plan.partitions(queries);
    std::vector<int64_t> memory;
    const Walk walk =
        plan.walk({searched.data(), searched.data() + searched.size()}, memory).part(part, plan.parts());
    BlockFilter accepted(filter, queries, searched, block.one_pool);
    if (call.by_codes()) {
      CodeScreen screen(call, queries);
      scan(queries, accepted, screen, walk, found);
    } else {
      FloatScreen screen(call, queries);
      scan(queries, accepted, screen, walk, found);
    }
  }
};

}  // namespace
}  // namespace pyhbt::cpu

namespace pyhbt {

RangeResults search_range(const SearchArguments& arguments, const double* least, int64_t most) {
  using namespace cpu;
  const KeepSubnormals guard;  // every task has its own
  Call call(arguments);
  const int64_t num_queries = call.a.queries.rows, num_passages = call.a.corpus.rows;
  for (int64_t query = 0; query < num_queries; ++query)
    if (std::isnan(least[query]))
      throw std::invalid_argument("threshold: found a NaN in row " + std::to_string(query) +
                                  ", expected numbers");
  if (most < 0)
    throw std::invalid_argument("max_results: found " + std::to_string(most) + ", expected at least 0");
  call.measure_passages();
  RangeResults results;
  results.rows.resize(static_cast<size_t>(num_queries));
  if (call.a.cosine) results.norms = call.query_norms;
  if (num_queries == 0 || num_passages == 0) return results;
  std::vector<int64_t> queries(static_cast<size_t>(num_queries));
  std::iota(queries.begin(), queries.end(), int64_t{0});
  const Filter filter(call.a.filter);
  const Pools pools(filter, num_passages);
  Plan plan(call, filter, pools, queries);
  plan.cut(call);
  RangeSearch search{call, filter, pools, least, most, results};

  const std::vector<QueryBlock>& cut = plan.blocks();
  const int64_t blocks = static_cast<int64_t>(cut.size()), slices = plan.parts();
  std::vector<Rows> parts(static_cast<size_t>(blocks * slices));
  parallel_for(call.a.threads, blocks * slices, [&](int64_t task) {
    const KeepSubnormals task_guard;
    search.scan_block(plan, cut[static_cast<size_t>(task / slices)], task % slices,
                      parts[static_cast<size_t>(task)]);
  });
  for (int64_t block = 0; block < blocks; ++block) {
    const QueryBlock& of = cut[static_cast<size_t>(block)];
    parallel_for(call.a.threads, of.end - of.start, [&](int64_t at) {
      const int64_t query = plan.order()[static_cast<size_t>(of.start + at)];
      std::vector<Candidate>& row = results.rows[static_cast<size_t>(query)];
      for (int64_t slice = 0; slice < slices; ++slice) {
        std::vector<Candidate>& part =
            parts[static_cast<size_t>(block * slices + slice)][static_cast<size_t>(at)];
        if (row.empty())
          row = std::move(part);
        else
          row.insert(row.end(), part.begin(), part.end());
        part = {};
      }
      sort_candidates(row);
    });
  }
  return results;
}

}  // namespace pyhbt
