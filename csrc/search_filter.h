// Which passages a query may find, for search and ranks on every device.
#pragma once

#include <cstdint>

namespace pyhbt {

// Every part may be absent. A passage lies in one partition, its language say; a query searches some.
struct SearchFilter {
  const uint8_t* allowed = nullptr;             // (n,) 0: no query finds it
  const int32_t* passage_partitions = nullptr;  // (n,) in 0..num_partitions-1
  const uint8_t* pools = nullptr;  // (nq, num_partitions) not 0: the query searches this partition
  int64_t num_partitions = 0;
  const int64_t* excluded = nullptr;  // (nq, excluded_per_query) passages, -1: none
  int64_t excluded_per_query = 0;
};

}  // namespace pyhbt
