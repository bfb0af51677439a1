// Guesses of thresholds: sample.h.
#include "sample.h"

#include <functional>

#include "../parallel.h"

namespace pyhbt::cpu {

Sample::Sample(const Call& call, int64_t k) {
  const int64_t n = call.a.corpus.rows, stride = code_stride(call.a.corpus.dim);
  // Large enough to know the k-th best within some 10 %, small beside the corpus.
  const bool few = call.a.queries.rows <= kFewQueries;  // whose walk costs no more than reading the corpus
  const int64_t most = std::clamp<int64_t>(n / 8, 256, few ? 1024 : 4096);
  const int64_t size = std::clamp<int64_t>(150 * n / k, std::min<int64_t>(most, 1024), most);
  // The k-th best of all lies near this rank of the sample; three standard deviations are added.
  const double expected = static_cast<double>(k) * static_cast<double>(size) / static_cast<double>(n);
  rank_ = static_cast<int64_t>(expected + 3 * std::sqrt(expected) + 3);
  if (n < 4 * size || rank_ > size / 2) return;
  const CorpusCodes& all = *call.a.codes;
  const size_t count = static_cast<size_t>(size);
  code_rows_.resize(count * static_cast<size_t>(stride));
  passages_.resize(count);
  code_sum_.resize(count);
  for (std::vector<float>* values : {&inverse_scale_, &along_, &code_norm_, &residual_norm_})
    values->resize(count);
  // Every row comes from elsewhere in memory: threads wait for several at once.
  constexpr int64_t kRows = 128;
  parallel_for(call.a.threads, ceil_div(size, kRows), [&](int64_t task) {
    for (int64_t i = task * kRows; i < std::min(size, (task + 1) * kRows); ++i) {
      // One passage of each stretch, at a place that no period of the corpus follows.
      const int64_t start = n * i / size, length = n * (i + 1) / size - start;
      const uint64_t hash = static_cast<uint64_t>(i + 1) * 0x9e3779b97f4a7c15u >> 32;
      const int64_t passage = start + static_cast<int64_t>(hash % static_cast<uint64_t>(length));
      const size_t at = static_cast<size_t>(i);
      passages_[at] = passage;
      std::copy_n(all.codes + passage * stride, stride, code_rows_.data() + i * stride);
      inverse_scale_[at] = all.inverse_scale[passage];
      along_[at] = all.along[passage];
      code_norm_[at] = all.code_norm[passage];
      residual_norm_[at] = all.residual_norm[passage];
      code_sum_[at] = all.code_sum[passage];
    }
  });
  codes_.codes = code_rows_.data();
  codes_.inverse_scale = inverse_scale_.data();
  codes_.along = along_.data();
  codes_.code_norm = code_norm_.data();
  codes_.residual_norm = residual_norm_.data();
  codes_.code_sum = code_sum_.data();
  codes_.centre = all.centre;
  codes_.direction = all.direction;
}

std::vector<double> Sample::guesses(CodeScreen& screen, const std::vector<int64_t>& queries,
                                    const Filter& filter) const {
  std::vector<double> found(queries.size(), kNoThreshold);
  if (empty()) return found;
  const int64_t width = kernels().strip, count = static_cast<int64_t>(queries.size());
  std::vector<float> tile(static_cast<size_t>(size() * width)), column;
  float quantiles[kMaxStrip];
  for (int64_t strip = 0; strip < screen.strips(); ++strip) {
    screen.estimates_in(codes_, strip, 0, size(), tile.data());
    const int64_t lanes = std::min(width, count - strip * width);
    if (!filter.pooled()) kernels().upper_quantiles(tile.data(), size(), lanes, rank_, quantiles);
    for (int64_t lane = 0; lane < lanes; ++lane) {
      const int64_t at = strip * width + lane, query = queries[static_cast<size_t>(at)];
      if (filter.pooled()) {
        column.clear();
        for (int64_t i = 0; i < size(); ++i)
          if (filter.in_pool(query, passages_[static_cast<size_t>(i)]))
            column.push_back(tile[static_cast<size_t>(i * width + lane)]);
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
    open += screen.open_in(codes_, strip, 0, size(), hits.data());
  return static_cast<double>(open) / static_cast<double>(size() * num_queries);
}

}  // namespace pyhbt::cpu
