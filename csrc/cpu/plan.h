// Which queries walk together, and over which passages, so that a filter costs in proportion to what it allows.
#pragma once

#include <cstdint>
#include <vector>

#include "filter.h"
#include "pools.h"
#include "screen.h"

namespace pyhbt::cpu {

// Queries that walk over the passages that any of them may find.
struct QueryBlock {
  int64_t start, end;  // in the order of the plan
  bool one_pool;       // each of them may find all these passages, but for those excluded one by one
  bool exact;          // each may find so few that all are scored, its own for every query
};

class Plan {
 public:
  // Queries of the same pool come side by side. Pools are walked together where that costs less than one after the
  // other: their queries fill a strip, their passages are largely the same.
  Plan(const Call& call, const Filter& filter, const Pools& pools, const std::vector<int64_t>& queries);

  // Cuts blocks, and parts of their walks where there are fewer blocks than threads. Once it is known how to screen.
  void cut(const Call& call);

  const std::vector<int64_t>& order() const { return order_; }
  const std::vector<QueryBlock>& blocks() const { return blocks_; }
  int64_t parts() const { return parts_; }
  std::vector<int64_t> queries(const QueryBlock& block) const {
    return {order_.begin() + block.start, order_.begin() + block.end};
  }
  // The partitions that any of these queries searches.
  std::vector<int32_t> partitions(const std::vector<int64_t>& queries) const;
  Walk walk(const Partitions& partitions, std::vector<int64_t>& memory) const {
    return pools_.walk(partitions, memory);
  }

  // The queries that walk over most passages together, and how many those are; 0: nothing is screened.
  QueryBlock largest() const;
  int64_t most_passages() const;

 private:
  // Blocks before they are cut.
  struct Run {
    QueryBlock queries;
    int64_t passages;
    std::vector<int32_t> partitions;
  };
  void join(std::vector<Run>& runs, int64_t dim) const;

  const Filter& filter_;
  const Pools& pools_;
  std::vector<int64_t> order_;
  std::vector<Run> runs_;
  std::vector<QueryBlock> blocks_;
  int64_t parts_ = 1;
};

}  // namespace pyhbt::cpu
