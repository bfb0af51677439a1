// Passages drawn evenly from a coded corpus, copied side by side: how the scores of a query are spread is
// known from them before the walk over all passages.
//   What is concluded is a guess, verified or taken back afterwards.
#pragma once

#include <cstdint>
#include <vector>

#include "coded_queries.h"
#include "filter.h"
#include "gathered_codes.h"
#include "screen.h"

namespace pyhbt::cpu {

class Sample {
 public:
  Sample() = default;  // empty: nothing is guessed

  // Empty too where no query walks over passages enough, or k is too large, for a sample to pay.
  Sample(const Call& call, int64_t k, int64_t most_passages);

  int64_t size() const { return static_cast<int64_t>(passages_.size()); }
  bool empty() const { return passages_.empty(); }
  // Whether guesses cost little beside a walk over so many passages.
  bool pays_for(int64_t passages) const { return !empty() && passages >= kLeastTimes * size(); }

  // For each query of the block a score that few more than k passages reach; kNoThreshold: none is known.
  // one_pool: all of them have the same pool.
  std::vector<double> guesses(CodeScreen& screen, const std::vector<int64_t>& queries, const Filter& filter,
                              bool one_pool) const;

  // The share of the sample that int8 codes leave open above the thresholds set in the screen.
  double open_share(CodeScreen& screen, int64_t num_queries) const;

 private:
  std::vector<int64_t> passages_;  // ascending
  static constexpr int64_t kLeastTimes = 4;
  int64_t num_passages_ = 0;  // of the corpus
  int64_t rank_ = 0;          // the score of this rank in the sample is the guess
  GatheredCodes codes_;
};

}  // namespace pyhbt::cpu
