// Exact top-k: what screening leaves open feeds one bounded buffer a query, and what is left in it is scored.
#include "../search.h"

#include <atomic>
#include <cmath>
#include <numeric>
#include <optional>
#include <stdexcept>
#include <string>

#include "../interrupt.h"
#include "../parallel.h"
#include "coded_queries.h"
#include "filter.h"
#include "plan.h"
#include "pools.h"
#include "sample.h"
#include "scan.h"
#include "screen.h"
#include "topk_buffer.h"

namespace pyhbt::cpu {
namespace {

// Float32 screening costs as much more than codes as scoring this share of the passages.
constexpr double kWorthOfCodes = 0.06;
constexpr int64_t kTrialQueries = 32;

// Wanted pairs for each passage.
constexpr double kDense = 0.25, kVeryDense = 4;

struct Results {
  int64_t k;
  float* scores;
  int64_t* indices;
  double* exact;  // or null
};

// Floors of all queries, where slices of the corpus are walked side by side: what one finds spares the others.
class SharedFloors {
 public:
  explicit SharedFloors(size_t queries) : floors_(queries) {
    for (std::atomic<double>& floor : floors_) floor = kNoThreshold;
  }
  double of(int64_t query) const {
    return floors_[static_cast<size_t>(query)].load(std::memory_order_relaxed);
  }
  void raise(int64_t query, double floor) {
    double before = of(query);
    while (before < floor && !floors_[static_cast<size_t>(query)].compare_exchange_weak(before, floor)) {
    }
  }

 private:
  std::vector<std::atomic<double>> floors_;
};

// A block of queries and what was found for each.
struct Block {
  Block(const Call& call, std::vector<int64_t> chosen, int64_t k, SharedFloors* shared)
      : queries(std::move(chosen)), floors(shared) {
    for (const int64_t query : queries) {
      exact.emplace_back(call, query);
      buffers.push_back(queries.size() <= kFewQueries ? TopkBuffer::of_few(k) : TopkBuffer(k));
    }
    guesses.assign(queries.size(), kNoThreshold);
    known_floors.assign(queries.size(), kNoThreshold);
    const double wanted = static_cast<double>(k) * static_cast<double>(queries.size());
    at_once = wanted > kDense * static_cast<double>(call.a.corpus.rows);
    row_by_row = wanted > kVeryDense * static_cast<double>(call.a.corpus.rows);
  }

  double least_wanted(size_t q) const { return std::max({buffers[q].floor(), guesses[q], known_floors[q]}); }

  std::vector<int64_t> queries;
  std::vector<ExactScore> exact;
  std::vector<TopkBuffer> buffers;
  std::vector<double> guesses;  // passages that certainly score less were left out
  SharedFloors* floors;         // or null
  std::vector<double> known_floors;
  bool at_once;     // so many are wanted that survivors are scored where the walk finds them
  bool row_by_row;  // and for each passage so many that they wait for all strips of a tile
};

// How passages are held against a query.
enum class Scan {
  kCodes,   // screened by int8 codes, survivors bounded and scored
  kFloats,  // screened in float32, likewise
  kExact    // every one scored exactly, without norms and screening
};

struct Search {
  const Call& call;
  const Filter& filter;
  const Pools& pools;
  const Scan way;
  const int64_t kept;  // of k, those that the corpus can give
  const Results out;
  Interrupt interrupt{};

  // Holds one block against the passages of a walk.
  template <typename Screen>
  void scan(Block& block, BlockFilter& accepted, Screen& screen, const Walk& walk) {
    PairScorer waiting(block.exact);
    const auto take = [&](int64_t query, int64_t passage, int64_t position) {
      const Interval score = screen.interval(query, passage, position);
      if (score.upper < block.least_wanted(static_cast<size_t>(query))) return;
      if (block.at_once || !std::isfinite(score.lower) || !std::isfinite(score.upper))
        waiting.add(query, passage, position / kernels().strip);
      else
        push(block, screen, query, {score.lower, score.upper, passage});
    };
    const auto score = [&](bool last_strip) {
      if (block.floors != nullptr && last_strip) learn_floors(block, screen);
      if (block.row_by_row && !last_strip) return;
      waiting.score([&](int64_t query, int64_t passage, double exact) {
        push(block, screen, query, {exact, exact, passage});
      });
    };
    for_open_pairs(accepted, static_cast<int64_t>(block.queries.size()), screen, walk, interrupt, take,
                   score);
  }

  template <typename Screen>
  void push(Block& block, Screen& screen, int64_t query, const TopkBuffer::Entry& entry) {
    const size_t q = static_cast<size_t>(query);
    if (!block.buffers[q].push(entry, block.exact[q])) return;
    if (block.floors != nullptr) block.floors->raise(block.queries[q], block.buffers[q].floor());
    screen.set_threshold(query, block.least_wanted(q));
  }

  template <typename Screen>
  void learn_floors(Block& block, Screen& screen) {
    for (size_t q = 0; q < block.queries.size(); ++q) {
      const double floor = block.floors->of(block.queries[q]);
      if (!(floor > block.least_wanted(q))) continue;
      block.known_floors[q] = floor;
      screen.set_threshold(static_cast<int64_t>(q), floor);
    }
  }

  // The same without screening: every passage is scored exactly.
  void scan_exactly(Block& block, const Walk& walk) {
    for (int64_t place = walk.first; place < walk.last; ++place) {
      if (place % 1024 == 0) interrupt.poll();
      const int64_t passage = walk.passage(place);
      for (size_t q = 0; q < block.queries.size(); ++q) {
        if (filter.active() && !filter.accepts(block.queries[q], passage)) continue;
        const double score = block.exact[q](passage);
        // Finite float32 values cannot overflow here, so a passage is not finite: the norms name the first.
        if (!std::isfinite(score)) exact_norms(call.a.corpus, "corpus", 1);
        block.buffers[q].push({score, score, passage}, block.exact[q]);
      }
    }
  }

  // The same of pools so small that no two queries need the same passages.
  void scan_own_pools(Block& block) {
    for (size_t q = 0; q < block.queries.size(); ++q) {
      interrupt.poll();
      ExactScore& exact = block.exact[q];
      score_pool(pools, filter.partitions_of(block.queries[q]), exact, [&](int64_t passage, double score) {
        if (!filter.excluded(block.queries[q], passage))
          block.buffers[q].push({score, score, passage}, exact);
      });
    }
  }

  // False where the guess was too high: some passages that belong here were left out.
  bool write(Block& block, size_t q) const {
    const std::vector<Candidate> best = block.buffers[q].finish(block.exact[q]);
    const bool full = static_cast<int64_t>(best.size()) == kept;
    if (block.guesses[q] > kNoThreshold && !(full && best.back().score >= block.guesses[q])) return false;
    const int64_t query = block.queries[q];
    const double norm = call.a.cosine ? call.query_norms[static_cast<size_t>(query)] : 1.0;
    for (int64_t r = 0; r < out.k; ++r) {
      const bool real = r < static_cast<int64_t>(best.size());
      const double score = real ? best[static_cast<size_t>(r)].score : 0;
      out.scores[query * out.k + r] = !real ? -kInfinity : norm > 0 ? static_cast<float>(score / norm) : 0.0f;
      if (out.exact != nullptr) out.exact[query * out.k + r] = real ? score : kNoThreshold;
      out.indices[query * out.k + r] = real ? best[static_cast<size_t>(r)].index : -1;
    }
    return true;
  }

  void scan_block(Block& block, const Sample& sample, const Plan& plan, int64_t part, bool one_pool) {
    const std::vector<int32_t> searched = plan.partitions(block.queries);
    std::vector<int64_t> memory;
    const Walk whole = plan.walk({searched.data(), searched.data() + searched.size()}, memory);
    const Walk walk = whole.part(part, plan.parts());
    BlockFilter accepted(filter, block.queries, searched, one_pool);
    switch (way) {
      case Scan::kCodes: {
        CodeScreen screen(call, block.queries);
        if (sample.pays_for(whole.size())) guess_thresholds(block, screen, sample, one_pool);
        scan(block, accepted, screen, walk);
        break;
      }
      case Scan::kFloats: {
        FloatScreen screen(call, block.queries);
        scan(block, accepted, screen, walk);
        break;
      }
      case Scan::kExact:
        scan_exactly(block, walk);
        break;
    }
  }

  void guess_thresholds(Block& block, CodeScreen& screen, const Sample& sample, bool one_pool) const {
    block.guesses = sample.guesses(screen, block.queries, filter, one_pool);
    for (size_t q = 0; q < block.queries.size(); ++q)
      screen.set_threshold(static_cast<int64_t>(q), block.guesses[q]);
  }

  // Carries out a plan that was cut; returns queries whose guess was too high. An empty sample makes no guesses.
  std::vector<int64_t> run(const Plan& plan, const Sample& sample) {
    const std::vector<QueryBlock>& cut = plan.blocks();
    const int64_t blocks = static_cast<int64_t>(cut.size()), slices = plan.parts();
    std::vector<uint8_t> failed(plan.order().size());
    SharedFloors floors(slices > 1 ? static_cast<size_t>(call.a.queries.rows) : 0);
    const auto scanned = [&](const QueryBlock& queries, int64_t slice) {
      Block block(call, plan.queries(queries), kept, slices > 1 ? &floors : nullptr);
      if (!queries.exact)
        scan_block(block, sample, plan, slice, queries.one_pool);
      else if (slice == 0)
        scan_own_pools(block);
      return block;
    };
    if (slices == 1) {
      parallel_for(call.a.threads, blocks, [&](int64_t number) {
        const KeepSubnormals guard;
        const QueryBlock& queries = cut[static_cast<size_t>(number)];
        Block block = scanned(queries, 0);
        for (size_t q = 0; q < block.queries.size(); ++q)
          failed[static_cast<size_t>(queries.start) + q] = !write(block, q);
      });
    } else {
      std::vector<std::optional<Block>> parts(static_cast<size_t>(blocks * slices));
      parallel_for(call.a.threads, blocks * slices, [&](int64_t task) {
        const KeepSubnormals guard;
        parts[static_cast<size_t>(task)] = scanned(cut[static_cast<size_t>(task / slices)], task % slices);
      });
      for (int64_t number = 0; number < blocks; ++number) {
        const QueryBlock& queries = cut[static_cast<size_t>(number)];
        parallel_for(call.a.threads, queries.end - queries.start, [&](int64_t q) {
          const KeepSubnormals guard;
          const size_t at = static_cast<size_t>(q);
          Block& block = *parts[static_cast<size_t>(number * slices)];
          for (int64_t slice = 1; slice < slices; ++slice)
            block.buffers[at].append(parts[static_cast<size_t>(number * slices + slice)]->buffers[at]);
          failed[static_cast<size_t>(queries.start + q)] = !write(block, at);
        });
      }
    }
    std::vector<int64_t> again;
    for (size_t at = 0; at < failed.size(); ++at)
      if (failed[at] != 0) again.push_back(plan.order()[at]);
    return again;
  }
};

// Whether int8 codes would leave so much open for some of the queries, spread over all of them, that float32
// screening costs less. It scores what is among the best k so far, k (1 + log(n / k)) passages of n.
bool codes_leave_too_much(const Call& call, const Sample& sample, const Filter& filter, int64_t k) {
  std::vector<int64_t> trial;
  const int64_t step = ceil_div(call.a.queries.rows, kTrialQueries);
  for (int64_t query = 0; query < call.a.queries.rows; query += step) trial.push_back(query);
  CodeScreen screen(call, trial);
  const std::vector<double> guesses = sample.guesses(screen, trial, filter, !filter.pooled());
  for (size_t q = 0; q < trial.size(); ++q) screen.set_threshold(static_cast<int64_t>(q), guesses[q]);
  const double wanted = std::min(1.0, static_cast<double>(k) / static_cast<double>(call.a.corpus.rows));
  return sample.open_share(screen, static_cast<int64_t>(trial.size())) >
         kWorthOfCodes + wanted * (1 - std::log(wanted));
}

// For up to four queries one exact scan costs less than norms and screening, and less than codes whose products are
// slow. Without codes all passages must be found finite: with a filter it would not see every one.
bool exact_scan_pays(const Call& call, const Filter& filter) {
  if (call.a.queries.rows > kFewQueries || call.a.screening != Screening::kAuto) return false;
  return call.a.codes ? !kernels().fast_codes : !call.a.cosine && !filter.active();
}

Scan scan_for(const Call& call, const Filter& filter, const Sample& sample, int64_t k) {
  if (exact_scan_pays(call, filter)) return Scan::kExact;
  if (!call.by_codes()) return Scan::kFloats;
  const bool in_doubt = call.a.screening == Screening::kAuto && call.a.queries.rows > kFewQueries;
  if (in_doubt && !sample.empty() && codes_leave_too_much(call, sample, filter, k)) return Scan::kFloats;
  return Scan::kCodes;
}

void write_nothing_found(int64_t places, float* scores, int64_t* indices, double* exact_scores) {
  std::fill_n(scores, places, -kInfinity);
  std::fill_n(indices, places, int64_t{-1});
  if (exact_scores != nullptr) std::fill_n(exact_scores, places, kNoThreshold);
}

}  // namespace
}  // namespace pyhbt::cpu

namespace pyhbt {

void search(const SearchArguments& arguments, int64_t k, float* scores, int64_t* indices,
            double* exact_scores) {
  using namespace cpu;
  const KeepSubnormals guard;  // every task has its own
  if (k < 1) throw std::invalid_argument("k: found " + std::to_string(k) + ", expected at least 1");
  Call call(arguments);
  const int64_t num_queries = call.a.queries.rows, num_passages = call.a.corpus.rows;
  const Filter filter(call.a.filter);
  if (num_passages == 0 || num_queries == 0) {
    call.measure_passages();  // refuses what is not finite, as it does for queries
    write_nothing_found(num_queries * k, scores, indices, exact_scores);
    return;
  }
  std::vector<int64_t> queries(static_cast<size_t>(num_queries));
  std::iota(queries.begin(), queries.end(), int64_t{0});
  const Pools pools(filter, num_passages);
  Plan plan(call, filter, pools, queries);

  const int64_t kept = std::min(k, num_passages);
  const Sample sample = call.by_codes() ? Sample(call, kept, plan.most_passages()) : Sample();
  const Scan way = scan_for(call, filter, sample, k);
  if (way == Scan::kFloats) {
    call.screen_in_floats();
    call.measure_passages();
  }
  Search search{call, filter, pools, way, kept, {k, scores, indices, exact_scores}};
  plan.cut(call);
  const std::vector<int64_t> again = search.run(plan, sample);
  if (again.empty()) return;
  Plan rest(call, filter, pools, again);
  rest.cut(call);
  search.run(rest, Sample());
}

}  // namespace pyhbt
