// Inverted lists: pools.h.
#include "pools.h"

namespace pyhbt::cpu {

Pools::Pools(const Filter& filter, int64_t num_passages) : num_passages_(num_passages), filter_(filter) {
  if (!filter.pooled()) return;
  // The first count is of passages that no query may find; by and by starts_[p + 1] becomes the end of partition p.
  std::vector<int64_t> counts(static_cast<size_t>(filter.num_partitions() + 1));
  for (int64_t passage = 0; passage < num_passages; ++passage)
    ++counts[static_cast<size_t>(filter.partition(passage) + 1)];
  counts[0] = 0;
  for (size_t p = 1; p < counts.size(); ++p) counts[p] += counts[p - 1];
  starts_ = counts;
  passages_.resize(static_cast<size_t>(counts.back()));
  for (int64_t passage = 0; passage < num_passages; ++passage) {
    const int32_t partition = filter.partition(passage);
    if (partition >= 0) passages_[static_cast<size_t>(counts[static_cast<size_t>(partition)]++)] = passage;
  }
}

Walk Pools::of(int32_t partition) const {
  const size_t at = static_cast<size_t>(partition);
  return {starts_[at], starts_[at + 1], passages_.data()};
}

int64_t Pools::size_of(const Partitions& partitions) const {
  if (!listed()) return num_passages_;
  int64_t size = 0;
  for (const int32_t partition : partitions) size += of(partition).size();
  return size;
}

Walk Pools::walk(const Partitions& partitions, std::vector<int64_t>& memory) const {
  if (!listed()) return {0, num_passages_};
  if (partitions.size() == 1) return of(*partitions.first);
  const int64_t size = size_of(partitions);
  memory.clear();
  memory.reserve(static_cast<size_t>(size));
  constexpr int64_t kManyOf = 16;  // one in so many passages is found sooner among all than sorted
  if (size > num_passages_ / kManyOf) {
    std::vector<uint8_t> searched(static_cast<size_t>(filter_.num_partitions() + 1));
    for (const int32_t partition : partitions) searched[static_cast<size_t>(partition + 1)] = 1;
    for (int64_t passage = 0; passage < num_passages_; ++passage)
      if (searched[static_cast<size_t>(filter_.partition(passage) + 1)] != 0) memory.push_back(passage);
  } else {
    for (const int32_t partition : partitions) {
      const Walk own = of(partition);
      memory.insert(memory.end(), own.listed + own.first, own.listed + own.last);
    }
    std::sort(memory.begin(), memory.end());
  }
  return {0, size, memory.data()};
}

}  // namespace pyhbt::cpu
