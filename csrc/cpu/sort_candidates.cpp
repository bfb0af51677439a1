// sort_candidates.h
#include "sort_candidates.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>

namespace pyhbt::cpu {
namespace {

constexpr int kDigitBits = 11;
constexpr uint32_t kDigits = 1u << kDigitBits;
constexpr size_t kFew = 128;  // comparisons are faster

struct Keyed {
  uint32_t key;  // rises as the score falls
  uint32_t at;
};

void pass(const std::vector<Keyed>& from, std::vector<Keyed>& to, int shift) {
  uint32_t starts[kDigits] = {};
  for (const Keyed& k : from) ++starts[(k.key >> shift) % kDigits];
  uint32_t sum = 0;
  for (uint32_t& start : starts) sum += std::exchange(start, sum);
  for (const Keyed& k : from) to[starts[(k.key >> shift) % kDigits]++] = k;
}

}  // namespace

void sort_candidates(std::vector<Candidate>& candidates) {
  double least = INFINITY, largest = -INFINITY;
  for (const Candidate& c : candidates) {
    least = std::min(least, c.score);
    largest = std::max(largest, c.score);
  }
  const double steps = (double{kDigits} * kDigits - 1) / (largest - least);
  if (candidates.size() < kFew || candidates.size() > UINT32_MAX || !std::isfinite(steps)) {
    std::sort(candidates.begin(), candidates.end(), ranks_before);
    return;
  }
  std::vector<Keyed> keys(candidates.size()), other(candidates.size());
  for (uint32_t at = 0; at < keys.size(); ++at)  // monotone: subtraction, product and cut all are
    keys[at] = {static_cast<uint32_t>((largest - candidates[at].score) * steps), at};
  pass(keys, other, 0);
  pass(other, keys, kDigitBits);
  std::vector<Candidate> sorted;
  sorted.reserve(candidates.size());
  for (const Keyed& k : keys) sorted.push_back(candidates[k.at]);
  for (size_t first = 0, last; first < keys.size(); first = last) {
    last = first + 1;
    while (last < keys.size() && keys[last].key == keys[first].key) ++last;
    const auto run = sorted.begin() + static_cast<std::ptrdiff_t>(first);
    if (last - first > 1) std::sort(run, run + static_cast<std::ptrdiff_t>(last - first), ranks_before);
  }
  candidates.swap(sorted);
}

}  // namespace pyhbt::cpu
