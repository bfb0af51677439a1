// Passages drawn evenly from a coded corpus, copied side by side: how the scores of a query are spread is
// known from them before the walk over all passages.
//   What is concluded is a guess, verified or taken back afterwards.
#pragma once

#include <cstdint>
#include <vector>

#include "coded_queries.h"
#include "filter.h"
#include "screen.h"

namespace pyhbt::cpu {

class Sample {
 public:
  Sample() = default;  // empty: nothing is guessed

  // Empty too where the corpus is too small, or k too large, for a sample to pay.
  Sample(const Call& call, int64_t k);

  Sample(const Sample&) = delete;  // codes_ points into the object
  Sample& operator=(const Sample&) = delete;
  Sample(Sample&&) = default;
  Sample& operator=(Sample&&) = default;

  int64_t size() const { return static_cast<int64_t>(passages_.size()); }
  bool empty() const { return passages_.empty(); }

  // For each query of the block a score that few more than k passages reach; kNoThreshold: none is known.
  std::vector<double> guesses(CodeScreen& screen, const std::vector<int64_t>& queries,
                              const Filter& filter) const;

  // The share of the sample that int8 codes leave open above the thresholds set in the screen.
  double open_share(CodeScreen& screen, int64_t num_queries) const;

 private:
  std::vector<int64_t> passages_;  // ascending
  int64_t rank_ = 0;               // the score of this rank in the sample is the guess
  CorpusCodes codes_{};            // of the sample: what lies in the arrays below
  std::vector<int8_t> code_rows_;
  std::vector<float> inverse_scale_, along_, code_norm_, residual_norm_;
  std::vector<int32_t> code_sum_;
};

}  // namespace pyhbt::cpu
