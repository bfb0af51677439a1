// Encoding of queries, and what their codes say about scores: coded_queries.h, docs/how-it-works/numerics.md.
#include "coded_queries.h"

namespace pyhbt::cpu {
namespace {

constexpr double kLeastServed = 0x1p-60, kMostServed = 0x1p60;

double norm_of(const float* x, int64_t dim) { return std::sqrt(kernels().dot(x, x, dim)); }

// The place of number k among the sums in int16 of a query: chunk and half of four numbers.
int64_t lane_of(int64_t k) { return k / (4 * kChunkQuads) * 2 + k % 4 / 2; }

// The scale of a query's codes: the largest number becomes the largest code, or less where sums in int16 ask for it.
double fitting_scale(const std::vector<double>& x, double largest) {
  const double scale = kernels().query_limit / largest;
  if (!kernels().chunked_sums) return scale;
  std::vector<double> sums(static_cast<size_t>(lane_of(static_cast<int64_t>(x.size()) - 1) + 2));
  for (size_t k = 0; k < x.size(); ++k)
    sums[static_cast<size_t>(lane_of(static_cast<int64_t>(k)))] += std::abs(x[k]);
  // Rounding to codes adds half a unit at most to each of the numbers of a sum.
  constexpr double kMost = static_cast<double>(kMostLaneSum - kChunkQuads) * (1 - 0x1p-30);
  const double most = *std::max_element(sums.begin(), sums.end());
  return std::min(scale, kMost / most);
}

}  // namespace

CodeScreen::CodeScreen(const Call& call, const std::vector<int64_t>& queries)
    : call_(call),
      width_(kernels().strip),
      dim_(call.a.queries.dim),
      stride_(code_stride(dim_)),
      count_(static_cast<int64_t>(queries.size())),
      first_look_(call, count_) {
  const int64_t num_strips = ceil_div(count_, width_), group = kernels().query_group;
  const int64_t strip_bytes = ceil_div(dim_, group) * group * width_;
  const bool few = count_ <= kFewQueries;
  chunks_ = kernels().chunked_sums ? ceil_div(ceil_div(dim_, 4), kChunkQuads) : 0;
  starts_.assign(static_cast<size_t>(2 * num_strips * chunks_ * width_), 0);
  bytes_.assign(static_cast<size_t>(num_strips * strip_bytes), 0);
  if (few) rows_.assign(static_cast<size_t>(count_ * stride_), 0);
  fine_.assign(static_cast<size_t>(count_ * stride_), 0);
  queries_.resize(queries.size());
  strips_.resize(static_cast<size_t>(num_strips));
  for (int64_t s = 0; s < num_strips; ++s) {
    CodedStrip& strip = strips_[static_cast<size_t>(s)];
    strip = {};
    strip.lanes = std::min(width_, count_ - s * width_);
    strip.bytes = bytes_.data() + s * strip_bytes;
    strip.rows = few ? rows_.data() : nullptr;
    strip.starts = starts_.data() + 2 * s * chunks_ * width_;
    std::fill_n(strip.threshold, kMaxStrip, kInfinity);  // lanes beyond the block never hit
    std::fill_n(strip.pair_base, kMaxStrip, kInfinity);
  }
  std::vector<float> scratch;
  std::vector<double> rest(static_cast<size_t>(dim_));
  for (int64_t at = 0; at < count_; ++at) encode_query(at, queries[static_cast<size_t>(at)], scratch, rest);
}

void CodeScreen::encode_query(int64_t at, int64_t query, std::vector<float>& scratch,
                              std::vector<double>& rest) {
  const CorpusCodes& codes = *call_.a.codes;
  const float* row = float_row(call_.a.queries, query, scratch);
  Query& q = queries_[static_cast<size_t>(at)];
  CodedStrip& strip = strips_[static_cast<size_t>(at / width_)];
  const int64_t lane = at % width_;
  const double direction_norm = norm_of(codes.direction, dim_);
  const double square = direction_norm * direction_norm;
  const double alpha =
      square > 0 ? static_cast<double>(static_cast<float>(kernels().dot(row, codes.direction, dim_) / square))
                 : 0.0;
  double largest = 0, rest_square = 0;
  for (int64_t k = 0; k < dim_; ++k) {
    const double x = static_cast<double>(row[k]) - alpha * static_cast<double>(codes.direction[k]);
    rest[static_cast<size_t>(k)] = x;
    largest = std::max(largest, std::abs(x));
    rest_square += x * x;
  }
  const double query_norm = call_.query_norms[static_cast<size_t>(query)];
  const double rest_norm = std::sqrt(rest_square) * (1 + 0x1p-30);
  q.served = (largest == 0 || largest >= kLeastServed) && query_norm <= kMostServed && std::isfinite(alpha);
  q.shift = kernels().dot(row, codes.centre, dim_);
  // The factors have room for what a passage is longer than the centre.
  const double centre_norm = norm_of(codes.centre, dim_), passage_norm = call_.a.cosine ? 1.0 : centre_norm;
  const double steps = static_cast<double>(dim_ + 64) * 0x1p-52;
  q.slack = steps * query_norm * (centre_norm + passage_norm);

  const double fine_limit = std::min(8191.0, std::floor(2147483647.0 / (127.0 * static_cast<double>(dim_))));
  q.scale = largest > 0 && q.served ? fitting_scale(rest, largest) : 1.0;
  q.fine_scale = largest > 0 && q.served ? fine_limit / largest : 1.0;
  double error = 0, fine_error = 0, code_square = 0;
  const int64_t group = kernels().query_group, groups = ceil_div(dim_, group);
  const int row_offset = kernels().row_offset, offset = kernels().query_offset;
  uint16_t* starts = starts_.data() + 2 * (at / width_ * chunks_ * width_ + lane);
  for (int64_t k = 0; k < dim_ && q.served; ++k) {
    const double x = rest[static_cast<size_t>(k)];
    const double code = std::nearbyint(q.scale * x), fine = std::nearbyint(q.fine_scale * x);
    error += (q.scale * x - code) * (q.scale * x - code);
    fine_error += (q.fine_scale * x - fine) * (q.fine_scale * x - fine);
    code_square += code * code;
    const int whole = static_cast<int>(code);
    if (strip.rows != nullptr)
      rows_[static_cast<size_t>(at * stride_ + k)] = static_cast<uint8_t>(whole + row_offset);
    bytes_[static_cast<size_t>(((at / width_ * groups + k / group) * width_ + lane) * group + k % group)] =
        static_cast<uint8_t>(whole + offset);
    if (chunks_ > 0) {
      uint16_t& start = starts[lane_of(k) / 2 * 2 * width_ + lane_of(k) % 2];
      start = static_cast<uint16_t>(start - 128 * whole);
    }
    fine_[static_cast<size_t>(at * stride_ + k)] = static_cast<int16_t>(fine);
  }
  const QueryRest query_rest{rest,  largest,        rest_norm,         query_norm,
                             alpha, direction_norm, q.shift + q.slack, q.served};
  const ScreenFactors factors = screen_factors(query_rest, q.scale, error, code_square);
  if (first_look_.serves()) first_look_.add(at, query_rest);
  const double gamma = static_cast<double>(dim_ / 4 + 16) * 0x1p-24;
  const double part = std::abs(alpha) * direction_norm;
  const double fine_rounding =
      (0x1p-40 + steps) * q.fine_scale * query_norm + (0x1p-20 + gamma) * q.fine_scale * part;
  strip.threshold[lane] = -kInfinity;
  // The base is lowered by more than float32 loses; wanted() does the same to the other term.
  const double base = q.scale * (q.shift + q.slack);
  strip.pair_factor[lane] =
      q.served ? static_cast<float>(q.scale * (call_.a.cosine ? query_norm : 1.0)) : 0.0f;
  strip.pair_base[lane] = q.served ? float_down(-base - 0x1p-20 * std::abs(base)) : -kInfinity;
  strip.along[lane] = factors.along;
  strip.code_factor[lane] = factors.code;
  strip.residual_factor[lane] = factors.residual;
  q.fine_along = q.fine_scale * alpha;
  q.fine_code_factor = std::sqrt(fine_error) * (1 + 0x1p-30) + fine_rounding;
  q.fine_residual_factor = q.fine_scale * rest_norm + fine_rounding;
}

void CodeScreen::set_threshold(int64_t query, double least) {
  const Query& q = queries_[static_cast<size_t>(query)];
  float& threshold = strips_[static_cast<size_t>(query / width_)].threshold[query % width_];
  threshold = q.served ? float_down(q.scale * (least - q.shift - q.slack)) : -kInfinity;
  if (first_look_.serves()) first_look_.set_threshold(query, least);
}

float CodeScreen::wanted(const Call& call, int64_t passage, double least) {
  const double norm = call.a.cosine ? call.passage_norms[passage] : 1.0;
  if (!(norm > 0)) return -kInfinity;  // scores of 0 that no bound speaks of
  const double of_products = least / norm;
  return std::isfinite(of_products) ? float_down(of_products - 0x1p-20 * std::abs(of_products) - 0x1p-120)
                                    : -kInfinity;
}

int64_t CodeScreen::open_pairs(int64_t strip, int64_t first, int64_t rows, const float* wanted,
                               int32_t* hits) {
  return kernels().screen_pairs(tile(*call_.a.codes, first, rows), strips_[static_cast<size_t>(strip)],
                                wanted, hits);
}

CodedTile CodeScreen::tile(const CorpusCodes& codes, int64_t first, int64_t rows) {
  if (chunks_ == 0) return {codes, dim_, first, rows, nullptr};
  if (copied_ != codes.codes || copied_first_ != first || copied_rows_ != rows) {
    copy_.resize(static_cast<size_t>(rows * stride_));
    kernels().begin_tile(codes, dim_, first, rows, copy_.data());
    copied_ = codes.codes;
    copied_first_ = first;
    copied_rows_ = rows;
  }
  return {codes, dim_, first, rows, copy_.data()};
}

void CodeScreen::begin(const PassageTile& tile) {
  const CorpusCodes& all = *call_.a.codes;
  const bool gathered = tile.listed != nullptr;
  begun_ = gathered ? &gathered_.view() : &all;
  begun_first_ = gathered ? 0 : tile.first;
  begun_rows_ = tile.rows;
  if (!gathered) return;
  if (copied_ == gathered_.view().codes) copied_ = nullptr;  // what it was copied from is overwritten
  gathered_.resize(all, dim_, kTilePassages);
  for (int64_t r = 0; r < tile.rows; ++r) gathered_.set(r, all, tile.listed[r]);
}

int64_t CodeScreen::open(int64_t strip, int32_t* hits) {
  const bool in_place = begun_ == &*call_.a.codes;
  if (in_place && first_look_.pays(begun_first_)) {
    const int64_t found = first_look_.open(begun_first_, begun_rows_, hits);
    const CodedTile codes{*begun_, dim_, begun_first_, begun_rows_, nullptr};
    // Rounding to a code loses half of one; the rest is the rounding of the norm, up to 32,768 dims.
    const float most_residual = 0.503f * std::sqrt(static_cast<float>(dim_));
    return kernels().check_hits(codes, strips_[static_cast<size_t>(strip)], most_residual, hits, found);
  }
  return open_in(*begun_, strip, begun_first_, begun_rows_, hits);
}

int64_t CodeScreen::open_in(const CorpusCodes& codes, int64_t strip, int64_t first, int64_t rows,
                            int32_t* hits) {
  const CodedStrip& queries = strips_[static_cast<size_t>(strip)];
  if (queries.rows != nullptr)
    return kernels().scan_codes({codes, dim_, first, rows, nullptr}, queries, hits);
  return kernels().screen_codes(tile(codes, first, rows), queries, hits);
}

Interval CodeScreen::interval(int64_t query, int64_t passage, int64_t) const {
  const Query& q = queries_[static_cast<size_t>(query)];
  const CorpusCodes& codes = *call_.a.codes;
  const double code_norm = static_cast<double>(codes.code_norm[passage]);
  if (!q.served || std::isinf(code_norm)) return {kNoThreshold, -kNoThreshold};
  const double product =
      kernels().dot_codes(fine_.data() + query * stride_, codes.codes + passage * stride_, stride_);
  const double unit = 1 / (q.fine_scale * static_cast<double>(codes.inverse_scale[passage]));
  const double middle = q.shift + (product + q.fine_along * static_cast<double>(codes.along[passage])) * unit;
  const double half = (q.fine_code_factor * code_norm +
                       q.fine_residual_factor * static_cast<double>(codes.residual_norm[passage])) *
                          unit * (1 + 0x1p-40) +
                      q.slack;
  return {middle - half, middle + half};
}

void CodeScreen::estimates_in(const CorpusCodes& codes, int64_t strip, int64_t first, int64_t rows,
                              float* out) {
  kernels().estimate_codes(tile(codes, first, rows), strips_[static_cast<size_t>(strip)], out);
}

double CodeScreen::score_of(int64_t query, float estimate) const {
  const Query& q = queries_[static_cast<size_t>(query)];
  return q.served ? q.shift + static_cast<double>(estimate) / q.scale : kNoThreshold;
}

int64_t CodeScreen::count(int64_t strip, const RankCounting& counting, RankHit* hits) {
  return kernels().count_codes(tile(*begun_, begun_first_, begun_rows_), strips_[static_cast<size_t>(strip)],
                               counting, hits);
}

void CodeScreen::bound(int64_t query, double score, float& low, float& high) const {
  const Query& q = queries_[static_cast<size_t>(query)];
  low = float_down(q.scale * (score - q.shift - q.slack));
  high = float_up(q.scale * (score - q.shift + q.slack));
}

}  // namespace pyhbt::cpu
