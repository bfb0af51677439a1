// Sorting by ranks_before, without a misprediction for every second comparison.
#pragma once

#include <vector>

#include "../tile_math.h"

namespace pyhbt::cpu {

// O(n) for finite scores that are spread out: two passes of a radix sort on the place of a score between the
// least and the largest, and comparisons where places coincide.
void sort_candidates(std::vector<Candidate>& candidates);

}  // namespace pyhbt::cpu
