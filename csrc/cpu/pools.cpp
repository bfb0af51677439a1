// Inverted lists: pools.h.
#include "pools.h"

namespace pyhbt::cpu {

Pools::Pools(const Filter& filter, int64_t num_passages) : num_passages_(num_passages) {
  if (!filter.pooled()) return;
  if (filter.num_partitions() == 1) {
    passages_.resize(static_cast<size_t>(num_passages + 1));
    int64_t count = 0;
    for (int64_t passage = 0; passage < num_passages; ++passage) {
      passages_[static_cast<size_t>(count)] = passage;
      count += filter.partition(passage) + 1;
    }
    starts_ = {0, count};
    return;
  }
  // What no query may find is counted first and written, again and again, to a place at the end: there is no branch
  // that a scattered filter would make hard to guess. By and by a partition's next place becomes its end.
  std::vector<int64_t> next(static_cast<size_t>(filter.num_partitions() + 1));
  for (int64_t passage = 0; passage < num_passages; ++passage)
    ++next[static_cast<size_t>(filter.partition(passage) + 1)];
  next[0] = 0;
  for (size_t p = 1; p < next.size(); ++p) next[p] += next[p - 1];
  starts_ = next;
  std::rotate(next.begin(), next.end() - 1, next.end());
  passages_.resize(static_cast<size_t>(starts_.back() + 1));
  for (int64_t passage = 0; passage < num_passages; ++passage) {
    const int32_t partition = filter.partition(passage);
    int64_t& place = next[static_cast<size_t>(partition + 1)];
    passages_[static_cast<size_t>(place)] = passage;
    place += partition >= 0;
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
  for (const int32_t partition : partitions) {
    const Walk own = of(partition);
    memory.insert(memory.end(), own.listed + own.first, own.listed + own.last);
  }
  constexpr int64_t kManyOf = 1024;  // one in so many passages is sorted sooner by a bit for each of all
  if (size <= num_passages_ / kManyOf) {
    std::sort(memory.begin(), memory.end());
    return {0, size, memory.data()};
  }
  std::vector<uint64_t> bits(static_cast<size_t>(num_passages_ / 64 + 1));
  for (const int64_t passage : memory) bits[static_cast<size_t>(passage / 64)] |= uint64_t{1} << passage % 64;
  size_t at = 0;
  for (size_t word = 0; word < bits.size(); ++word)
    for (uint64_t left = bits[word]; left != 0; left &= left - 1)
      memory[at++] = static_cast<int64_t>(word) * 64 + __builtin_ctzll(left);
  return {0, size, memory.data()};
}

}  // namespace pyhbt::cpu
