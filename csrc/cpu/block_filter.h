// A filter as the queries of a block meet it on their walk, tile after tile of ascending passages.
#pragma once

#include <cstdint>
#include <vector>

#include "filter.h"
#include "walk.h"

namespace pyhbt::cpu {

class BlockFilter {
 public:
  // searched: the partitions that any of the queries searches; one_pool: each of them searches all of these.
  BlockFilter(const Filter& filter, const std::vector<int64_t>& queries, const std::vector<int32_t>& searched,
              bool one_pool)
      : filter_(filter), one_pool_(one_pool), queries_(static_cast<int64_t>(queries.size())) {
    if (filter.excluded_per_query() > 0)
      for (const int64_t query : queries) excluded_.push_back(filter.excluded_of(query));
    if (!filter.pooled()) return;
    places_.assign(static_cast<size_t>(filter.num_partitions()), -1);
    for (size_t place = 0; place < searched.size(); ++place)
      places_[static_cast<size_t>(searched[place])] = static_cast<int32_t>(place);
    if (one_pool) return;
    table_.resize(searched.size() * queries.size());
    for (size_t q = 0; q < queries.size(); ++q)
      for (const int32_t partition : filter.partitions_of(queries[q]))
        table_[static_cast<size_t>(place_of(partition) * queries_) + q] = 1;
  }

  void begin(const PassageTile& tile) {
    // A list holds passages of the pool, or of one of the pools.
    rows_ = filter_.pooled() && !(one_pool_ && tile.listed != nullptr) ? tile.rows : 0;
    for (int64_t r = 0; r < rows_; ++r) {
      const int32_t partition = filter_.partition(tile.passage(r));
      row_places_[r] = partition < 0 ? -1 : place_of(partition);
    }
  }

  // Of the tile begun last, as many as have a place; 0: all queries may find all of them.
  int64_t rows() const { return rows_; }
  // The place of a row's partition among those searched; -1: nobody searches there.
  int32_t place(int64_t row) const { return row_places_[row]; }
  int32_t place_of(int32_t partition) const { return places_[static_cast<size_t>(partition)]; }
  bool one_pool() const { return one_pool_; }

  // query: its place in the block.
  bool in_pool(int64_t query, int64_t row) const {
    if (rows_ == 0) return true;
    const int32_t where = row_places_[row];
    return where >= 0 && (one_pool_ || table_[static_cast<size_t>(where * queries_ + query)] != 0);
  }

  // Passages of a query must come in ascending order.
  bool excluded(int64_t query, int64_t passage) {
    if (excluded_.empty()) return false;
    Excluded& left = excluded_[static_cast<size_t>(query)];
    int64_t step = 1;
    for (; left.last - left.first > step && left.first[step] < passage; step *= 2) left.first += step;
    left.first = std::lower_bound(left.first, std::min(left.last, left.first + step + 1), passage);
    return left.first != left.last && *left.first == passage;
  }

 private:
  const Filter& filter_;
  bool one_pool_;
  int64_t queries_, rows_ = 0;
  std::vector<int32_t> places_;     // of each partition of the filter
  std::vector<uint8_t> table_;      // (searched, queries)
  std::vector<Excluded> excluded_;  // of each query, what is not behind it
  int32_t row_places_[kTilePassages];
};

}  // namespace pyhbt::cpu
