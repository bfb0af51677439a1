// Ranks: count, for every target, the passages that come before it. Almost all are decided by the screened
// score and its bound; the rest are scored exactly.
#include <stdexcept>
#include <string>

#include "../parallel.h"
#include "../tile_math.h"
#include "screen.h"

namespace pyhbt::cpu {
namespace {

struct RankScan {
  const SearchArguments& a;
  const std::vector<float>& norms;
  const std::vector<float>& errors;       // (nq,)
  const std::vector<double>& thresholds;  // (nq,t) exact scores of the targets
  const int64_t* targets;                 // (nq,t)
  int64_t per_query;

  // Bounds of one strip of queries for the t-th target of each.
  StripBounds bounds_of(int64_t start, int64_t end, int64_t t) const {
    StripBounds bounds{};
    for (int64_t lane = 0; lane < kMaxStrip; ++lane) {
      const int64_t query = start + lane, at = query * per_query + t;
      bounds.low[lane] = bounds.high[lane] =
          kInfinity;  // lanes beyond the block and absent targets count nothing
      if (query >= end || targets[at] < 0) continue;
      bounds.error[lane] = errors[static_cast<size_t>(query)];
      const double slack = underflow_error(a.dim), score = thresholds[static_cast<size_t>(at)];
      bounds.low[lane] = float_down(score - slack);
      bounds.high[lane] = float_up(score + slack);
    }
    return bounds;
  }

  // Adds to before (count, t) the passages of [first, last) that come before each target of queries start...
  void scan(int64_t start, int64_t count, int64_t first, int64_t last, int64_t* before) const {
    const CpuKernels& kernel = kernels();
    const int64_t width = kernel.strip;
    const PackedQueries packed(a.queries + start * a.dim, count, a.dim);
    std::vector<StripBounds> bounds;
    for (int64_t query = 0; query < count; query += width)
      for (int64_t t = 0; t < per_query; ++t) bounds.push_back(bounds_of(start + query, start + count, t));
    std::vector<std::vector<double>> wide(static_cast<size_t>(count));
    std::vector<int32_t> hits(static_cast<size_t>(kTileRows * width));
    walk_tiles(a, packed, count, first, last,
               [&](int64_t query, int64_t passage, int64_t rows, const float* tile) {
                 for (int64_t t = 0; t < per_query; ++t) {
                   int64_t over[kMaxStrip] = {};
                   const StripBounds& strip = bounds[static_cast<size_t>(query / width * per_query + t)];
                   const int64_t open =
                       kernel.screen_and_count(tile, rows, norms.data() + passage, strip, over, hits.data());
                   for (int64_t lane = 0; lane < std::min(width, count - query); ++lane)
                     before[(query + lane) * per_query + t] += over[lane];
                   for (int64_t h = 0; h < open; ++h) {
                     const int64_t row = query + hits[static_cast<size_t>(h)] % width;
                     if (row >= count) continue;  // an infinite norm opens the lanes beyond the block too
                     const int64_t index = passage + hits[static_cast<size_t>(h)] / width;
                     const int64_t at = (start + row) * per_query + t;
                     std::vector<double>& q = wide[static_cast<size_t>(row)];
                     if (q.empty()) widen(a.queries + (start + row) * a.dim, a.dim, q);
                     const Candidate other{kernel.dot(q.data(), a.corpus + index * a.dim, a.dim), index};
                     if (ranks_before(other, {thresholds[static_cast<size_t>(at)], targets[at]}))
                       ++before[row * per_query + t];
                   }
                 }
               });
  }
};

}  // namespace
}  // namespace pyhbt::cpu

namespace pyhbt {

void ranks(const SearchArguments& arguments, const int64_t* targets, int64_t per_query, int64_t* out) {
  using namespace cpu;
  const SearchArguments a = checked(arguments);
  const KeepSubnormals guard;  // every task has its own
  for (int64_t at = 0; at < a.num_queries * per_query; ++at) {
    if (targets[at] < -1 || targets[at] >= a.num_passages)
      throw std::invalid_argument("targets: found " + std::to_string(targets[at]) + " in row " +
                                  std::to_string(at / per_query) + ", expected -1 or an index below " +
                                  std::to_string(a.num_passages) + " (the number of passages)");
  }
  const std::vector<float> query_norms = upper_norms(a.queries, a.num_queries, a.dim, "queries", a.threads);
  const std::vector<float> norms = upper_norms(a.corpus, a.num_passages, a.dim, "corpus", a.threads);
  std::fill_n(out, a.num_queries * per_query, int64_t{0});
  if (a.num_passages == 0 || a.num_queries == 0 || per_query == 0) return;

  const float max_norm = *std::max_element(norms.begin(), norms.end());
  std::vector<float> errors;
  for (const float norm : query_norms) errors.push_back(screening_error(norm, max_norm, a.dim));
  std::vector<double> thresholds(static_cast<size_t>(a.num_queries * per_query));
  parallel_for(a.threads, a.num_queries, [&](int64_t query) {
    const KeepSubnormals task_guard;
    std::vector<double> wide;
    widen(a.queries + query * a.dim, a.dim, wide);
    for (int64_t at = query * per_query; at < (query + 1) * per_query; ++at)
      if (targets[at] >= 0)
        thresholds[static_cast<size_t>(at)] =
            kernels().dot(wide.data(), a.corpus + targets[at] * a.dim, a.dim);
  });

  const RankScan scan{a, norms, errors, thresholds, targets, per_query};
  const Division cut = divide(a);
  const int64_t block_size = cut.block_queries * per_query;
  std::vector<int64_t> before(static_cast<size_t>(cut.blocks * cut.slices * block_size));
  parallel_for(a.threads, cut.blocks * cut.slices, [&](int64_t task) {
    const KeepSubnormals task_guard;
    const int64_t start = task / cut.slices * cut.block_queries;
    const int64_t first = std::min(a.num_passages, task % cut.slices * cut.slice_passages);
    const int64_t last = std::min(a.num_passages, first + cut.slice_passages);
    scan.scan(start, std::min(cut.block_queries, a.num_queries - start), first, last,
              before.data() + task * block_size);
  });
  for (int64_t at = 0; at < a.num_queries * per_query; ++at) {
    if (targets[at] < 0) continue;
    const int64_t block = at / block_size;
    out[at] = 1;
    for (int64_t slice = 0; slice < cut.slices; ++slice)
      out[at] += before[static_cast<size_t>((block * cut.slices + slice) * block_size + at % block_size)];
  }
}

}  // namespace pyhbt
