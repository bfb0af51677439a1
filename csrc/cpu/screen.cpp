// Calls, exact norms, and screening in float32: screen.h.
#include "screen.h"

#include <atomic>
#include <stdexcept>
#include <string>

#include "../parallel.h"

namespace pyhbt::cpu {
namespace {

constexpr int64_t kMostCodedDim = 32768;  // products of codes are sums in an int32
constexpr int64_t kMostQueriesSlowly =
    2;  // that codes serve faster than floats where their products are slow

double largest_of(const double* norms, int64_t count, int threads) {
  constexpr int64_t kNorms = 16384;
  std::vector<double> largest(static_cast<size_t>(ceil_div(count, kNorms)));
  parallel_for(threads, ceil_div(count, kNorms), [&](int64_t task) {
    const int64_t first = task * kNorms, last = std::min(count, first + kNorms);
    double found[8] = {};  // one chain of maxima would wait for each
    for (int64_t i = first; i < last; ++i) found[i % 8] = std::max(found[i % 8], norms[i]);
    largest[static_cast<size_t>(task)] = *std::max_element(found, found + 8);
  });
  return largest.empty() ? 0 : *std::max_element(largest.begin(), largest.end());
}

}  // namespace

std::vector<double> exact_norms(const Embeddings& x, const char* name, int threads) {
  std::vector<double> norms(static_cast<size_t>(x.rows));
  constexpr int64_t kRows = 256;
  parallel_for(threads, ceil_div(x.rows, kRows), [&](int64_t task) {
    const KeepSubnormals guard;
    std::vector<float> scratch;
    for (int64_t i = task * kRows; i < std::min(x.rows, task * kRows + kRows); ++i) {
      const float* row = float_row(x, i, scratch);
      norms[static_cast<size_t>(i)] = std::sqrt(kernels().dot(row, row, x.dim));
    }
  });
  const auto bad = std::find_if(norms.begin(), norms.end(), [](double norm) { return !std::isfinite(norm); });
  if (bad != norms.end())
    throw std::invalid_argument(std::string(name) + ": row " + std::to_string(bad - norms.begin()) +
                                " holds a NaN or an infinity, expected finite numbers");
  return norms;
}

Call::Call(const SearchArguments& arguments)
    : a([&] {
        SearchArguments fitted = arguments;
        if (fitted.queries.dim < 1)
          throw std::invalid_argument("queries: dim " + std::to_string(fitted.queries.dim) +
                                      ", expected at least 1");
        if (fitted.queries.dim != fitted.corpus.dim)
          throw std::invalid_argument("corpus: dim " + std::to_string(fitted.corpus.dim) + ", expected " +
                                      std::to_string(fitted.queries.dim));
        if (fitted.threads < 1)
          throw std::invalid_argument("threads: found " + std::to_string(fitted.threads) +
                                      ", expected at least 1");
        if (fitted.screening == Screening::kCodes && !fitted.codes)
          throw std::invalid_argument("screening: by codes, but the corpus has none");
        fitted.threads = worthwhile_threads(fitted.threads, 2.0 * static_cast<double>(fitted.queries.rows) *
                                                                static_cast<double>(fitted.corpus.rows) *
                                                                static_cast<double>(fitted.queries.dim));
        return fitted;
      }()),
      query_norms(exact_norms(a.queries, "queries", a.threads)),
      by_codes_(a.codes.has_value() && a.queries.dim <= kMostCodedDim && a.screening != Screening::kFloats &&
                (kernels().fast_codes || a.screening == Screening::kCodes ||
                 a.queries.rows <= kMostQueriesSlowly)) {
  if (!a.codes) return;
  passage_norms = a.codes->norm;
  if (!by_codes_) largest_norm = largest_of(passage_norms, a.corpus.rows, a.threads);
}

void Call::measure_passages() {
  if (passage_norms != nullptr) return;
  norms_ = exact_norms(a.corpus, "corpus", a.threads);
  passage_norms = norms_.data();
  largest_norm = largest_of(passage_norms, a.corpus.rows, a.threads);
}

void Call::screen_in_floats() {
  if (by_codes_) largest_norm = largest_of(passage_norms, a.corpus.rows, a.threads);
  by_codes_ = false;
}

ExactScore::ExactScore(const Call& call, int64_t query)
    : call_(&call), query_(float_row(call.a.queries, query, widened_query_)) {}

FloatScreen::FloatScreen(const Call& call, const std::vector<int64_t>& queries)
    : call_(call),
      width_(kernels().strip),
      count_(static_cast<int64_t>(queries.size())),
      // Products rounded among subnormal numbers do not shrink with the norms.
      underflow_(static_cast<double>(call.a.queries.dim + 4) * 0x1p-149),
      packed_(call.a.cosine || call.a.corpus.dtype != DType::kFloat32),
      strips_(round_up(count_, width_) * call.a.queries.dim),
      bounds_(static_cast<size_t>(ceil_div(count_, width_))),
      tile_(static_cast<size_t>(kTilePassages * width_)) {
  const int64_t dim = call.a.queries.dim;
  const double largest = call.a.cosine ? 1.0 : call.largest_norm;
  const double steps = static_cast<double>(dim + 16) * 0x1p-24;
  std::vector<float> rows(static_cast<size_t>(width_ * dim)), scratch;
  for (int64_t start = 0; start < count_; start += width_) {
    const int64_t here = std::min(width_, count_ - start);
    StripBounds& strip = bounds_[static_cast<size_t>(start / width_)];
    for (int64_t lane = 0; lane < width_; ++lane) {
      strip.error[lane] = 0;
      strip.low[lane] = kInfinity;  // lanes beyond the block never hit
      if (lane >= here) continue;
      const int64_t query = queries[static_cast<size_t>(start + lane)];
      const float* row = float_row(call.a.queries, query, scratch);
      std::copy_n(row, dim, rows.begin() + static_cast<std::ptrdiff_t>(lane * dim));
      const double norm = call.query_norms[static_cast<size_t>(query)] * (1 + 0x1p-30);
      // Where float32 scores may overflow, all is scored exactly.
      const bool fits = dim <= (int64_t{1} << 21) && norm * largest < 0x1p125 && largest < 0x1p125;
      strip.error[lane] = fits ? float_up(steps / (1 - steps) * norm) : kInfinity;
      strip.low[lane] = -kInfinity;
    }
    kernels().transpose_strip(rows.data(), dim, here, dim, dim, 1.0f, strips_.data() + start * dim);
  }
  norms_.resize(static_cast<size_t>(kTilePassages));
}

void FloatScreen::begin(const PassageTile& tile) {
  const Embeddings& corpus = call_.a.corpus;
  const int64_t dim = corpus.dim;
  const bool copied = packed_ || tile.listed != nullptr;
  if (copied) rows_.resize(static_cast<size_t>(kTilePassages * dim));
  left_ = copied ? rows_.data() : static_cast<const float*>(corpus.data) + tile.first * corpus.stride;
  left_stride_ = copied ? dim : corpus.stride;
  left_rows_ = tile.rows;
  std::vector<float> scratch;
  for (int64_t r = 0; r < tile.rows; ++r) {
    const double norm = call_.passage_norms[tile.passage(r)];
    norms_[static_cast<size_t>(r)] = float_up(call_.a.cosine ? 1 : norm * (1 + 0x1p-30));
    if (!copied) continue;
    float* out = rows_.data() + r * dim;
    const float* row = float_row(corpus, tile.passage(r), scratch);
    // A norm that float32 cannot divide by: everything about the row stays undecided.
    const bool scaled = call_.a.cosine && norm > 0;
    const double factor = scaled ? 1 / norm : 1;
    if (scaled && !(factor > 0x1p-100 && factor < 0x1p100)) norms_[static_cast<size_t>(r)] = kInfinity;
    for (int64_t k = 0; k < dim; ++k) out[k] = row[k] * static_cast<float>(factor);
  }
}

void FloatScreen::multiply(int64_t strip) {
  const CpuKernels& kernel = kernels();
  const int64_t dim = call_.a.corpus.dim, step = ceil_div(dim, ceil_div(dim, kernel.depth_block));
  for (int64_t k = 0; k < dim; k += step)
    kernel.multiply_rows(left_ + k, left_stride_, left_rows_, strips_.data() + (strip * dim + k) * width_,
                         std::min(step, dim - k), tile_.data(), width_, k > 0);
}

void FloatScreen::set_threshold(int64_t query, double least) {
  bounds_[static_cast<size_t>(query / width_)].low[query % width_] = float_down(least - underflow_);
}

int64_t FloatScreen::open(int64_t strip, int32_t* hits) {
  multiply(strip);
  return kernels().screen(tile_.data(), left_rows_, norms_.data(), bounds_[static_cast<size_t>(strip)], hits);
}

Interval FloatScreen::interval(int64_t query, int64_t, int64_t position) const {
  const double middle = static_cast<double>(tile_[static_cast<size_t>(position)]);
  const double error =
      static_cast<double>(bounds_[static_cast<size_t>(query / width_)].error[query % width_]);
  const double slack =
      error * static_cast<double>(norms_[static_cast<size_t>(position / width_)]) + underflow_;
  const bool known = std::isfinite(middle) && std::isfinite(slack);
  return known ? Interval{middle - slack, middle + slack} : Interval{kNoThreshold, -kNoThreshold};
}

int64_t FloatScreen::count(int64_t strip, const RankCounting& counting, RankHit* hits) {
  multiply(strip);
  return kernels().screen_and_count(tile_.data(), left_rows_, norms_.data(),
                                    bounds_[static_cast<size_t>(strip)].error, counting, hits);
}

void FloatScreen::bound(int64_t, double score, float& low, float& high) const {
  low = float_down(score - underflow_);
  high = float_up(score + underflow_);
}

}  // namespace pyhbt::cpu
