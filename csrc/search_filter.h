// Which passages a query may find, for search and ranks on every device.
#pragma once

#include <cstdint>

namespace pyhbt {

// Every part may be absent. A passage lies in one partition, its language say; a query searches some. Rows of
// queries are sorted, so that a passage is looked up by bisection.
struct SearchFilter {
  const uint8_t* allowed = nullptr;  // (n,) 0: no query finds it
  // (n,) in -1..num_partitions-1, -1: no query searches where it lies
  const int32_t* passage_partitions = nullptr;
  int64_t num_partitions = 0;
  // (nq, partitions_per_query) those that a query searches, ascending and different; before them -1: none
  const int32_t* query_partitions = nullptr;
  int64_t partitions_per_query = 0;
  // (nq, excluded_per_query) passages, ascending; before them -1: none
  const int64_t* excluded = nullptr;
  int64_t excluded_per_query = 0;
};

}  // namespace pyhbt
