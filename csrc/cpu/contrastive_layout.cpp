// Sizes of contrastive_layout.h.
#include "contrastive_layout.h"

#include <algorithm>

#include "buffer.h"

namespace pyhbt::cpu {
namespace {

constexpr int64_t kPanelQueries = 264;

}  // namespace

ContrastiveLayout::ContrastiveLayout(const ContrastiveArguments& a, const CpuKernels& kernel)
    : strip(kernel.strip),
      dim_strips(ceil_div(a.queries.dim, strip)),
      query_strips(ceil_div(a.queries.rows, strip)) {
  const int64_t most = std::max<int64_t>(1, kPanelQueries / strip);
  panel_strips = ceil_div(query_strips, ceil_div(query_strips, most));  // equal panels
  num_panels = ceil_div(query_strips, panel_strips);
  padded_passages = round_up(a.passages.rows, kernel.micro_rows);
  // Blocks small enough that every thread gets several, large enough that packed queries are reused.
  block_passages = padded_passages <= 512 ? 32 : 64;
  num_blocks = ceil_div(padded_passages, block_passages);
  strip_stride = padded_passages * strip;
  const bool keep = a.symmetric && query_strips * strip_stride <= a.retained_scores;
  score_strips = keep ? query_strips : panel_strips;
}

}  // namespace pyhbt::cpu
