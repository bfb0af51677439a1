// Which pairs of query and passage a filter accepts.
#pragma once

#include <algorithm>
#include <cstdint>

#include "../search_filter.h"

namespace pyhbt::cpu {

// Numbers of partitions, ascending and different.
struct Partitions {
  const int32_t* first;
  const int32_t* last;

  const int32_t* begin() const { return first; }
  const int32_t* end() const { return last; }
  int64_t size() const { return last - first; }
  bool operator==(const Partitions& other) const { return std::equal(first, last, other.first, other.last); }
  bool operator<(const Partitions& other) const {
    return std::lexicographical_compare(first, last, other.first, other.last);
  }
};

struct Excluded {
  const int64_t* first;
  const int64_t* last;

  const int64_t* begin() const { return first; }
  const int64_t* end() const { return last; }
};

class Filter {
 public:
  explicit Filter(const SearchFilter& filter) : f_(filter) {}

  bool active() const { return pooled() || f_.excluded_per_query > 0; }
  // Without regard to passages excluded one by one.
  bool pooled() const { return f_.allowed != nullptr || f_.passage_partitions != nullptr; }
  bool in_pool(int64_t query, int64_t passage) const {
    if (!pooled()) return true;
    const int32_t where = partition(passage);
    const Partitions searched = partitions_of(query);
    return where >= 0 && std::binary_search(searched.first, searched.last, where);
  }
  bool excluded(int64_t query, int64_t passage) const {
    const Excluded row = excluded_of(query);
    return std::binary_search(row.first, row.last, passage);
  }
  bool accepts(int64_t query, int64_t passage) const {
    return in_pool(query, passage) && !excluded(query, passage);
  }

  // A filter without partitions has one of all passages.
  int64_t num_partitions() const { return f_.passage_partitions == nullptr ? 1 : f_.num_partitions; }
  // -1: no query finds the passage.
  int32_t partition(int64_t passage) const {
    const int32_t found = f_.passage_partitions == nullptr ? 0 : f_.passage_partitions[passage];
    // All bits set, without a branch that a scattered mask would make hard to guess.
    return f_.allowed == nullptr ? found : found | -static_cast<int32_t>(f_.allowed[passage] == 0);
  }
  Partitions partitions_of(int64_t query) const {
    static constexpr int32_t kAll[] = {0};
    if (f_.passage_partitions == nullptr) return {kAll, kAll + 1};
    const int32_t* row = f_.query_partitions + query * f_.partitions_per_query;
    const int32_t* end = row + f_.partitions_per_query;
    return {std::lower_bound(row, end, 0), end};
  }

  int64_t excluded_per_query() const { return f_.excluded_per_query; }
  // Ascending; before them there may be -1, and some may be named again.
  Excluded excluded_of(int64_t query) const {
    const int64_t* row = f_.excluded + query * f_.excluded_per_query;
    return {row, row + f_.excluded_per_query};
  }

 private:
  SearchFilter f_;
};

}  // namespace pyhbt::cpu
