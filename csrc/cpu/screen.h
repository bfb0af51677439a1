// What search and rank counting share: exact scores, norms, and screening, by codes or in float32.
//   A screen holds a block of queries in strips. open() lists the passages of the tile begun last whose score may
//   reach the query's threshold; interval() bounds one score. Proofs in docs/how-it-works/numerics.md.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "../search.h"
#include "buffer.h"
#include "dispatch.h"
#include "rows.h"
#include "subnormals.h"
#include "walk.h"

namespace pyhbt::cpu {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr double kNoThreshold = -std::numeric_limits<double>::infinity();

// The nearest float32 values not below and not above a finite or infinite float64 value.
inline float float_up(double x) {
  const float rounded = static_cast<float>(x);
  return static_cast<double>(rounded) >= x ? rounded : std::nextafter(rounded, kInfinity);
}
inline float float_down(double x) { return -float_up(-x); }

// The step between levels of nibbles, in codes, for a code_norm of 1 (codes.h): the same float everywhere.
inline float nibble_step(int64_t dim) {
  constexpr double kLargest = 2.7326;  // level of normal numbers of variance 1
  return static_cast<float>(kLargest / (kNibbleLevels[15] * std::sqrt(static_cast<double>(dim))));
}

// Norms (rows,) in the order of summation of scores.
// Throws std::invalid_argument on a row that is not finite, naming the argument and the row.
std::vector<double> exact_norms(const Embeddings& x, const char* name, int threads);

// One call: the arguments and what is derived from them for all queries.
struct Call {
  explicit Call(const SearchArguments& arguments);

  const SearchArguments a;  // with as many threads as the work is worth
  std::vector<double> query_norms;
  const double* passage_norms = nullptr;  // where the corpus has codes, or after measure_passages()
  double largest_norm = 0;                // of the passages, or infinite, where they are screened in float32

  void measure_passages();
  bool by_codes() const { return by_codes_; }
  void screen_in_floats();

 private:
  std::vector<double> norms_;
  bool by_codes_;
};

// The exact score of one query with any passage; for cosine before the division by |q|.
class ExactScore {
 public:
  ExactScore() = default;
  ExactScore(ExactScore&&) = default;
  ExactScore& operator=(ExactScore&&) = default;
  ExactScore(const Call& call, int64_t query);

  bool ready() const { return call_ != nullptr; }
  double operator()(int64_t passage) {
    const Embeddings& corpus = call_->a.corpus;
    const double dot = kernels().dot(query_, float_row(corpus, passage, scratch_), corpus.dim);
    return call_->a.cosine ? divided(dot, passage) : dot;
  }
  // The scores of kDots pairs, faster than one by one.
  static void pairs(ExactScore* const* queries, const int64_t* passages, double* scores) {
    const Embeddings& corpus = queries[0]->call_->a.corpus;
    const float* left[kDots];
    const float* right[kDots];
    std::vector<float>& wide = queries[0]->scratch_;
    const bool widened = corpus.dtype != DType::kFloat32;
    if (widened) wide.resize(static_cast<size_t>(kDots * corpus.dim));
    for (int64_t i = 0; i < kDots; ++i) {
      left[i] = queries[i]->query_;
      if (widened) widen_row(corpus, passages[i], wide.data() + i * corpus.dim);
      right[i] = widened ? wide.data() + i * corpus.dim
                         : static_cast<const float*>(corpus.data) + passages[i] * corpus.stride;
    }
    kernels().dots(left, right, corpus.dim, scores);
    for (int64_t i = 0; i < kDots && queries[0]->call_->a.cosine; ++i)
      scores[i] = queries[i]->divided(scores[i], passages[i]);
  }
  // The passage's numbers, exactly, for of_row.
  void widen(int64_t passage, std::vector<double>& row) {
    const Embeddings& corpus = call_->a.corpus;
    row.resize(static_cast<size_t>(corpus.dim));
    kernels().widen_doubles(float_row(corpus, passage, scratch_), corpus.dim, row.data());
  }
  // The scores of a widened passage with kDots queries.
  static void of_row(const ExactScore* const* queries, const std::vector<double>& row, int64_t passage,
                     double* scores) {
    const float* left[kDots];
    for (int64_t i = 0; i < kDots; ++i) left[i] = queries[i]->query_;
    kernels().dots_of_row(left, row.data(), static_cast<int64_t>(row.size()), scores);
    for (int64_t i = 0; i < kDots && queries[0]->call_->a.cosine; ++i)
      scores[i] = queries[i]->divided(scores[i], passage);
  }
  // Asks for the passage ahead of time: survivors lie anywhere in the corpus.
  void prefetch(int64_t passage) const {
    const Embeddings& corpus = call_->a.corpus;
    const int64_t size = bytes_of(corpus.dtype);
    const char* row = static_cast<const char*>(corpus.data) + passage * corpus.stride * size;
    for (int64_t at = 0; at < corpus.dim * size; at += 64) __builtin_prefetch(row + at);
  }

 private:
  double divided(double dot, int64_t passage) const {
    const double norm = call_->passage_norms[passage];
    return norm > 0 ? dot / norm : 0.0;
  }

  const Call* call_ = nullptr;
  std::vector<float> widened_query_;  // where it is not float32
  const float* query_ = nullptr;      // there, or in the arguments
  std::vector<float> scratch_;
};

struct Interval {
  double lower, upper;
};

// A block of queries against float32 rows.
class FloatScreen {
 public:
  FloatScreen(const Call& call, const std::vector<int64_t>& queries);

  int64_t strips() const { return static_cast<int64_t>(bounds_.size()); }
  int64_t dim() const { return call_.a.queries.dim; }
  void set_threshold(int64_t query, double least);
  void begin(const PassageTile& tile);
  int64_t open(int64_t strip, int32_t* hits);
  Interval interval(int64_t query, int64_t passage, int64_t position) const;

  int64_t count(int64_t strip, const RankCounting& counting, RankHit* hits);
  void bound(int64_t query, double score, float& low, float& high) const;

 private:
  void multiply(int64_t strip);

  const Call& call_;
  int64_t width_, count_;
  double underflow_;
  bool packed_;  // all rows are converted, or scaled, before they are multiplied
  FloatBuffer strips_;
  std::vector<StripBounds> bounds_;
  std::vector<float> tile_, rows_, norms_;
  const float* left_ = nullptr;  // of the tile begun last
  int64_t left_stride_ = 0, left_rows_ = 0;
};

}  // namespace pyhbt::cpu
