// Blocks of queries against pools: filter.h.
#include "filter.h"

#include <algorithm>
#include <cstring>

namespace pyhbt::cpu {

void Filter::order_by_pool(std::vector<int64_t>& queries) const {
  if (f_.passage_partitions == nullptr) return;
  const auto pool_before = [&](int64_t a, int64_t b) {
    return std::memcmp(f_.pools + a * f_.num_partitions, f_.pools + b * f_.num_partitions,
                       static_cast<size_t>(f_.num_partitions)) < 0;
  };
  std::stable_sort(queries.begin(), queries.end(), pool_before);
}

std::vector<uint8_t> Filter::union_of_pools(const std::vector<int64_t>& queries) const {
  std::vector<uint8_t> pool(static_cast<size_t>(f_.passage_partitions == nullptr ? 0 : f_.num_partitions));
  for (const int64_t query : queries)
    for (size_t partition = 0; partition < pool.size(); ++partition)
      pool[partition] |= f_.pools[static_cast<size_t>(query * f_.num_partitions) + partition];
  return pool;
}

bool Filter::any_in(const std::vector<uint8_t>& pool, int64_t first, int64_t rows) const {
  if (!pooled()) return true;
  for (int64_t passage = first; passage < first + rows; ++passage) {
    if (f_.allowed != nullptr && f_.allowed[passage] == 0) continue;
    if (pool.empty() || pool[static_cast<size_t>(f_.passage_partitions[passage])] != 0) return true;
  }
  return false;
}

}  // namespace pyhbt::cpu
