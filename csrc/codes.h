// The int8 form of a corpus, which exact search reads first: 1 byte a number instead of 4.
//   With centre m (dim,) and direction u (dim,), passage c is x = c - m (similarity "cosine": c / |c| - m)
//   and is stored as codes k (dim,) in -127..127 with inverse scale I: I x = k + r. All members are in units
//   of codes, so that nothing is said about the size of the data. docs/how-it-works/numerics.md has the proof
//   they serve.
#pragma once

#include <cstdint>

#include "embeddings.h"

namespace pyhbt {

constexpr int64_t kCodeAlignment = 64;  // rows of codes are padded with zeros to a multiple of this
constexpr int64_t kNibbleGroup = 64;    // bytes of nibbles: 128 numbers, one cache line

// static: compiled once per instruction set, so no copy may be shared.
static inline int64_t code_stride(int64_t dim) {
  return (dim + kCodeAlignment - 1) / kCodeAlignment * kCodeAlignment;
}

// Bytes of a row of nibbles; 0: so few numbers that nibbles save nothing.
static inline int64_t nibble_stride(int64_t dim) {
  return dim <= kNibbleGroup ? 0 : (dim + 2 * kNibbleGroup - 1) / (2 * kNibbleGroup) * kNibbleGroup;
}

// The coarse form that few queries read first: the level of number j is one of these, in units of a step that
// follows from code_norm. They are the best 16 for normal numbers (Lloyd and Max), rounded to 7 bits.
constexpr int kNibbleLevels[16] = {-63, -48, -37, -29, -22, -15, -9, -3, 3, 9, 15, 22, 29, 37, 48, 63};

// Rows may lie in memory or in a memory-mapped file. A row that int8 cannot serve (numbers beyond 2^60) has
// codes of zero and an infinite code_norm: no bound excludes it, so it is always scored exactly.
struct CorpusCodes {
  const int8_t* codes;         // (n, code_stride(dim))
  const float* inverse_scale;  // (n,) I
  const float* along;          // (n,) I (u . x)
  const float* code_norm;      // (n,) |k|, rounded up
  const float* residual_norm;  // (n,) |r|, rounded up, with the rounding of its own computation
  const int32_t* code_sum;     // (n,) sum of k
  const double* norm;          // (n,) |c| in the order of summation of scores
  const float* centre;         // (dim,)
  const float* direction;      // (dim,)
  // (n, nibble_stride(dim)) places in kNibbleLevels: byte 64 g + j holds number 128 g + j in its low half and
  // 128 g + 64 + j in its high half. Null: there are none.
  const uint8_t* nibbles;
  const float* nibble_residual;  // (n,) what first looks put in place of |r|; null likewise
};

// Where encode() writes: the same arrays, for the rows given.
struct CodesOut {
  int8_t* codes;
  float *inverse_scale, *along, *code_norm, *residual_norm;
  int32_t* code_sum;
  double* norm;
  uint8_t* nibbles;  // null: none are wanted
  float* nibble_residual;
};

// Encodes rows; any finite centre and direction will do, good ones make narrow bounds (the mean, and its
// direction). Throws std::invalid_argument on a row that is not finite, named as first_row + its position.
// Reads the rows once: memory-bound from some 100 dims on.
void encode(const Embeddings& rows, bool cosine, const float* centre, const float* direction,
            const CodesOut& out, int64_t first_row, int threads);

}  // namespace pyhbt
