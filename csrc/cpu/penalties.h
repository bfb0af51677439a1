// What rank counting adds to the scores of passages that queries of a block may not find: -infinity.
#pragma once

#include <cstdint>
#include <vector>

#include "filter.h"
#include "kernels.h"
#include "plan.h"
#include "walk.h"

namespace pyhbt::cpu {

class Penalties {
 public:
  // searched: the partitions that any of the queries searches; one_pool: each of them searches all of these.
  Penalties(const Filter& filter, const std::vector<int64_t>& queries, const std::vector<int32_t>& searched,
            bool one_pool)
      : filter_(filter), one_pool_(one_pool), partitions_(static_cast<int64_t>(searched.size())) {
    if (!filter.pooled()) return;
    closed_.assign(static_cast<size_t>(kMaxStrip), -std::numeric_limits<float>::infinity());
    places_.assign(static_cast<size_t>(filter.num_partitions()), -1);
    for (size_t place = 0; place < searched.size(); ++place)
      places_[static_cast<size_t>(searched[place])] = static_cast<int32_t>(place);
    if (one_pool) return;
    const int64_t width = kernels().strip, strips = ceil_div(static_cast<int64_t>(queries.size()), width);
    table_.assign(static_cast<size_t>(strips * partitions_ * kMaxStrip), closed_[0]);
    for (size_t q = 0; q < queries.size(); ++q) {
      const int64_t strip = static_cast<int64_t>(q) / width, lane = static_cast<int64_t>(q) % width;
      for (const int32_t partition : filter.partitions_of(queries[q]))
        table_[static_cast<size_t>(
            (strip * partitions_ + places_[static_cast<size_t>(partition)]) * kMaxStrip + lane)] = 0;
    }
  }

  void begin(const PassageTile& tile) {
    rows_ = filter_.pooled() && !(one_pool_ && tile.listed != nullptr) ? tile.rows : 0;
    for (int64_t r = 0; r < rows_; ++r) {
      const int32_t partition = filter_.partition(tile.passage(r));
      row_places_[r] = partition < 0 ? -1 : places_[static_cast<size_t>(partition)];
    }
  }

  // For each row of the tile begun last kMaxStrip numbers, or null where they are 0; null: they all are.
  const float* const* of(int64_t strip) {
    for (int64_t r = 0; r < rows_; ++r)
      pointers_[r] = row_places_[r] < 0 ? closed_.data()
                     : one_pool_        ? nullptr
                                        : table_.data() + (strip * partitions_ + row_places_[r]) * kMaxStrip;
    return rows_ > 0 ? pointers_ : nullptr;
  }

 private:
  const Filter& filter_;
  bool one_pool_;
  int64_t partitions_, rows_ = 0;
  std::vector<float> closed_, table_;  // (strips, partitions, kMaxStrip)
  std::vector<int32_t> places_;        // of each partition of the filter in the table; -1: nobody searches it
  int32_t row_places_[kTilePassages];
  const float* pointers_[kTilePassages];
};

}  // namespace pyhbt::cpu
