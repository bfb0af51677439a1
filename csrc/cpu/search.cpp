// Exact top-k: screened tiles feed one bounded buffer a query; what is left in the buffers is scored exactly.
#include "../search.h"

#include <limits>
#include <stdexcept>
#include <string>

#include "../parallel.h"
#include "screen.h"
#include "topk_buffer.h"

namespace pyhbt::cpu {
namespace {

constexpr int64_t kFewQueries = 4;  // up to here one exact scan costs less than norms and screening

// The exact score of one query with any passage.
struct ExactScore {
  const SearchArguments& a;
  const double* query;

  double operator()(int64_t passage) const { return kernels().dot(query, a.corpus + passage * a.dim, a.dim); }
  void prefetch(int64_t passage) const {
    constexpr int64_t kLine = 64 / sizeof(float);
    for (int64_t k = 0; k < a.dim; k += kLine) __builtin_prefetch(a.corpus + passage * a.dim + k);
  }
};

// One block of queries walked over one slice of the corpus.
struct BlockScan {
  const SearchArguments& a;
  const std::vector<float>& norms;
  std::vector<float> errors;              // (queries of the block,)
  std::vector<std::vector<double>> wide;  // the queries in float64
  std::vector<TopkBuffer> buffers;

  ExactScore exact(int64_t query) const { return {a, wide[static_cast<size_t>(query)].data()}; }

  void take(int64_t query, int64_t passage, float screened, StripBounds& bounds, int64_t lane) {
    const size_t q = static_cast<size_t>(query);
    const double norm = static_cast<double>(norms[static_cast<size_t>(passage)]);
    const double slack = static_cast<double>(errors[q]) * norm + underflow_error(a.dim);
    const double middle = static_cast<double>(screened);
    TopkBuffer::Entry entry{middle - slack, middle + slack, passage};
    if (!std::isfinite(entry.lower) || !std::isfinite(entry.upper))
      entry.lower = entry.upper = exact(query)(passage);
    if (buffers[q].push(entry, exact(query)))
      bounds.low[lane] = float_down(buffers[q].floor() - underflow_error(a.dim));
  }

  void scan(const PackedQueries& packed, int64_t first, int64_t last) {
    const CpuKernels& kernel = kernels();
    const int64_t width = kernel.strip, count = static_cast<int64_t>(errors.size());
    std::vector<StripBounds> bounds(static_cast<size_t>(ceil_div(count, width)));
    for (int64_t query = 0; query < round_up(count, width); ++query) {
      StripBounds& strip = bounds[static_cast<size_t>(query / width)];
      strip.error[query % width] = query < count ? errors[static_cast<size_t>(query)] : 0.0f;
      strip.low[query % width] = query < count ? -kInfinity : kInfinity;  // lanes beyond the block never hit
      strip.high[query % width] = kInfinity;
    }
    std::vector<int32_t> hits(static_cast<size_t>(kTileRows * width));
    walk_tiles(a, packed, count, first, last,
               [&](int64_t query, int64_t passage, int64_t rows, const float* tile) {
                 StripBounds& strip = bounds[static_cast<size_t>(query / width)];
                 const int64_t found = kernel.screen(tile, rows, norms.data() + passage, strip, hits.data());
                 for (int64_t h = 0; h < found; ++h) {
                   const int64_t position = hits[static_cast<size_t>(h)], lane = position % width;
                   if (query + lane >= count)
                     continue;  // an infinite norm opens the lanes beyond the block too
                   take(query + lane, passage + position / width, tile[position], strip, lane);
                 }
               });
  }

  // The same without screening: every passage is scored exactly.
  void scan_exactly(int64_t first, int64_t last) {
    for (int64_t passage = first; passage < last; ++passage) {
      for (size_t q = 0; q < buffers.size(); ++q) {
        const double score = exact(static_cast<int64_t>(q))(passage);
        // Finite float32 values cannot overflow here, so a passage is not finite: the norms name the first
        // such row.
        if (!std::isfinite(score)) upper_norms(a.corpus, a.num_passages, a.dim, "corpus", 1);
        buffers[q].push({score, score, passage}, exact(static_cast<int64_t>(q)));
      }
    }
  }

  void write(int64_t query, int64_t k, float* scores, int64_t* indices) {
    const std::vector<Candidate> best = buffers[static_cast<size_t>(query)].finish(exact(query));
    for (int64_t r = 0; r < k; ++r) {
      const bool real = r < static_cast<int64_t>(best.size());
      scores[r] = real ? static_cast<float>(best[static_cast<size_t>(r)].score) : -kInfinity;
      indices[r] = real ? best[static_cast<size_t>(r)].index : -1;
    }
  }
};

}  // namespace
}  // namespace pyhbt::cpu

namespace pyhbt {

void search(const SearchArguments& arguments, int64_t k, float* scores, int64_t* indices) {
  using namespace cpu;
  const SearchArguments a = checked(arguments);
  const KeepSubnormals guard;  // every task has its own
  if (k < 1) throw std::invalid_argument("k: found " + std::to_string(k) + ", expected at least 1");
  const std::vector<float> query_norms = upper_norms(a.queries, a.num_queries, a.dim, "queries", a.threads);
  const bool screened = a.num_queries > kFewQueries;
  std::vector<float> norms;
  if (screened) norms = upper_norms(a.corpus, a.num_passages, a.dim, "corpus", a.threads);
  if (a.num_passages == 0 || a.num_queries == 0) {
    std::fill_n(scores, a.num_queries * k, -kInfinity);
    std::fill_n(indices, a.num_queries * k, int64_t{-1});
    return;
  }
  const float max_norm = screened ? *std::max_element(norms.begin(), norms.end()) : 0.0f;
  const int64_t kept = std::min(k, a.num_passages);
  const Division cut = divide(a);

  const auto make_scan = [&](int64_t start, int64_t count) {
    BlockScan scan{a, norms, {}, {}, {}};
    for (int64_t query = start; query < start + count; ++query) {
      scan.errors.push_back(screening_error(query_norms[static_cast<size_t>(query)], max_norm, a.dim));
      scan.wide.emplace_back();
      widen(a.queries + query * a.dim, a.dim, scan.wide.back());
      scan.buffers.emplace_back(kept);
    }
    return scan;
  };
  std::vector<std::vector<BlockScan>> slices(static_cast<size_t>(cut.blocks));  // kept only where slices > 1
  if (cut.slices > 1) {
    for (int64_t block = 0; block < cut.blocks; ++block) {
      const int64_t start = block * cut.block_queries,
                    count = std::min(cut.block_queries, a.num_queries - start);
      for (int64_t slice = 0; slice < cut.slices; ++slice)
        slices[static_cast<size_t>(block)].push_back(make_scan(start, count));
    }
  }
  parallel_for(a.threads, cut.blocks * cut.slices, [&](int64_t task) {
    const KeepSubnormals task_guard;
    const int64_t block = task / cut.slices, slice = task % cut.slices;
    const int64_t start = block * cut.block_queries,
                  count = std::min(cut.block_queries, a.num_queries - start);
    const int64_t first = std::min(a.num_passages, slice * cut.slice_passages);
    const int64_t last = std::min(a.num_passages, first + cut.slice_passages);
    const auto run = [&](BlockScan& scan) {
      if (screened) {
        scan.scan(PackedQueries(a.queries + start * a.dim, count, a.dim), first, last);
      } else {
        scan.scan_exactly(first, last);
      }
    };
    if (cut.slices > 1) {
      run(slices[static_cast<size_t>(block)][static_cast<size_t>(slice)]);
      return;
    }
    BlockScan scan = make_scan(start, count);
    run(scan);
    for (int64_t query = 0; query < count; ++query)
      scan.write(query, k, scores + (start + query) * k, indices + (start + query) * k);
  });
  if (cut.slices == 1) return;
  parallel_for(a.threads, a.num_queries, [&](int64_t row) {
    const KeepSubnormals task_guard;
    std::vector<BlockScan>& parts = slices[static_cast<size_t>(row / cut.block_queries)];
    const int64_t query = row % cut.block_queries;
    for (size_t slice = 1; slice < parts.size(); ++slice)
      parts[0].buffers[static_cast<size_t>(query)].append(parts[slice].buffers[static_cast<size_t>(query)]);
    parts[0].write(query, k, scores + row * k, indices + row * k);
  });
}

}  // namespace pyhbt
