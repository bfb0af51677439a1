// Rows that share a positive are solved together with running sums from both ends, so that "all but i" is
// never formed by subtraction and peaked columns keep their accuracy.
#include "contrastive_columns.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "../tile_math.h"

namespace pyhbt::cpu {
namespace {

constexpr double kEmpty = -std::numeric_limits<double>::infinity();
constexpr double kLn2 = 0.69314718055994531;

struct Member {
  int64_t row;
  double score;   // of the shared positive
  bool excluded;  // by group: no candidate for the other members
  double lse = 0;
};

bool same_group(const ContrastiveArguments& a, int64_t row, int64_t column) {
  return a.query_groups != nullptr && a.query_groups[row] >= 0 &&
         a.query_groups[row] == a.passage_groups[column];
}

LogSumExp<double> single(const Member& member) {
  return member.excluded ? LogSumExp<double>{} : LogSumExp<double>{member.score, 1.0};
}

// One column with its members; base_max is scaled by the temperature.
void solve_column(const ContrastiveArguments& a, std::vector<Member>& members, LogSumExp<double> base,
                  std::vector<double>& loss_rows, std::vector<double>& positive_gradients, double* weight) {
  const size_t count = members.size();
  std::vector<LogSumExp<double>> after(count + 1);
  for (size_t k = count; k-- > 0;) {
    after[k] = single(members[k]);
    after[k].merge(after[k + 1]);
  }
  LogSumExp<double> before = base;
  double reference = base.max;
  std::vector<double> share(count);
  *weight = 0;
  for (size_t k = 0; k < count; ++k) {
    Member& member = members[k];
    LogSumExp<double> others = before;
    others.merge(after[k + 1]);
    const double delta = others.value() - member.score,
                 half = 0.5 * static_cast<double>(a.row_weights[member.row]);
    const double loss = softplus(delta);
    member.lse = member.score + loss;
    loss_rows[static_cast<size_t>(member.row)] += 0.5 * loss;
    positive_gradients[static_cast<size_t>(member.row)] -= half * sigmoid(delta);
    if (base.max != kEmpty) *weight += half * std::exp(base.max - member.lse);
    if (!member.excluded) reference = std::max(reference, member.score);
    before.merge(single(member));
  }
  if (count == 1 || reference == kEmpty) return;
  // A member's positive score also stands among the candidates of the other members.
  for (size_t k = 0; k < count; ++k)
    share[k] =
        0.5 * static_cast<double>(a.row_weights[members[k].row]) * std::exp(reference - members[k].lse);
  std::vector<double> shares_after(count + 1, 0.0);
  for (size_t k = count; k-- > 0;) shares_after[k] = shares_after[k + 1] + share[k];
  double shares_before = 0;
  for (size_t k = 0; k < count; ++k) {
    if (!members[k].excluded) {
      positive_gradients[static_cast<size_t>(members[k].row)] +=
          std::exp(members[k].score - reference) * (shares_before + shares_after[k + 1]);
    }
    shares_before += share[k];
  }
}

}  // namespace

void solve_columns(const ContrastiveArguments& a, const std::vector<double>& positive_scores,
                   ColumnProblem& columns, std::vector<double>& loss_rows,
                   std::vector<double>& positive_gradients) {
  std::vector<int64_t> order;
  for (int64_t i = 0; i < a.queries.rows; ++i)
    if (a.positives[i] >= 0) order.push_back(i);
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t x, int64_t y) { return a.positives[x] < a.positives[y]; });

  columns.weight.assign(columns.max.size(), 0.0f);
  std::vector<Member> members;
  for (size_t start = 0; start < order.size();) {
    const int64_t column = a.positives[order[start]];
    members.clear();
    for (; start < order.size() && a.positives[order[start]] == column; ++start) {
      const int64_t row = order[start];
      members.push_back({row, positive_scores[static_cast<size_t>(row)], same_group(a, row, column)});
    }
    const size_t j = static_cast<size_t>(column);
    const LogSumExp<double> base{static_cast<double>(columns.max[j]) * kLn2, columns.sum[j]};
    double weight = 0;
    solve_column(a, members, base, loss_rows, positive_gradients, &weight);
    columns.weight[j] = static_cast<float>(weight / a.temperature);
  }
  for (float& max : columns.max)
    if (max == -std::numeric_limits<float>::infinity()) max = 0.0f;  // nothing to weigh: avoid inf - inf
}

}  // namespace pyhbt::cpu
