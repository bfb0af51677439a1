// The table of inner loops of one instruction set; include after the definitions that simd.h and
// tile_kernels.h ask for.
#include "code_kernels.h"
#include "encode_kernels.h"
#include "half_kernels.h"
#include "nibble_kernels.h"
#include "screen_kernels.h"
#include "softmax_kernels.h"
#include "tile_kernels.h"

namespace pyhbt::cpu::PYHBT_ISA {

CpuKernels table(const char* name) {
  CpuKernels loops{};
  loops.name = name;
  loops.strip = kStrip;
  loops.micro_rows = kMicroRows;
  loops.depth_block = kDepthBlock;

  loops.multiply_rows = multiply_rows;
  loops.multiply_strips = multiply_strips;
  loops.multiply_transposed = multiply_transposed;
  loops.transpose_strip = transpose_strip;

  loops.query_statistics = query_statistics;
  loops.passage_statistics = passage_statistics;
  loops.softmax_gradient = softmax_gradient;

  loops.widen_float16 = widen_float16;
  loops.widen_bfloat16 = widen_bfloat16;

  loops.dot = dot;
  loops.dots = dots;
  loops.dots_of_row = dots_of_row;
  loops.widen_doubles = widen_doubles;
  loops.upper_quantiles = upper_quantiles;
  loops.screen = screen;
  loops.screen_and_count = screen_and_count;

  loops.fast_codes = kFastCodes;
  loops.chunked_sums = kChunkedSums;
  loops.query_limit = kQueryLimit;
  loops.query_group = kQueryGroup;
  loops.query_offset = kStripOffset;
  loops.row_offset = kRowOffset;
  loops.begin_tile = begin_tile;
  loops.screen_codes = screen_codes;
  loops.screen_pairs = screen_pairs;
  loops.scan_codes = scan_codes;
  loops.estimate_codes = estimate_codes;
  loops.count_codes = count_codes;
  loops.dot_codes = dot_codes;
  loops.encode_row = encode_row;

  loops.scan_nibbles = scan_nibbles;
  loops.check_hits = check_hits;
  loops.encode_nibbles = encode_nibbles;

  loops.fma_probe = fma_probe;
  return loops;
}

}  // namespace pyhbt::cpu::PYHBT_ISA
