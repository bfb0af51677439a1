// The inner loops of the CPU back end, one table of them per instruction set, chosen once at load.
//   A strip is strip lanes wide; packed matrices are [strip][row][lane], short last strips filled with zeros.
// The tables are filled by kernel_table.h, compiled once per instruction set (kernels_*.cpp); what each loop
// computes is said where it is defined.
#pragma once

#include <cstdint>

#include "../codes.h"

namespace pyhbt::cpu {

constexpr int64_t kMaxStrip = 32;

constexpr int64_t kDots = 4;        // pairs that are scored exactly side by side
constexpr int64_t kFewQueries = 4;  // up to here screening runs along the codes of a passage

// Bounds for one strip of queries: a float32 score is off by at most error[query] * norm[passage].
struct StripBounds {
  float error[kMaxStrip];
  float low[kMaxStrip];  // score + error below this: certainly under the threshold
};

// Codes of queries are t, of passages k. Where sums are chunked (code_products.h), no query has more than
// kMostLaneSum of |t| in one of them, at positions 4 i + 2 h and 4 i + 2 h + 1 for kChunkQuads consecutive i.
constexpr int64_t kChunkQuads = 5;
constexpr int64_t kMostLaneSum = 258;  // times 127 is below 2^15

// A strip of queries as codes t, J q' = t + e (docs/how-it-works/numerics.md).
struct CodedStrip {
  const uint8_t* bytes;        // [dim / query_group][lane][query_group] of t + query_offset
  const uint8_t* rows;         // (lanes, code_stride(dim)) of t + row_offset, for a few queries; or null
  const uint16_t* starts;      // [chunk][lane][2], where chunked_sums: -128 times the sum of t
  int64_t lanes;               // queries; lanes beyond them hold zeros
  float threshold[kMaxStrip];  // J times the least score wanted
  float along[kMaxStrip];      // J times the query's part along the direction
  float code_factor[kMaxStrip],
      residual_factor[kMaxStrip];  // the bound is the first times |k| plus the second times |r|
  // Of queries that are passages of the corpus themselves: what is wanted of a pair is the threshold or, if that
  // is less, pair_factor times what the passage wants plus pair_base.
  float pair_factor[kMaxStrip], pair_base[kMaxStrip];
};

// Passages first..first+rows of a corpus.
struct CodedTile {
  const CorpusCodes& corpus;
  int64_t dim, first, rows;
  const int8_t* copy;  // by begin_tile; or null
};

// A few queries as bytes t of their own scale J, for a first look at nibbles.
struct NibbleQueries {
  const int8_t* rows;  // (count, 2 nibble_stride(dim)) of t, zeros beyond dim
  int64_t count;
  float step;                // of levels, for a code_norm of 1
  int32_t sum[kFewQueries];  // of t
  float threshold[kFewQueries], along[kFewQueries], code_factor[kFewQueries],
      residual_factor[kFewQueries];  // as those of a CodedStrip
};

// One target of each query of a strip: below low a score is certainly below it, above high above it.
struct RankBounds {
  float low[kMaxStrip], high[kMaxStrip];
};

// From so many targets on, a score's place among them is counted once instead of at each.
constexpr int64_t kManyTargets = 16;

struct RankCounting {
  const RankBounds* bounds;  // (targets,) of rising thresholds in every lane
  int64_t targets;
  int32_t* counts;  // (targets, kMaxStrip) scores above each; of many targets, above it and no higher one
  const float* const* penalties;  // (rows,) kMaxStrip numbers to add to a row's scores, 0 or -inf; or null
};

struct RankHit {
  int16_t row, lane;
  int32_t target;
};

struct EncodedRow {
  bool served;  // false: not finite, or too large for int8
  float inverse_scale, along, code_square, residual_square;
  int32_t code_sum;
};

struct EncodedNibbles {
  float level_square, residual_square;
};

struct CpuKernels {
  const char* name;
  int64_t strip;        // lanes
  int64_t micro_rows;   // rows of A that are multiplied at once
  int64_t depth_block;  // depth of a strip that stays in the first cache

  // tile_kernels.h: C (rows, strip) (+)= A B, B (depth, strip) contiguous.
  void (*multiply_rows)(const float* a, int64_t a_stride, int64_t rows, const float* b, int64_t depth,
                        float* c, int64_t c_stride, bool accumulate);
  void (*multiply_strips)(const float* a, int64_t strip_stride, int64_t rows, const float* b, int64_t depth,
                          float* c, int64_t c_stride, int64_t columns, bool accumulate);
  void (*multiply_transposed)(const float* a, const float* b, int64_t depth, float* c, bool accumulate);
  void (*transpose_strip)(const float* x, int64_t x_stride, int64_t rows, int64_t dim, int64_t depth,
                          float factor, float* out);

  // softmax_kernels.h: x (rows, strip), passages by queries, scores as exponents of two.
  void (*query_statistics)(float* x, int64_t rows, const float* limit, float* max, float* sum);
  void (*passage_statistics)(const float* x, int64_t strip_stride, int64_t strips, int64_t rows, float* max,
                             float* sum);
  void (*softmax_gradient)(float* x, int64_t rows, const float* query_max, const float* query_weight,
                           const float* passage_max, const float* passage_weight);

  // half_kernels.h: float16 and bfloat16 numbers, exactly.
  void (*widen_float16)(const uint16_t* bits, int64_t count, float* out);
  void (*widen_bfloat16)(const uint16_t* bits, int64_t count, float* out);

  // screen_kernels.h.
  // Sum over i of a[i] * b[i], whose products are exact: eight interleaved lanes,
  // then ((0+1)+(2+3))+((4+5)+(6+7)).
  double (*dot)(const float* a, const float* b, int64_t dim);
  void (*dots)(const float* const* a, const float* const* b, int64_t dim, double* out);
  // The same of kDots rows of floats with one of doubles that are floats.
  void (*dots_of_row)(const float* const* a, const double* b, int64_t dim, double* out);
  void (*widen_doubles)(const float* x, int64_t count, double* out);
  void (*upper_quantiles)(const float* tile, int64_t rows, int64_t lanes, int64_t rank, float* out);
  // Positions r * strip + lane in tile (rows, strip) whose score is not certainly under low[lane]; written to
  // hits, the number of them is returned.
  int64_t (*screen)(const float* tile, int64_t rows, const float* norms, const StripBounds& bounds,
                    int32_t* hits);
  // Counts the rows certainly above each target, and lists the undecided ones.
  int64_t (*screen_and_count)(const float* tile, int64_t rows, const float* norms, const float* errors,
                              const RankCounting& counting, RankHit* hits);

  // code_kernels.h: hits are positions r * strip + lane.
  bool fast_codes;       // products of codes are faster than those of floats
  bool chunked_sums;     // products are summed in int16 over chunks, of copies that begin_tile makes
  int32_t query_limit;   // largest code of a query
  int32_t query_group;   // codes of a query that lie together in a strip
  int32_t query_offset;  // bytes of strips are code + query_offset; 0: signed
  int32_t row_offset;    // the same of rows of queries
  // Where chunked_sums: copies the passages of a tile to out (rows, code_stride(dim)).
  void (*begin_tile)(const CorpusCodes& corpus, int64_t dim, int64_t first, int64_t rows, int8_t* out);
  int64_t (*screen_codes)(const CodedTile& tile, const CodedStrip& strip, int32_t* hits);
  // wanted (rows,): what each passage of the tile wants.
  int64_t (*screen_pairs)(const CodedTile& tile, const CodedStrip& strip, const float* wanted, int32_t* hits);
  int64_t (*scan_codes)(const CodedTile& tile, const CodedStrip& strip, int32_t* hits);
  void (*estimate_codes)(const CodedTile& tile, const CodedStrip& strip, float* out);
  int64_t (*count_codes)(const CodedTile& tile, const CodedStrip& strip, const RankCounting& counting,
                         RankHit* hits);
  int32_t (*dot_codes)(const int16_t* query, const int8_t* codes, int64_t stride);
  // encode_kernels.h.
  EncodedRow (*encode_row)(const float* row, double factor, const float* centre, const float* direction,
                           int64_t dim, float* x, int8_t* codes);

  // nibble_kernels.h: hits as above.
  int64_t (*scan_nibbles)(const CodedTile& tile, const NibbleQueries& queries, int32_t* hits);
  int64_t (*check_hits)(const CodedTile& tile, const CodedStrip& strip, float most_residual, int32_t* hits,
                        int64_t count);
  EncodedNibbles (*encode_nibbles)(const float* x, float inverse_scale, float step, int64_t dim,
                                   uint8_t* places, uint8_t* nibbles);

  // Runs iterations of independent multiply-adds in registers and returns the flops done;
  // checksum keeps them alive.
  double (*fma_probe)(int64_t iterations, float* checksum);
};

}  // namespace pyhbt::cpu
