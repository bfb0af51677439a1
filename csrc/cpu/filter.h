// A filter as the scans use it: whole tiles are skipped where no query of a block may find anything.
#pragma once

#include <cstdint>
#include <vector>

#include "../search.h"

namespace pyhbt::cpu {

class Filter {
 public:
  explicit Filter(const SearchFilter& filter) : f_(filter) {}

  bool active() const { return pooled() || f_.excluded_per_query > 0; }
  // Without regard to passages excluded one by one.
  bool pooled() const { return f_.allowed != nullptr || f_.passage_partitions != nullptr; }
  bool in_pool(int64_t query, int64_t passage) const {
    if (f_.allowed != nullptr && f_.allowed[passage] == 0) return false;
    return f_.passage_partitions == nullptr ||
           f_.pools[query * f_.num_partitions + f_.passage_partitions[passage]] != 0;
  }
  bool excluded(int64_t query, int64_t passage) const {
    for (int64_t i = 0; i < f_.excluded_per_query; ++i)
      if (f_.excluded[query * f_.excluded_per_query + i] == passage) return true;
    return false;
  }
  bool accepts(int64_t query, int64_t passage) const {
    return in_pool(query, passage) && !excluded(query, passage);
  }

  // Queries with the same pool side by side, so that blocks of them can skip tiles.
  void order_by_pool(std::vector<int64_t>& queries) const;

  // The partitions that any of these queries searches.
  std::vector<uint8_t> union_of_pools(const std::vector<int64_t>& queries) const;
  bool any_in(const std::vector<uint8_t>& pool, int64_t first, int64_t rows) const;

  int64_t partition(int64_t passage) const {
    return f_.passage_partitions == nullptr ? 0 : f_.passage_partitions[passage];
  }
  const SearchFilter& parts() const { return f_; }

 private:
  SearchFilter f_;
};

}  // namespace pyhbt::cpu
