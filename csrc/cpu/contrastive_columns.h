// The passage-to-query direction of the symmetric loss, solved once all columns of scores are known.
//   Each row i with a positive has a column problem over the candidate queries i' of passage j = pos(i):
//     others(i) = base(j) and the scores of the other rows that share the positive j,
//   where base(j) gathers the rows whose positive is not j. Pairs left out by group stay out of both.
// Time O(n log n + m), memory O(n + m), all in float64.
#pragma once

#include <cstdint>
#include <vector>

#include "../contrastive.h"

namespace pyhbt::cpu {

struct ColumnProblem {
  // In: per column, max and sum of 2^(x - max) over base(j), x being scores as exponents of two.
  std::vector<float> max;
  std::vector<double> sum;
  // Out: the gradient of row i' not sharing positive j is weight[j] * 2^(x - max[j]); max is made finite.
  std::vector<float> weight;
};

// positive_scores: s_i,pos(i). Adds col_i / 2 to loss_rows and the gradient with respect to the positive's
// score to positive_gradients, both (n,).
void solve_columns(const ContrastiveArguments& arguments, const std::vector<double>& positive_scores,
                   ColumnProblem& columns, std::vector<double>& loss_rows,
                   std::vector<double>& positive_gradients);

}  // namespace pyhbt::cpu
