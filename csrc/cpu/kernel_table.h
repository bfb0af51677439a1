// The table of inner loops of one instruction set; include after the definitions that simd.h and
// tile_kernels.h ask for.
#include "code_kernels.h"
#include "half_kernels.h"
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
          widen_float16,
          widen_bfloat16,
          dot,
          dots,
          upper_quantiles,
          screen,
          screen_and_count,
          kFastCodes,
          kQueryLimit,
          screen_codes,
          scan_codes,
          estimate_codes,
          count_codes,
          dot_codes,
          encode_row,
          fma_probe};
}

}  // namespace pyhbt::cpu::PYHBT_ISA
