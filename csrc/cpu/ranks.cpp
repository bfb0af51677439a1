// Ranks: count, for every target, the passages that come before it, in the corpus and in its own group. Almost all are
// decided by screening; the rest are scored exactly.
#include <numeric>
#include <stdexcept>
#include <string>

#include "../interrupt.h"
#include "../parallel.h"
#include "../tile_math.h"
#include "block_filter.h"
#include "coded_queries.h"
#include "penalties.h"
#include "plan.h"
#include "pools.h"
#include "scan.h"
#include "screen.h"
#include "sort_candidates.h"

namespace pyhbt::cpu {
namespace {

constexpr double kMostUndecided =
    0.04;  // targets a pair of query and passage; the two break even at 0.02 to 0.06
constexpr int64_t kTrialQueries = 32, kTrialTiles = 8;
constexpr int64_t kMostTargets =
    256;  // at a time: a tile may leave all pairs of passage and target undecided

// The targets of one query in rising order of score; absent ones come last.
struct Target {
  Candidate candidate;
  int64_t column;  // of the caller's targets
  int64_t group;   // of the passage; -1: it is absent, or there are no groups
};

// Counts of the passages before each target of some queries, (queries, per_query): in the corpus, in its group.
struct Before {
  int64_t* all;
  int64_t* own;  // null where there are no groups
};

struct Counting {
  const Call& call;
  const Filter& filter;
  const Pools& pools;
  const int64_t per_query;
  const std::vector<Target>& targets;  // (nq, per_query)
  const Groups& groups;
  Interrupt interrupt{};

  const Target& target(int64_t query, int64_t t) const {
    return targets[static_cast<size_t>(query * per_query + t)];
  }

  template <typename Screen>
  std::vector<RankBounds> bounds_of(const Screen& screen, const std::vector<int64_t>& queries) const {
    const int64_t width = kernels().strip, count = static_cast<int64_t>(queries.size());
    std::vector<RankBounds> bounds(static_cast<size_t>(screen.strips() * per_query));
    for (RankBounds& b : bounds)
      for (int64_t lane = 0; lane < kMaxStrip; ++lane) b.low[lane] = b.high[lane] = kInfinity;
    for (int64_t q = 0; q < count; ++q) {
      for (int64_t t = 0; t < per_query; ++t) {
        const Target& wanted = target(queries[static_cast<size_t>(q)], t);
        RankBounds& b = bounds[static_cast<size_t>(q / width * per_query + t)];
        if (wanted.candidate.index >= 0)
          screen.bound(q, wanted.candidate.score, b.low[q % width], b.high[q % width]);
      }
    }
    return bounds;
  }

  // Adds to before the passages of a walk that come before each target. Returns how many pairs of passage and target
  // screening left undecided.
  template <typename Screen>
  int64_t scan(const std::vector<int64_t>& queries, Screen& screen, const Walk& walk,
               const std::vector<int32_t>& searched, bool one_pool, const Before& before) {
    const int64_t width = kernels().strip, count = static_cast<int64_t>(queries.size());
    BlockFilter accepted(filter, queries, searched, one_pool);
    Penalties penalties(filter, queries, searched, accepted, width);
    const std::vector<RankBounds> bounds = bounds_of(screen, queries);
    std::vector<ExactScore> exact(queries.size());
    const int64_t most_hits = kTilePassages * width * std::min(per_query, kMostTargets);
    std::vector<RankHit> hits(static_cast<size_t>(most_hits));
    std::vector<int32_t> counts(static_cast<size_t>(screen.strips() * per_query * kMaxStrip));
    int64_t undecided = 0;
    const auto add_tile = [&](const PassageTile& tile) {
      interrupt.poll();
      screen.begin(tile);
      accepted.begin(tile);
      for (int64_t strip = 0; strip < screen.strips(); ++strip) {
        const float* const* row_penalties = penalties.of(strip);
        for (int64_t t = 0; t < per_query; t += kMostTargets) {
          const int64_t at = strip * per_query + t;
          const RankCounting counting{bounds.data() + at, std::min(per_query - t, kMostTargets),
                                      counts.data() + at * kMaxStrip, row_penalties};
          const int64_t found = screen.count(strip, counting, hits.data());
          undecided += found;
          for (int64_t h = 0; h < found; h = settle(queries, accepted, screen, strip * width, tile, t, hits,
                                                    h, found, exact, before.all)) {
          }
        }
      }
    };
    // Adds what was counted to before.all and begins anew.
    const auto collect = [&] {
      for (int64_t q = 0; q < count; ++q) {
        for (int64_t t = per_query - 1, above = 0; t >= 0; --t) {
          const int64_t chunk = std::min(per_query, (t / kMostTargets + 1) * kMostTargets);
          if (t + 1 == chunk || chunk - t / kMostTargets * kMostTargets < kManyTargets) above = 0;
          int32_t& counted = counts[static_cast<size_t>((q / width * per_query + t) * kMaxStrip + q % width)];
          above += counted;
          counted = 0;
          before.all[q * per_query + t] += above;
        }
      }
    };
    // What a group adds to the counts of its own targets is their change from its first passage to its last.
    const auto add_own = [&](int64_t group, int64_t sign) {
      for (int64_t q = 0; q < count; ++q)
        for (int64_t t = 0; t < per_query; ++t)
          if (target(queries[static_cast<size_t>(q)], t).group == group)
            before.own[q * per_query + t] += sign * before.all[q * per_query + t];
    };
    for (int64_t start = walk.first, end; start < walk.last; start = end) {
      const int64_t group = before.own == nullptr ? -1 : groups.of(start);  // beside a filter there are none
      end = group < 0 ? walk.last : std::min(walk.last, groups.ends[group]);
      if (group >= 0) add_own(group, -1);
      for_tiles({start, end, walk.listed}, screen.strips(), screen.dim(), add_tile);
      collect();
      if (group >= 0) add_own(group, 1);
    }
    return undecided;
  }

  // Decides all hits of one pair of query and passage, which follow one another; returns the next.
  template <typename Screen>
  int64_t settle(const std::vector<int64_t>& queries, const BlockFilter& accepted, const Screen& screen,
                 int64_t first_query, const PassageTile& tile, int64_t first_target,
                 const std::vector<RankHit>& hits, int64_t h, int64_t found, std::vector<ExactScore>& exact,
                 int64_t* before) const {
    const RankHit pair = hits[static_cast<size_t>(h)];
    int64_t end = h + 1;
    while (end < found && hits[static_cast<size_t>(end)].row == pair.row &&
           hits[static_cast<size_t>(end)].lane == pair.lane)
      ++end;
    const int64_t q = first_query + pair.lane, passage = tile.passage(pair.row);
    if (q >= static_cast<int64_t>(queries.size()))
      return end;  // an infinite bound opens the lanes beyond the block too
    const int64_t query = queries[static_cast<size_t>(q)];
    if (!accepted.in_pool(q, pair.row)) return end;
    Interval score = screen.interval(q, passage, pair.row * kernels().strip + pair.lane);
    bool known = false;
    for (; h < end; ++h) {
      const int64_t t = first_target + hits[static_cast<size_t>(h)].target;
      const Candidate& wanted = target(query, t).candidate;
      if (wanted.index < 0) continue;
      if (!known && score.upper >= wanted.score && score.lower <= wanted.score) {
        ExactScore& scorer = exact[static_cast<size_t>(q)];
        if (!scorer.ready()) scorer = ExactScore(call, query);
        score.lower = score.upper = scorer(passage);
        known = true;
      }
      const bool ahead = known ? ranks_before({score.lower, passage}, wanted) : score.lower > wanted.score;
      if (ahead) ++before[q * per_query + t];
    }
    return end;
  }

  // Pools so small that all of each is scored.
  void count_own_pools(const std::vector<int64_t>& queries, const Before& before) {
    for (size_t q = 0; q < queries.size(); ++q) {
      interrupt.poll();
      ExactScore exact(call, queries[q]);
      score_pool(pools, filter.partitions_of(queries[q]), exact, [&](int64_t passage, double score) {
        for (int64_t t = 0; t < per_query; ++t) {
          const Candidate& wanted = target(queries[q], t).candidate;
          if (wanted.index >= 0 && ranks_before({score, passage}, wanted))
            ++before.all[static_cast<int64_t>(q) * per_query + t];
        }
      });
    }
  }

  void scan_block(const Plan& plan, const QueryBlock& block, int64_t part, const Before& before) {
    const std::vector<int64_t> queries = plan.queries(block);
    if (block.exact) {
      if (part == 0) count_own_pools(queries, before);
      return;
    }
    const std::vector<int32_t> searched = plan.partitions(queries);
    std::vector<int64_t> memory;
    const Walk walk =
        plan.walk({searched.data(), searched.data() + searched.size()}, memory).part(part, plan.parts());
    if (call.by_codes()) {
      CodeScreen screen(call, queries);
      scan(queries, screen, walk, searched, block.one_pool, before);
    } else {
      FloatScreen screen(call, queries);
      scan(queries, screen, walk, searched, block.one_pool, before);
    }
  }

  // Takes the passages excluded for a query one by one back out of the ranks of its targets.
  void take_out_excluded(int64_t query, int64_t* ranks) const {
    if (filter.excluded_per_query() == 0) return;
    std::vector<int64_t> passages;  // those that were counted
    for (const int64_t passage : filter.excluded_of(query))
      if (passage >= 0 && (passages.empty() || passage != passages.back()) && filter.in_pool(query, passage))
        passages.push_back(passage);
    std::vector<Candidate> excluded;
    excluded.reserve(passages.size());
    ExactScore exact(call, query);
    score_each(exact, passages.data(), static_cast<int64_t>(passages.size()),
               [&](int64_t passage, double score) { excluded.push_back({score, passage}); });
    sort_candidates(excluded);
    for (int64_t t = 0; t < per_query; ++t) {
      const Target& wanted = target(query, t);
      if (wanted.candidate.index < 0) continue;
      const auto end = std::lower_bound(excluded.begin(), excluded.end(), wanted.candidate, ranks_before);
      ranks[wanted.column] -= end - excluded.begin();
    }
  }
};

// Whether int8 codes leave much undecided, in some tiles of the longest walk for some of its queries.
bool codes_leave_too_much(Counting& counting, const Plan& plan) {
  const QueryBlock block = plan.largest();
  const std::vector<int64_t> all = plan.queries(block);
  const int64_t count = static_cast<int64_t>(all.size());
  if (count == 0) return false;
  std::vector<int64_t> trial;
  for (int64_t i = 0; i < count; i += ceil_div(count, kTrialQueries))
    trial.push_back(all[static_cast<size_t>(i)]);
  const std::vector<int32_t> searched = plan.partitions(trial);
  std::vector<int64_t> memory;
  const Walk walk = plan.walk({searched.data(), searched.data() + searched.size()}, memory);
  const int64_t tiles = ceil_div(walk.size(), kTilePassages);
  std::vector<int64_t> before(trial.size() * static_cast<size_t>(counting.per_query));
  CodeScreen screen(counting.call, trial);
  int64_t undecided = 0, seen = 0;
  for (int64_t tile = 0; tile < tiles; tile += ceil_div(tiles, kTrialTiles)) {
    const int64_t first = walk.first + tile * kTilePassages;
    const Walk part{first, std::min(walk.last, first + kTilePassages), walk.listed};
    undecided += counting.scan(trial, screen, part, searched, block.one_pool, {before.data(), nullptr});
    seen += part.size();
  }
  return static_cast<double>(undecided) >
         kMostUndecided * static_cast<double>(seen * static_cast<int64_t>(trial.size()));
}

void check_groups(const Groups& groups, int64_t num_passages) {
  for (int64_t g = 0; g < groups.count; ++g) {
    const int64_t last = g + 1 == groups.count ? num_passages : groups.ends[g + 1];
    if (groups.ends[g] > last || groups.ends[g] < 0 || (g + 1 == groups.count && groups.ends[g] != last))
      throw std::invalid_argument("groups: found an end at " + std::to_string(groups.ends[g]) +
                                  ", expected ends that rise to " + std::to_string(num_passages) +
                                  " (the number of passages)");
  }
}

std::vector<Target> scored_targets(const Call& call, const Groups& groups, const int64_t* targets,
                                   int64_t per_query) {
  std::vector<Target> scored(static_cast<size_t>(call.a.queries.rows * per_query));
  parallel_for(call.a.threads, call.a.queries.rows, [&](int64_t query) {
    const KeepSubnormals guard;
    ExactScore exact(call, query);
    Target* own = scored.data() + query * per_query;
    for (int64_t t = 0; t < per_query; ++t) {
      const int64_t index = targets[query * per_query + t];
      own[t] = {{index < 0 ? -kNoThreshold : exact(index), index},
                t,
                index < 0 || groups.count == 0 ? -1 : groups.of(index)};
    }
    std::sort(own, own + per_query,
              [](const Target& a, const Target& b) { return a.candidate.score < b.candidate.score; });
  });
  return scored;
}

}  // namespace
}  // namespace pyhbt::cpu

namespace pyhbt {

void ranks(const SearchArguments& arguments, const int64_t* targets, int64_t per_query, int64_t* out,
           const Groups& groups, int64_t* within) {
  using namespace cpu;
  const KeepSubnormals guard;  // every task has its own
  Call call(arguments);
  const int64_t num_queries = call.a.queries.rows, num_passages = call.a.corpus.rows;
  for (int64_t at = 0; at < num_queries * per_query; ++at) {
    if (targets[at] < -1 || targets[at] >= num_passages)
      throw std::invalid_argument("targets: found " + std::to_string(targets[at]) + " in row " +
                                  std::to_string(at / per_query) + ", expected -1 or an index below " +
                                  std::to_string(num_passages) + " (the number of passages)");
  }
  call.measure_passages();
  check_groups(groups, num_passages);
  const Filter filter(arguments.filter);
  if (groups.count > 0 && filter.active())
    throw std::invalid_argument("filter: found one beside groups, expected none");
  std::fill_n(out, num_queries * per_query, int64_t{0});
  if (groups.count > 0) std::fill_n(within, num_queries * per_query, int64_t{0});
  if (num_passages == 0 || num_queries == 0 || per_query == 0) return;

  const std::vector<Target> scored = scored_targets(call, groups, targets, per_query);
  std::vector<int64_t> queries(static_cast<size_t>(num_queries));
  std::iota(queries.begin(), queries.end(), int64_t{0});
  const Pools pools(filter, num_passages);
  Plan plan(call, filter, pools, queries);
  Counting counting{call, filter, pools, per_query, scored, groups};
  if (call.by_codes() && call.a.screening == Screening::kAuto && codes_leave_too_much(counting, plan))
    call.screen_in_floats();
  plan.cut(call);

  const std::vector<QueryBlock>& cut = plan.blocks();
  const int64_t blocks = static_cast<int64_t>(cut.size()), slices = plan.parts();
  const size_t counts = static_cast<size_t>(slices * num_queries * per_query);  // (slices,nq,t)
  std::vector<int64_t> before(counts), own(groups.count > 0 ? counts : 0);
  parallel_for(call.a.threads, blocks * slices, [&](int64_t task) {
    const KeepSubnormals task_guard;
    const QueryBlock& block = cut[static_cast<size_t>(task / slices)];
    const int64_t at = (task % slices * num_queries + block.start) * per_query;
    counting.scan_block(plan, block, task % slices,
                        {before.data() + at, own.empty() ? nullptr : own.data() + at});
  });
  parallel_for(call.a.threads, num_queries, [&](int64_t place) {
    const KeepSubnormals task_guard;
    const int64_t query = plan.order()[static_cast<size_t>(place)];
    for (int64_t t = 0; t < per_query; ++t) {
      const Target& target = scored[static_cast<size_t>(query * per_query + t)];
      if (target.candidate.index < 0) continue;
      int64_t rank = 1, own_rank = 1;
      for (int64_t slice = 0; slice < slices; ++slice) {
        const size_t at = static_cast<size_t>((slice * num_queries + place) * per_query + t);
        rank += before[at];
        if (!own.empty()) own_rank += own[at];
      }
      out[query * per_query + target.column] = rank;
      if (!own.empty()) within[query * per_query + target.column] = own_rank;
    }
    counting.take_out_excluded(query, out + query * per_query);
  });
}

}  // namespace pyhbt
