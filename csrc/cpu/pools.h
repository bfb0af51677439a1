// The passages of each partition, and from them those that queries may find.
#pragma once

#include <cstdint>
#include <vector>

#include "filter.h"
#include "walk.h"

namespace pyhbt::cpu {

class Pools {
 public:
  // O(num_passages); memory 8 bytes for each passage that some query may find. A filter without pools: all passages.
  Pools(const Filter& filter, int64_t num_passages);

  // Whether the filter has any.
  bool listed() const { return !starts_.empty(); }
  int64_t size_of(const Partitions& partitions) const;
  // All passages of these partitions in ascending order; several are brought together in memory.
  Walk walk(const Partitions& partitions, std::vector<int64_t>& memory) const;

 private:
  Walk of(int32_t partition) const;

  int64_t num_passages_;
  std::vector<int64_t> starts_;    // (num_partitions + 1,)
  std::vector<int64_t> passages_;  // partition by partition, ascending in each; one place more
};

}  // namespace pyhbt::cpu
