// How the contrastive loss cuts its work and lays out its matrices. Nothing here depends on the number of
// threads, so neither do results.
//   Queries come in panels of whole strips; passages in blocks, the tasks of a team. Scores of a panel are
//   [strip][passage][lane], packed passages [strip of dim][passage][lane].
#pragma once

#include <cstdint>

#include "../contrastive.h"
#include "dispatch.h"

namespace pyhbt::cpu {

struct ContrastiveLayout {
  ContrastiveLayout(const ContrastiveArguments& arguments, const CpuKernels& kernel);

  int64_t strip;         // lanes
  int64_t dim_strips;    // dim rounded up to whole strips
  int64_t query_strips;  // all queries
  int64_t panel_strips;  // of one panel
  int64_t num_panels;
  int64_t block_passages;  // of one block
  int64_t num_blocks;
  int64_t padded_passages;  // whole micro-tiles
  int64_t strip_stride;     // floats from one strip of scores, or of packed passages, to the next
  int64_t score_strips;     // strips of scores held at a time: a panel, or all of them when retained

  int64_t depth() const { return dim_strips * strip; }
  int64_t panel_lanes() const { return panel_strips * strip; }
  bool retained() const { return score_strips == query_strips; }
};

}  // namespace pyhbt::cpu
