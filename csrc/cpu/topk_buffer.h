// The passages that may still be among a query's k best: a bounded buffer of score intervals.
//   push is O(1) amortised; memory O(k).
// The k-th largest lower bound over any subset of the corpus is a floor under the true k-th best score, so an
// entry whose upper bound lies below it can go.
// Where the bounds do not separate the entries, they are scored exactly.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

#include "../tile_math.h"
#include "screen.h"
#include "sort_candidates.h"

namespace pyhbt::cpu {

class TopkBuffer {
 public:
  struct Entry {
    double lower, upper;  // equal: the exact score
    int64_t index;
  };

  explicit TopkBuffer(int64_t k, size_t spare = 64)
      : k_(static_cast<size_t>(k)), capacity_(std::max<size_t>(2 * k_, k_ + spare)) {}
  // Of few queries the floor rises at once: what it leaves open costs them more than the buffer.
  static TopkBuffer of_few(int64_t k) {
    TopkBuffer buffer(k);
    buffer.capacity_ = buffer.k_ + std::max<size_t>(buffer.k_ / 2, 16);
    return buffer;
  }

  // The k best so far score at least this.
  double floor() const { return floor_; }

  // Returns true where the floor may have risen.
  bool push(const Entry& entry, ExactScore& score) {
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
  std::vector<Candidate> finish(ExactScore& score) {
    if (std::any_of(entries_.begin(), entries_.end(), [](const Entry& e) { return e.lower != e.upper; }))
      prune();
    score_all(score);
    std::vector<Candidate> best;
    best.reserve(entries_.size());
    for (const Entry& entry : entries_) best.push_back({entry.lower, entry.index});
    sort_candidates(best);
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

  void score_all(ExactScore& score) {
    const auto known = [](const Entry& entry) { return entry.lower == entry.upper; };
    auto entry = std::partition(entries_.begin(), entries_.end(), known);
    ExactScore* queries[kDots];
    std::fill_n(queries, kDots, &score);
    const auto left = [&] { return entries_.end() - entry; };
    for (; left() >= kDots; entry += kDots) {
      int64_t passages[kDots];
      double scores[kDots];
      for (int64_t i = 0; i < kDots; ++i) passages[i] = entry[i].index;
      for (int64_t i = kDots; i < std::min<int64_t>(left(), 2 * kDots); ++i) score.prefetch(entry[i].index);
      ExactScore::pairs(queries, passages, scores);
      for (int64_t i = 0; i < kDots; ++i) entry[i].lower = entry[i].upper = scores[i];
    }
    for (; entry != entries_.end(); ++entry) entry->lower = entry->upper = score(entry->index);
  }

  void compact(ExactScore& score) {
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
