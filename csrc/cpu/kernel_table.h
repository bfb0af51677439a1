// The table of inner loops of one instruction set; include after the definitions that simd.h and
// tile_kernels.h ask for.
#include "screen_kernels.h"
#include "softmax_kernels.h"
#include "tile_kernels.h"

namespace pyhbt::cpu::PYHBT_ISA {

CpuKernels table(const char* name) {
  return {name,
          kStrip,
          kTileRows,
          kDepthBlock,
          multiply_rows,
          multiply_strips,
          multiply_transposed,
          transpose_strip,
          query_statistics,
          passage_statistics,
          softmax_gradient,
          dot,
          dot_floats,
          screen,
          screen_and_count,
          fma_probe};
}

}  // namespace pyhbt::cpu::PYHBT_ISA
