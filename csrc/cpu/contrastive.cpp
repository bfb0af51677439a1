// The loss of contrastive.h by row panels: a panel of scores is computed, turned into its own gradient in
// place, and used for both gradient products while it is still in cache.
//   Panels follow one another; inside a panel threads own rows of the output, so no sum depends on their
//   number.
#include "../contrastive.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "../parallel.h"
#include "../tile_math.h"
#include "contrastive_columns.h"
#include "gemm.h"

namespace pyhbt::cpu {
namespace {

constexpr int64_t kPanelRows = 264;                    // 44 strips: 4 MiB of scores at 4096 passages
constexpr int64_t kRetainedScores = int64_t{4} << 20;  // a symmetric batch up to this is one panel (16 MiB)
constexpr int64_t kColumnBlock = 256;
constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();
constexpr double kLog2E = 1.4426950408889634;

class ContrastiveRun {
 public:
  explicit ContrastiveRun(const ContrastiveArguments& arguments);
  void run();

 private:
  bool with_gradients() const { return a_.grad_queries != nullptr; }
  void index_groups();
  void score_positives();
  void compute_panel(int64_t start, int64_t rows);
  void mask_row(int64_t row, float* scores) const;
  void gather_rows(int64_t start, int64_t rows);
  void gather_columns(int64_t rows);
  void solve_rows(int64_t start, int64_t rows);
  void accumulate_gradients(int64_t start, int64_t rows);

  const ContrastiveArguments& a_;
  const CpuKernels& kernel_ = kernels();
  int64_t panel_rows_, panel_stride_;
  float factor_;  // scores times this are exponents of two
  FloatBuffer panel_;
  PackedMatrix passages_by_dim_;                     // (d, m)
  PackedMatrix passages_by_row_;                     // (m, d), for grad_queries
  PackedMatrix queries_by_row_;                      // (panel, d), for grad_passages
  std::vector<std::pair<int64_t, int64_t>> groups_;  // (group, passage), sorted
  std::vector<RowStatistics> row_statistics_;
  std::vector<double> positive_scores_, loss_, positive_gradients_;
  std::vector<float> row_gradient_weights_;
  ColumnProblem columns_;
};

int64_t choose_panel_rows(const ContrastiveArguments& a) {
  const int64_t n = a.num_queries;
  const int64_t most = a.symmetric && n * a.num_passages <= kRetainedScores ? n : kPanelRows;
  return std::min(n, round_up(ceil_div(n, ceil_div(n, most)), kStripRows));
}

// Rows whose stride is a multiple of 1 KiB would crowd into few sets of the cache.
int64_t choose_stride(int64_t columns) {
  const int64_t stride = round_up(columns, kRowAlignment);
  return stride % 256 == 0 ? stride + kRowAlignment : stride;
}

ContrastiveRun::ContrastiveRun(const ContrastiveArguments& arguments)
    : a_(arguments),
      panel_rows_(choose_panel_rows(a_)),
      panel_stride_(choose_stride(a_.num_passages)),
      factor_(static_cast<float>(kLog2E / a_.temperature)),
      panel_(panel_rows_ * panel_stride_),
      passages_by_dim_(a_.dim, a_.num_passages),
      passages_by_row_(with_gradients() ? a_.num_passages : 0, a_.dim),
      queries_by_row_(with_gradients() ? panel_rows_ : 0, a_.dim),
      row_statistics_(static_cast<size_t>(a_.num_queries)),
      positive_scores_(static_cast<size_t>(a_.num_queries)),
      loss_(static_cast<size_t>(a_.num_queries)),
      positive_gradients_(static_cast<size_t>(a_.num_queries)),
      row_gradient_weights_(static_cast<size_t>(a_.num_queries)) {
  if (a_.symmetric) {
    columns_.max.assign(static_cast<size_t>(panel_stride_), kMinusInfinity);
    columns_.sum.assign(static_cast<size_t>(panel_stride_), 0.0);
  }
}

void ContrastiveRun::index_groups() {
  if (a_.passage_groups == nullptr) return;
  for (int64_t j = 0; j < a_.num_passages; ++j)
    if (a_.passage_groups[j] >= 0) groups_.emplace_back(a_.passage_groups[j], j);
  std::sort(groups_.begin(), groups_.end());
}

void ContrastiveRun::score_positives() {
  parallel_for(a_.threads, ceil_div(a_.num_queries, 64), [&](int64_t task) {
    std::vector<double> query(static_cast<size_t>(a_.dim));
    for (int64_t i = task * 64; i < std::min(a_.num_queries, task * 64 + 64); ++i) {
      if (a_.positives[i] < 0) continue;
      std::copy_n(a_.queries + i * a_.dim, a_.dim, query.begin());
      const double score = kernel_.dot(query.data(), a_.passages + a_.positives[i] * a_.dim, a_.dim);
      positive_scores_[static_cast<size_t>(i)] = score / a_.temperature;
    }
  });
}

// Minus infinity wherever the score is no negative: the positive itself (it is handled apart, in float64),
// passages of the query's group, all of a row without a positive, and the padding.
void ContrastiveRun::mask_row(int64_t row, float* scores) const {
  std::fill(scores + a_.num_passages, scores + panel_stride_, kMinusInfinity);
  if (a_.positives[row] < 0) {
    std::fill(scores, scores + a_.num_passages, kMinusInfinity);
    return;
  }
  scores[a_.positives[row]] = kMinusInfinity;
  if (a_.query_groups == nullptr || a_.query_groups[row] < 0) return;
  const int64_t group = a_.query_groups[row];
  auto it = std::lower_bound(groups_.begin(), groups_.end(), std::make_pair(group, int64_t{-1}));
  for (; it != groups_.end() && it->first == group; ++it) scores[it->second] = kMinusInfinity;
}

void ContrastiveRun::compute_panel(int64_t start, int64_t rows) {
  const MatrixView queries{a_.queries + start * a_.dim, rows, a_.dim, a_.dim, 1};
  multiply(queries, passages_by_dim_, panel_.data(), panel_stride_, false, a_.threads);
  parallel_for(a_.threads, ceil_div(rows, 8), [&](int64_t task) {
    for (int64_t r = task * 8; r < std::min(rows, task * 8 + 8); ++r)
      mask_row(start + r, panel_.data() + r * panel_stride_);
  });
}

void ContrastiveRun::gather_rows(int64_t start, int64_t rows) {
  parallel_for(a_.threads, ceil_div(rows, 8), [&](int64_t task) {
    for (int64_t r = task * 8; r < std::min(rows, task * 8 + 8); ++r)
      row_statistics_[static_cast<size_t>(start + r)] =
          kernel_.row_statistics(panel_.data() + r * panel_stride_, panel_stride_, factor_);
  });
}

void ContrastiveRun::gather_columns(int64_t rows) {
  parallel_for(a_.threads, ceil_div(panel_stride_, kColumnBlock), [&](int64_t task) {
    const int64_t first = task * kColumnBlock, width = std::min(kColumnBlock, panel_stride_ - first);
    float max[kColumnBlock];
    double sum[kColumnBlock];
    kernel_.column_statistics(panel_.data() + first, panel_stride_, rows, width, factor_, max, sum);
    for (int64_t j = 0; j < width; ++j) {
      const size_t column = static_cast<size_t>(first + j);
      LogSumExp<double> all{static_cast<double>(columns_.max[column]) / a_.temperature, columns_.sum[column]};
      all.merge({static_cast<double>(max[j]) / a_.temperature, sum[j]});
      columns_.max[column] = std::max(columns_.max[column], max[j]);
      columns_.sum[column] = all.sum;
    }
  });
}

// Once a row's negatives are summed up its loss follows, and the weights that turn its scores into gradients.
void ContrastiveRun::solve_rows(int64_t start, int64_t rows) {
  const double half = a_.symmetric ? 0.5 : 1.0;
  for (int64_t i = start; i < start + rows; ++i) {
    if (a_.positives[i] < 0) continue;
    const size_t row = static_cast<size_t>(i);
    const RowStatistics negatives = row_statistics_[row];
    const double delta =
        static_cast<double>(negatives.max) / a_.temperature - positive_scores_[row] + std::log(negatives.sum);
    const double weight = half * static_cast<double>(a_.row_weights[i]), share = sigmoid(delta);
    loss_[row] = half * softplus(delta);
    positive_gradients_[row] = -weight * share;
    const double each = negatives.sum == 0 ? 0.0 : weight * share / negatives.sum;
    row_gradient_weights_[row] = static_cast<float>(each / a_.temperature);
  }
}

// panel <- d loss / d score, then grad_queries = panel P and grad_passages += panel^T Q.
void ContrastiveRun::accumulate_gradients(int64_t start, int64_t rows) {
  parallel_for(a_.threads, ceil_div(rows, 8), [&](int64_t task) {
    for (int64_t r = task * 8; r < std::min(rows, task * 8 + 8); ++r) {
      const size_t row = static_cast<size_t>(start + r);
      float* scores = panel_.data() + r * panel_stride_;
      const float* col_max = a_.symmetric ? columns_.max.data() : nullptr;
      const float* col_weight = a_.symmetric ? columns_.weight.data() : nullptr;
      kernel_.softmax_gradient(scores, panel_stride_, factor_, row_statistics_[row].max,
                               row_gradient_weights_[row], col_max, col_weight);
      if (a_.positives[start + r] >= 0)
        scores[a_.positives[start + r]] = static_cast<float>(positive_gradients_[row] / a_.temperature);
    }
  });
  const MatrixView queries{a_.queries + start * a_.dim, rows, a_.dim, a_.dim, 1};
  queries_by_row_.pack(queries, a_.threads);
  const MatrixView gradient{panel_.data(), rows, a_.num_passages, panel_stride_, 1};
  multiply(gradient, passages_by_row_, a_.grad_queries + start * a_.dim, a_.dim, false, a_.threads);
  multiply(gradient.transposed(), queries_by_row_, a_.grad_passages, a_.dim, start > 0, a_.threads);
}

void ContrastiveRun::run() {
  const int64_t n = a_.num_queries;
  const MatrixView passages{a_.passages, a_.num_passages, a_.dim, a_.dim, 1};
  passages_by_dim_.pack(passages.transposed(), a_.threads);
  if (with_gradients()) passages_by_row_.pack(passages, a_.threads);
  index_groups();
  score_positives();

  for (int64_t start = 0; start < n; start += panel_rows_) {
    const int64_t rows = std::min(panel_rows_, n - start);
    compute_panel(start, rows);
    gather_rows(start, rows);
    solve_rows(start, rows);
    if (a_.symmetric) gather_columns(rows);
    if (!a_.symmetric && with_gradients()) accumulate_gradients(start, rows);
  }
  if (a_.symmetric) {
    solve_columns(a_, positive_scores_, columns_, loss_, positive_gradients_);
    for (int64_t start = 0; start < n && with_gradients(); start += panel_rows_) {
      const int64_t rows = std::min(panel_rows_, n - start);
      if (panel_rows_ < n)
        compute_panel(start, rows);  // a gradient needs every row of its column: a second pass
      accumulate_gradients(start, rows);
    }
  }
  for (int64_t i = 0; i < n; ++i) a_.loss_rows[i] = static_cast<float>(loss_[static_cast<size_t>(i)]);
}

}  // namespace
}  // namespace pyhbt::cpu

namespace pyhbt {

void contrastive_loss(const ContrastiveArguments& a) {
  if (a.dim < 1)
    throw std::invalid_argument("queries: dim " + std::to_string(a.dim) + ", expected at least 1");
  if (!(a.temperature > 0) || !std::isfinite(a.temperature))
    throw std::invalid_argument("temperature: found " + std::to_string(a.temperature) +
                                ", expected a finite number above 0");
  for (int64_t i = 0; i < a.num_queries; ++i) {
    if (a.positives[i] < -1 || a.positives[i] >= a.num_passages)
      throw std::invalid_argument("positives: found " + std::to_string(a.positives[i]) + " in row " +
                                  std::to_string(i) + ", expected -1 or an index below " +
                                  std::to_string(a.num_passages) + " (the number of passages)");
  }
  if (a.num_queries == 0 || a.num_passages == 0) {  // no row has a loss; empty arrays may come as null
    std::fill_n(a.loss_rows, a.num_queries, 0.0f);
    if (a.grad_queries != nullptr) std::fill_n(a.grad_queries, a.num_queries * a.dim, 0.0f);
    if (a.grad_passages != nullptr) std::fill_n(a.grad_passages, a.num_passages * a.dim, 0.0f);
    return;
  }
  if ((a.query_groups == nullptr) != (a.passage_groups == nullptr))
    throw std::invalid_argument("passage_groups: expected together with query_groups");
  if ((a.grad_queries == nullptr) != (a.grad_passages == nullptr))
    throw std::invalid_argument("grad_passages: expected together with grad_queries");
  ContrastiveArguments run = a;
  run.threads =
      worthwhile_threads(a.threads, 6.0 * static_cast<double>(a.num_queries) *
                                        static_cast<double>(a.num_passages) * static_cast<double>(a.dim));
  cpu::ContrastiveRun(run).run();
}

}  // namespace pyhbt
