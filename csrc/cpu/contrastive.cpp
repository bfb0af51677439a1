// The loss of contrastive.h by panels of queries: a panel of scores is computed, turned into its own gradient
// in place, and used for both gradient products while it is still in cache.
//   scores   S = P Q^T   passages in strips      x queries transposed  (multiply_strips)
//   passages dP += G Q   gradient in strips      x queries             (multiply_strips)
//   queries  dQ = G^T P  gradient, transposed    x passages            (multiply_transposed)
// One packed copy of the passages serves the first and the last. Panels follow one another; inside a phase a
// task owns its part of the output, so no sum depends on the number of threads.
#include "../contrastive.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "../interrupt.h"
#include "../parallel.h"
#include "../tile_math.h"
#include "buffer.h"
#include "contrastive_columns.h"
#include "contrastive_layout.h"
#include "contrastive_operands.h"

namespace pyhbt::cpu {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr int64_t kChain = 144;  // terms of a gradient that are summed one after the other, at most
constexpr double kLn2 = 0.69314718055994531, kLog2E = 1.4426950408889634;

class ContrastiveRun {
 public:
  explicit ContrastiveRun(const ContrastiveArguments& arguments);
  void run();

 private:
  struct Panel {
    int64_t first, rows, strips;  // queries
    float* scores;
  };

  bool with_gradients() const { return a_.grad_queries != nullptr || a_.grad_passages != nullptr; }
  Panel panel(int64_t index);
  void index_groups();
  void pack_queries(const Panel& p);
  void compute_scores(const Panel& p);
  void mask_block(const Panel& p, int64_t strip, int64_t first, int64_t last);
  void solve_rows(const Panel& p);
  void merge_columns(const Panel& p);
  void turn_into_gradient(const Panel& p, int64_t first, int64_t last);
  void propagate_to_passages(const Panel& p);
  void propagate_to_queries(const Panel& p);
  double write_query_gradients(const Panel& p);

  const ContrastiveArguments& a_;
  const CpuKernels& kernel_ = kernels();
  const ContrastiveLayout cut_;
  const int64_t n_, m_, dim_;
  Workspace workspace_;
  ContrastiveOperands operands_;
  float *scores_, *query_gradients_;
  float *block_max_, *block_sum_;                    // [block][panel lane]
  std::vector<std::pair<int64_t, int64_t>> groups_;  // (group, passage), sorted
  std::vector<float> limits_, row_max_, row_weights_;
  std::vector<double> positive_scores_, loss_, positive_gradients_;
  ColumnProblem columns_;
  Interrupt interrupt_;
};

// Floats of work memory beside the operands'.
struct Sizes {
  int64_t scores, gradients, statistics;

  Sizes(const ContrastiveArguments& a, const ContrastiveLayout& cut)
      : scores(cut.score_strips * cut.strip_stride),
        gradients(a.grad_queries != nullptr ? cut.panel_lanes() * cut.depth() : 0),
        statistics(cut.num_blocks * cut.panel_lanes()) {}
  int64_t total() const {
    return Workspace::rounded(scores) + Workspace::rounded(gradients) + 2 * Workspace::rounded(statistics);
  }
};

ContrastiveRun::ContrastiveRun(const ContrastiveArguments& arguments)
    : a_(arguments),
      cut_(a_, kernel_),
      n_(a_.queries.rows),
      m_(a_.passages.rows),
      dim_(a_.queries.dim),
      workspace_(ContrastiveOperands::work_floats(a_, cut_) + Sizes(a_, cut_).total()),
      operands_(a_, cut_, kernel_, workspace_) {
  const Sizes sizes(a_, cut_);
  scores_ = workspace_.take(sizes.scores);
  query_gradients_ = workspace_.take(sizes.gradients);
  block_max_ = workspace_.take(sizes.statistics);
  block_sum_ = workspace_.take(sizes.statistics);
  positive_scores_.assign(static_cast<size_t>(n_), 0.0);
  loss_.assign(static_cast<size_t>(n_), 0.0);
  positive_gradients_.assign(static_cast<size_t>(n_), 0.0);
  const size_t lanes = static_cast<size_t>(cut_.query_strips * cut_.strip);
  row_max_.assign(lanes, 0.0f);
  row_weights_.assign(lanes, 0.0f);
  limits_.assign(lanes, -kInfinity);  // lanes without a positive, and beyond the queries, take no part
  if (a_.symmetric) {
    columns_.max.assign(static_cast<size_t>(cut_.padded_passages), -kInfinity);
    columns_.sum.assign(static_cast<size_t>(cut_.padded_passages), 0.0);
  }
}

ContrastiveRun::Panel ContrastiveRun::panel(int64_t index) {
  const int64_t strip = index * cut_.panel_strips, first = strip * cut_.strip;
  const int64_t strips = std::min(cut_.panel_strips, cut_.query_strips - strip);
  return {first, std::min(n_ - first, strips * cut_.strip), strips,
          scores_ + (cut_.retained() ? strip * cut_.strip_stride : 0)};
}

void ContrastiveRun::index_groups() {
  if (a_.passage_groups == nullptr) return;
  for (int64_t j = 0; j < m_; ++j)
    if (a_.passage_groups[j] >= 0) groups_.emplace_back(a_.passage_groups[j], j);
  std::sort(groups_.begin(), groups_.end());
}

void ContrastiveRun::pack_queries(const Panel& p) {
  operands_.pack_queries(p.first, p.strips, positive_scores_);
  for (int64_t i = p.first; i < p.first + p.rows; ++i) {
    const size_t at = static_cast<size_t>(i);
    if (a_.positives[i] >= 0)
      limits_[at] = static_cast<float>((positive_scores_[at] + a_.margin / a_.temperature) * kLog2E);
  }
}

// Scores, without the pairs that are no negatives, and the statistics of each query over each block.
void ContrastiveRun::compute_scores(const Panel& p) {
  const int64_t strip = cut_.strip, panel_lanes = cut_.panel_lanes();
  const int64_t steps = ceil_div(cut_.dim_strips, kernel_.depth_block / strip);
  parallel_for(a_.threads, cut_.num_blocks, [&](int64_t block) {
    interrupt_.poll();
    const int64_t first = block * cut_.block_passages;
    const int64_t last = std::min(cut_.padded_passages, first + cut_.block_passages);
    for (int64_t step = 0; step < steps; ++step) {
      const int64_t from = cut_.dim_strips * step / steps, to = cut_.dim_strips * (step + 1) / steps;
      for (int64_t s = 0; s < p.strips; ++s)
        kernel_.multiply_strips(operands_.passages(from, first), cut_.strip_stride, last - first,
                                operands_.queries_transposed(s, from), (to - from) * strip,
                                p.scores + s * cut_.strip_stride + first * strip, strip, strip, step > 0);
    }
    for (int64_t s = 0; s < p.strips; ++s) {
      mask_block(p, s, first, last);
      const int64_t at = block * panel_lanes + s * strip;
      kernel_.query_statistics(p.scores + s * cut_.strip_stride + first * strip, last - first,
                               limits_.data() + p.first + s * strip, block_max_ + at, block_sum_ + at);
    }
  });
}

// Minus infinity for the positive of each query (it is handled apart, in float64), for passages of the
// query's group, and for the padding.
void ContrastiveRun::mask_block(const Panel& p, int64_t strip, int64_t first, int64_t last) {
  float* scores = p.scores + strip * cut_.strip_stride;
  if (last > m_) std::fill(scores + std::max(first, m_) * cut_.strip, scores + last * cut_.strip, -kInfinity);
  const int64_t start = p.first + strip * cut_.strip;
  for (int64_t i = start; i < std::min(n_, start + cut_.strip); ++i) {
    const int64_t positive = a_.positives[i];
    if (positive < 0) continue;
    float* column = scores + (i - start);
    if (positive >= first && positive < last) column[positive * cut_.strip] = -kInfinity;
    if (groups_.empty() || a_.query_groups[i] < 0) continue;
    const int64_t group = a_.query_groups[i];
    auto it = std::lower_bound(groups_.begin(), groups_.end(), std::make_pair(group, first));
    for (; it != groups_.end() && it->first == group && it->second < last; ++it)
      column[it->second * cut_.strip] = -kInfinity;
  }
}

// Once a query's negatives are summed up its loss follows,
// and the weight that turns its scores into gradients.
void ContrastiveRun::solve_rows(const Panel& p) {
  const double half = a_.symmetric ? 0.5 : 1.0;
  const int64_t panel_lanes = cut_.panel_lanes();
  parallel_for(a_.threads, p.strips, [&](int64_t s) {
    for (int64_t lane = s * cut_.strip; lane < std::min(p.rows, (s + 1) * cut_.strip); ++lane) {
      const int64_t i = p.first + lane;
      if (a_.positives[i] < 0) continue;
      float max = -kInfinity;
      for (int64_t b = 0; b < cut_.num_blocks; ++b) max = std::max(max, block_max_[b * panel_lanes + lane]);
      double sum = 0;
      for (int64_t b = 0; b < cut_.num_blocks; ++b) {
        const float top = block_max_[b * panel_lanes + lane];
        const double part = static_cast<double>(block_sum_[b * panel_lanes + lane]);
        sum += top == max || !(top > -kInfinity)
                   ? part
                   : part * std::exp2(static_cast<double>(top) - static_cast<double>(max));
      }
      const size_t at = static_cast<size_t>(i);
      const double positive = positive_scores_[at];
      // As for torch, a positive of plus infinity is no number above the others.
      const double delta = positive == std::numeric_limits<double>::infinity()
                               ? std::numeric_limits<double>::quiet_NaN()
                               : static_cast<double>(max) * kLn2 + std::log(sum) - positive;
      const double weight = half * static_cast<double>(a_.row_weights[i]), share = sigmoid(delta);
      loss_[at] = half * softplus(delta);
      positive_gradients_[at] = -weight * share;
      const bool none = max == -kInfinity && sum == 0;
      row_max_[at] = none ? 0.0f : max;
      row_weights_[at] = none ? 0.0f : static_cast<float>(weight * share / sum / a_.temperature);
    }
  });
}

void ContrastiveRun::merge_columns(const Panel& p) {
  parallel_for(a_.threads, cut_.num_blocks, [&](int64_t block) {
    const int64_t first = block * cut_.block_passages;
    const int64_t count = std::min(cut_.padded_passages - first, cut_.block_passages);
    std::vector<float> max(static_cast<size_t>(count)), sum(static_cast<size_t>(count));
    kernel_.passage_statistics(p.scores + first * cut_.strip, cut_.strip_stride, p.strips, count, max.data(),
                               sum.data());
    for (int64_t j = 0; j < count; ++j) {
      const size_t column = static_cast<size_t>(first + j), here = static_cast<size_t>(j);
      LogSumExp<double> all{static_cast<double>(columns_.max[column]) * kLn2, columns_.sum[column]};
      all.merge({static_cast<double>(max[here]) * kLn2, static_cast<double>(sum[here])});
      columns_.max[column] = std::max(columns_.max[column], max[here]);
      columns_.sum[column] = all.sum;
    }
  });
}

// Scores of the passages from first to last <- d loss / d score.
void ContrastiveRun::turn_into_gradient(const Panel& p, int64_t first, int64_t last) {
  const int64_t strip = cut_.strip;
  const float* column_max = a_.symmetric ? columns_.max.data() + first : nullptr;
  const float* column_weight = a_.symmetric ? columns_.weight.data() + first : nullptr;
  for (int64_t s = 0; s < p.strips; ++s) {
    float* scores = p.scores + s * cut_.strip_stride;
    const int64_t start = p.first + s * strip;
    kernel_.softmax_gradient(scores + first * strip, last - first, row_max_.data() + start,
                             row_weights_.data() + start, column_max, column_weight);
    for (int64_t i = start; i < std::min(n_, start + strip); ++i) {
      const int64_t positive = a_.positives[i];
      if (positive >= first && positive < last)
        scores[positive * strip + i - start] =
            static_cast<float>(positive_gradients_[static_cast<size_t>(i)] / a_.temperature);
    }
  }
}

// Scores become their gradient, block by block, and grad_passages += that times the queries, where it is wanted.
void ContrastiveRun::propagate_to_passages(const Panel& p) {
  const int64_t strip = cut_.strip;
  const int64_t steps = ceil_div(p.strips, std::max<int64_t>(1, kChain / strip));
  parallel_for(a_.threads, cut_.num_blocks, [&](int64_t block) {
    interrupt_.poll();
    const int64_t first = block * cut_.block_passages;
    const int64_t last = std::min(cut_.padded_passages, first + cut_.block_passages);
    turn_into_gradient(p, first, last);
    if (a_.grad_passages == nullptr) return;
    const int64_t rows = std::min(m_, last) - first;
    for (int64_t piece = 0; piece < cut_.dim_strips; ++piece) {
      const int64_t column = piece * strip;
      for (int64_t step = 0; step < steps; ++step) {
        const int64_t from = p.strips * step / steps, to = p.strips * (step + 1) / steps;
        kernel_.multiply_strips(p.scores + from * cut_.strip_stride + first * strip, cut_.strip_stride, rows,
                                operands_.queries_by_row(piece, from), (to - from) * strip,
                                a_.grad_passages + first * dim_ + column, dim_,
                                std::min(strip, dim_ - column), p.first > 0 || step > 0);
      }
    }
  });
}

// query_gradients_ [strip of dim][panel lane][lane of dim] = gradient^T times the packed passages. Rounding grows as the
// root of the longest sum: steps are summed to spans, and spans to the whole.
void ContrastiveRun::propagate_to_queries(const Panel& p) {
  const int64_t strip = cut_.strip, panel_lanes = cut_.panel_lanes();
  const int64_t step =
      std::min(kChain, kernel_.depth_block / 2);  // the block of the gradient shares the first cache
  constexpr int64_t kSteps = 16;                  // in a span
  constexpr int64_t kPieces = 4;                  // strips of dim that reuse it from the second
  constexpr int64_t kStrips = 2;                  // of queries, in one task
  const int64_t groups = ceil_div(p.strips, kStrips), tile = strip * strip;
  parallel_for(a_.threads, ceil_div(cut_.dim_strips, kPieces) * groups, [&](int64_t task) {
    const int64_t first_piece = task / groups * kPieces, first_strip = task % groups * kStrips;
    const int64_t last_piece = std::min(cut_.dim_strips, first_piece + kPieces);
    const int64_t last_strip = std::min(p.strips, first_strip + kStrips);
    const auto out = [&](int64_t piece, int64_t s) {
      return query_gradients_ + (piece * panel_lanes + s * strip) * strip;
    };
    FloatBuffer sums(kPieces * kStrips * tile);
    for (int64_t start = 0; start < cut_.padded_passages; start += kSteps * step) {
      interrupt_.poll();
      const int64_t end = std::min(cut_.padded_passages, start + kSteps * step);
      for (int64_t j = start; j < end; j += step) {
        float* sum = start == 0 ? nullptr : sums.data();
        for (int64_t piece = first_piece; piece < last_piece; ++piece)
          for (int64_t s = first_strip; s < last_strip; ++s) {
            kernel_.multiply_transposed(p.scores + s * cut_.strip_stride + j * strip,
                                        operands_.passages(piece, j), std::min(step, end - j),
                                        sum == nullptr ? out(piece, s) : sum, j > start);
            if (sum != nullptr) sum += tile;
          }
      }
      const float* sum = sums.data();
      for (int64_t piece = first_piece; piece < last_piece && start > 0; ++piece)
        for (int64_t s = first_strip; s < last_strip; ++s, sum += tile)
          std::transform(sum, sum + tile, out(piece, s), out(piece, s), std::plus<>());
    }
  });
}

// grad_queries from its strips. Returns sum_i s_i . d loss / d s_i, which the temperature's gradient needs.
double ContrastiveRun::write_query_gradients(const Panel& p) {
  const int64_t strip = cut_.strip, panel_lanes = cut_.panel_lanes();
  std::vector<double> parts(static_cast<size_t>(p.strips), 0.0);
  parallel_for(a_.threads, p.strips, [&](int64_t s) {
    for (int64_t lane = s * strip; lane < std::min(p.rows, (s + 1) * strip); ++lane) {
      const int64_t i = p.first + lane;
      float* out = a_.grad_queries + i * dim_;
      for (int64_t k = 0; k < dim_; k += strip)
        std::copy_n(query_gradients_ + (k / strip * panel_lanes + lane) * strip, std::min(strip, dim_ - k),
                    out + k);
      if (a_.positives[i] < 0) continue;
      if (a_.grad_temperature != nullptr) parts[static_cast<size_t>(s)] += operands_.query_moment(i, out);
      operands_.propagate_query(i, out);
    }
  });
  double total = 0;
  for (const double part : parts) total += part;
  return total;
}

void ContrastiveRun::run() {
  operands_.pack_passages(interrupt_);
  index_groups();
  double moment = 0;
  const auto propagate = [&](const Panel& p) {
    propagate_to_passages(p);
    if (a_.grad_queries == nullptr) return;
    propagate_to_queries(p);
    moment += write_query_gradients(p);
  };
  for (int64_t index = 0; index < cut_.num_panels; ++index) {
    const Panel p = panel(index);
    pack_queries(p);
    compute_scores(p);
    solve_rows(p);
    if (a_.symmetric)
      merge_columns(p);
    else if (with_gradients())
      propagate(p);
  }
  if (a_.symmetric) {
    solve_columns(a_, positive_scores_, columns_, loss_, positive_gradients_);
    for (int64_t index = 0; index < cut_.num_panels && with_gradients(); ++index) {
      // A gradient needs every row of its column: scores that were not kept are computed a second time.
      const Panel p = panel(index);
      if (cut_.num_panels > 1) pack_queries(p);
      if (!cut_.retained()) compute_scores(p);
      propagate(p);
    }
  }
  if (a_.grad_passages != nullptr && a_.cosine) {
    constexpr int64_t kRows = 32;
    parallel_for(a_.threads, ceil_div(m_, kRows), [&](int64_t task) {
      interrupt_.poll();
      for (int64_t j = task * kRows; j < std::min(m_, task * kRows + kRows); ++j)
        operands_.propagate_passage(j, a_.grad_passages + j * dim_);
    });
  }
  double total = 0;
  for (int64_t i = 0; i < n_; ++i) {
    const double loss = loss_[static_cast<size_t>(i)];
    a_.loss_rows[i] = static_cast<float>(loss);
    if (a_.positives[i] >= 0) total += static_cast<double>(a_.row_weights[i]) * loss;
  }
  *a_.loss = static_cast<float>(total);
  if (a_.grad_temperature != nullptr) *a_.grad_temperature = -moment / a_.temperature;
}

void check(const ContrastiveArguments& a) {
  const auto refuse = [](const std::string& message) { throw std::invalid_argument(message); };
  if (a.queries.dim < 1) refuse("queries: dim " + std::to_string(a.queries.dim) + ", expected at least 1");
  if (a.passages.dim != a.queries.dim)
    refuse("passages: dim " + std::to_string(a.passages.dim) + ", expected " + std::to_string(a.queries.dim));
  if (!(a.temperature > 0) || !std::isfinite(a.temperature))
    refuse("temperature: found " + std::to_string(a.temperature) + ", expected a finite number above 0");
  if (std::isnan(a.margin)) refuse("margin: found nan, expected a number");
  if ((a.query_groups == nullptr) != (a.passage_groups == nullptr))
    refuse("passage_groups: expected together with query_groups");
  if (a.grad_temperature != nullptr && a.grad_queries == nullptr)
    refuse("grad_temperature: expected together with grad_queries");
  for (int64_t i = 0; i < a.queries.rows; ++i) {
    if (a.positives[i] < -1 || a.positives[i] >= a.passages.rows)
      refuse("positives: found " + std::to_string(a.positives[i]) + " in row " + std::to_string(i) +
             ", expected -1 or an index below " + std::to_string(a.passages.rows) +
             " (the number of passages)");
  }
}

}  // namespace
}  // namespace pyhbt::cpu

namespace pyhbt {

void contrastive_loss(const ContrastiveArguments& arguments) {
  ContrastiveArguments a = arguments;
  const int64_t n = a.queries.rows, m = a.passages.rows, dim = a.queries.dim;
  if (n == 0 || m == 0) {
    a.query_groups = a.passage_groups = nullptr;  // empty arrays may come as null
    a.grad_queries = a.grad_passages = nullptr;
    a.grad_temperature = nullptr;
    cpu::check(a);
    std::fill_n(a.loss_rows, n, 0.0f);
    *a.loss = 0.0f;
    if (arguments.grad_queries != nullptr) std::fill_n(arguments.grad_queries, n * dim, 0.0f);
    if (arguments.grad_passages != nullptr) std::fill_n(arguments.grad_passages, m * dim, 0.0f);
    if (arguments.grad_temperature != nullptr) *arguments.grad_temperature = 0.0;
    return;
  }
  cpu::check(a);
  a.threads = worthwhile_threads(
      a.threads, 6.0 * static_cast<double>(n) * static_cast<double>(m) * static_cast<double>(dim));
  cpu::ContrastiveRun(a).run();
}

}  // namespace pyhbt
