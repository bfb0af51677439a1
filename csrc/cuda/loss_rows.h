// What the contrastive loss does by row and by column around its panels (contrastive.h), a launch each where torch
// would take dozens: positives' scores, losses, what gradients of scores are made of, and the ends of gradients.
//   n queries, m passages; vectors are float64 unless they enter panels. Launches are asynchronous, allocate
//   nothing and give the same bits every time.
#pragma once

#include "../embeddings.h"
#include "language.h"

namespace pyhbt::cuda {

// Rows without a positive have a loss of 0 and no gradient, whatever their query holds.
struct LossRows {
  int64_t rows, columns;     // n, m
  const int64_t* positives;  // (n,) -1: the row takes no part. Beyond m: its loss is NaN, and nothing is read
  const int64_t* query_groups;    // (n,) or nullptr
  const int64_t* passage_groups;  // (m,)
  const float* row_weights;       // (n,)
  double temperature;             // where temperature_at is nullptr
  const double* temperature_at;   // (1,) on the device, which nobody has looked at: a bad one makes all NaN
  double margin;                  // of the similarity; infinite: none
  double share;                   // of this direction in the loss: 1, or 0.5 where it is symmetric

  unsigned*
      refused;  // (2,) zero before; set by start_rows: a positive is below -1 or no passage, the temperature bad
  double* scores;        // (n,) of the positives
  double* logsumexp;     // (n,) of the negatives, filled in by panels
  double* losses;        // (n,)
  float* row_factor;     // (n,) 1 / temperature, by the norm for cosine
  float* column_factor;  // (m,) 1 / max(norm, 1e-12), norms in float64: the similarity is cosine; or nullptr
  float* limit;          // (n,) beyond which a score is no negative, or nullptr
  float* reference;      // (n,) a negative of score s has the gradient weight exp(s - reference)
  float* weight;         // (n,)
  float* own;            // (n,) the gradient of the positive's score
};

// Fills in scores, factors and limit; reads the queries and their positives once, and for cosine all passages.
void start_rows(const Embeddings& queries, const Embeddings& passages, const LossRows& rows,
                cudaStream_t stream);

// Rows first..last: losses, reference, weight and own, from scores and logsumexp.
void solve_rows(const LossRows& rows, int64_t first, int64_t last, cudaStream_t stream);

// The other direction of the symmetric loss: base (m,) is the logsumexp of each column's negatives. Adds to losses
// and own, and fills in column_weight (m,), zero before: a negative of score s has the gradient
// column_weight exp(s - base). Rows that share a positive are candidates of one another, unless a group leaves that
// pair out. order (n,): the rows by their positives, in a stable order; or nullptr, where all differ. A warp a column.
void solve_columns(const LossRows& rows, const double* base, const int64_t* order, float* column_weight,
                   cudaStream_t stream);

// gain (1,) = the power of two that brings the largest possible gradient of a dot product to 32 .. 64, so that several
// still add up within float16; 1 where there is none.
void choose_gain(const LossRows& rows, float* gain, cudaStream_t stream);

// The end of a gradient (rows, dim), in place: divided by gain (nullptr: 1) and, for cosine, taken through the division
// by the norm. moments (rows,) = embedding times gradient before that; or nullptr.
void end_gradient(const Embeddings& embeddings, bool cosine, const float* gain, float* gradient,
                  double* moments, cudaStream_t stream);

struct LossTotals {
  const double* moments;  // (n,) or nullptr: the temperature has no gradient
  float* loss_rows;       // (n,) losses, rounded
  float* loss;            // (1,) their weighted sum
  double* temperature;    // (1,) gradient
};

// One block, which sums in one order.
void total_rows(const LossRows& rows, const LossTotals& totals, cudaStream_t stream);

}  // namespace pyhbt::cuda
