// The passages that may still be among a query's k best: a bounded buffer of score intervals.
//   push is O(1) amortised; memory O(k).
// The k-th largest lower bound over any subset of the corpus is a floor under the true k-th best score, so an
// entry whose upper bound lies below it can go. Where the bounds do not separate the entries, they are scored
// exactly.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

#include "../tile_math.h"

namespace pyhbt::cpu {

class TopkBuffer {
 public:
  struct Entry {
    double lower, upper;  // equal: the exact score
    int64_t index;
  };

  explicit TopkBuffer(int64_t k)
      : k_(static_cast<size_t>(k)), capacity_(std::max<size_t>(2 * k_, k_ + 256)) {}

  // The k best so far score at least this.
  double floor() const { return floor_; }

  // Returns true where the floor may have risen. score(index) gives the exact score, score.prefetch(index)
  // asks for the passage ahead of time: survivors lie anywhere in the corpus.
  template <typename Score>
  bool push(const Entry& entry, const Score& score) {
    if (entry.upper < floor_) return false;
    entries_.push_back(entry);
    if (entries_.size() < capacity_) return false;
    compact(score);
    return true;
  }

  void append(const TopkBuffer& other) {
    entries_.insert(entries_.end(), other.entries_.begin(), other.entries_.end());
    floor_ = std::max(floor_, other.floor_);
  }

  // The k best, in order.
  template <typename Score>
  std::vector<Candidate> finish(const Score& score) {
    prune();
    score_all(score);
    std::vector<Candidate> best;
    best.reserve(entries_.size());
    for (const Entry& entry : entries_) best.push_back({entry.lower, entry.index});
    std::sort(best.begin(), best.end(), ranks_before);
    if (best.size() > k_) best.resize(k_);
    return best;
  }

 private:
  static bool lower_is_larger(const Entry& a, const Entry& b) { return a.lower > b.lower; }

  void prune() {
    if (entries_.size() >= k_) {
      const auto kth = entries_.begin() + static_cast<std::ptrdiff_t>(k_ - 1);
      std::nth_element(entries_.begin(), kth, entries_.end(), lower_is_larger);
      floor_ = std::max(floor_, kth->lower);
    }
    const auto gone = [&](const Entry& entry) { return entry.upper < floor_; };
    entries_.erase(std::remove_if(entries_.begin(), entries_.end(), gone), entries_.end());
  }

  template <typename Score>
  void score_all(const Score& score) {
    for (size_t i = 0; i < entries_.size(); ++i) {
      Entry& entry = entries_[i];
      if (i + 1 < entries_.size()) score.prefetch(entries_[i + 1].index);
      if (entry.lower != entry.upper) entry.lower = entry.upper = score(entry.index);
    }
  }

  template <typename Score>
  void compact(const Score& score) {
    prune();
    if (entries_.size() <= k_ + (capacity_ - k_) / 2) return;
    score_all(score);
    const auto end = entries_.begin() + static_cast<std::ptrdiff_t>(k_);
    std::nth_element(entries_.begin(), end - 1, entries_.end(), [](const Entry& a, const Entry& b) {
      return ranks_before({a.lower, a.index}, {b.lower, b.index});
    });
    entries_.erase(end, entries_.end());
    floor_ = std::max(floor_, entries_.back().lower);
  }

  size_t k_, capacity_;
  double floor_ = -std::numeric_limits<double>::infinity();
  std::vector<Entry> entries_;
};

}  // namespace pyhbt::cpu
