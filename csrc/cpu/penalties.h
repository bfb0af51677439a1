// What rank counting adds to the scores of passages that queries of a block may not find: -infinity.
#pragma once

#include <cstdint>
#include <limits>
#include <vector>

#include "block_filter.h"
#include "kernels.h"

namespace pyhbt::cpu {

class Penalties {
 public:
  Penalties(const Filter& filter, const std::vector<int64_t>& queries, const std::vector<int32_t>& searched,
            const BlockFilter& block, int64_t width)
      : block_(block), partitions_(static_cast<int64_t>(searched.size())) {
    if (!filter.pooled()) return;
    closed_.assign(static_cast<size_t>(kMaxStrip), -std::numeric_limits<float>::infinity());
    if (block.one_pool()) return;
    const int64_t count = static_cast<int64_t>(queries.size()), strips = (count + width - 1) / width;
    table_.assign(static_cast<size_t>(strips * partitions_ * kMaxStrip), closed_[0]);
    for (int64_t q = 0; q < count; ++q)
      for (const int32_t partition : filter.partitions_of(queries[static_cast<size_t>(q)]))
        table_[static_cast<size_t>((q / width * partitions_ + block.place_of(partition)) * kMaxStrip +
                                   q % width)] = 0;
  }

  // For each row of the tile that the block's filter began last kMaxStrip numbers, or null where they are 0; null:
  // they all are.
  const float* const* of(int64_t strip) {
    for (int64_t r = 0; r < block_.rows(); ++r)
      rows_[r] = block_.place(r) < 0 ? closed_.data()
                 : block_.one_pool() ? nullptr
                                     : table_.data() + (strip * partitions_ + block_.place(r)) * kMaxStrip;
    return block_.rows() > 0 ? rows_ : nullptr;
  }

 private:
  const BlockFilter& block_;
  int64_t partitions_;
  std::vector<float> closed_, table_;  // (strips, partitions, kMaxStrip)
  const float* rows_[kTilePassages];
};

}  // namespace pyhbt::cpu
