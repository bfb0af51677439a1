// First looks at nibbles: first_look.h, docs/how-it-works/numerics.md.
#include "first_look.h"

namespace pyhbt::cpu {
namespace {

constexpr int64_t kLeastBytes = int64_t{4} << 20;  // of codes: fewer come from the cache, as fast as nibbles
constexpr int64_t kWindow = 64 * kTilePassages;    // passages between decisions
constexpr int64_t kShortestPause = 2 * kWindow;  // before nibbles are tried again: doubled each time in vain
constexpr int64_t kLongestPause = 16 * kWindow;
constexpr double kMostOpen = 0.15;  // pairs a passage from which on codes alone cost less

}  // namespace

FirstLook::FirstLook(const Call& call, int64_t count)
    : codes_(*call.a.codes), dim_(call.a.queries.dim), passages_(call.a.corpus.rows) {
  const int64_t stride = nibble_stride(dim_);
  if (codes_.nibbles == nullptr || count > kFewQueries || passages_ * code_stride(dim_) < kLeastBytes) return;
  rows_.resize(static_cast<size_t>(count * 2 * stride));
  ahead_.resize(static_cast<size_t>(kTilePassages * kernels().strip));
  queries_.rows = rows_.data();
  queries_.count = count;
  queries_.step = nibble_step(dim_);
}

void FirstLook::add(int64_t query, const QueryRest& rest) {
  constexpr double kLargestCode = 127;
  const double scale = rest.largest > 0 && rest.served ? kLargestCode / rest.largest : 1.0;
  int8_t* row = rows_.data() + query * 2 * nibble_stride(dim_);
  double error = 0, code_square = 0;
  int32_t sum = 0;
  for (int64_t k = 0; k < dim_ && rest.served; ++k) {
    const double x = scale * rest.numbers[static_cast<size_t>(k)], code = std::nearbyint(x);
    error += (x - code) * (x - code);
    code_square += code * code;
    row[k] = static_cast<int8_t>(code);
    sum += row[k];
  }
  const ScreenFactors factors = screen_factors(rest, scale, error, code_square);
  queries_.sum[query] = sum;
  queries_.threshold[query] = -kInfinity;
  queries_.along[query] = factors.along;
  queries_.code_factor[query] = factors.code;
  queries_.residual_factor[query] = factors.residual;
  scale_[query] = scale;
  offset_[query] = rest.offset;
  served_[query] = rest.served;
}

void FirstLook::set_threshold(int64_t query, double least) {
  float& threshold = queries_.threshold[query];
  const float before = threshold;
  threshold = served_[query] ? float_down(scale_[query] * (least - offset_[query])) : -kInfinity;
  if (!(threshold >= before)) ahead_first_ = -1;  // what was looked at may have left out too much
}

int64_t FirstLook::look(int64_t first, int64_t rows, int32_t* hits) const {
  return kernels().scan_nibbles({codes_, dim_, first, rows, nullptr}, queries_, hits);
}

void FirstLook::look_ahead(int64_t first) {
  ahead_first_ = -1;
  if (first + kTilePassages > passages_) return;
  ahead_first_ = first;
  ahead_count_ = look(first, kTilePassages, ahead_.data());
  const int64_t stride = code_stride(dim_), width = kernels().strip;
  for (int64_t h = 0; h < ahead_count_; ++h) {
    const int64_t passage = first + ahead_[static_cast<size_t>(h)] / width;
    for (int64_t at = 0; at < stride; at += 64) __builtin_prefetch(codes_.codes + passage * stride + at);
  }
}

// Where too much was open, codes are read instead for the next passages.
void FirstLook::decide(int64_t end, int64_t rows, int64_t found) {
  seen_ += rows;
  found_ += found;
  const bool too_much = static_cast<double>(found_) > kMostOpen * static_cast<double>(kWindow);
  if (seen_ < kWindow && !too_much) return;
  pause_ = too_much ? std::clamp(2 * pause_, kShortestPause, kLongestPause) : 0;
  resumes_ = end + pause_;
  seen_ = found_ = 0;
}

int64_t FirstLook::open(int64_t first, int64_t rows, int32_t* hits) {
  const bool known = ahead_first_ == first && rows == kTilePassages, walks = end_ == first;
  int64_t found;
  if (known) {
    found = ahead_count_;
    std::copy_n(ahead_.begin(), found, hits);
  } else {
    found = look(first, rows, hits);
  }
  end_ = first + rows;
  decide(end_, rows, found);
  if (walks && pays(end_)) look_ahead(end_);
  return found;
}

}  // namespace pyhbt::cpu
