// The memory-bound parts of the in-batch contrastive loss on a GPU, around products of matrices that are not
// ours: a panel (rows, columns) of dot products is read once for the logsumexp of its rows and columns, and
// once more to become its own gradient.
//   s_ij = row_factor[i] * column_factor[j] * dots[i][j]. A pair is a negative unless it is the row's
//   positive, the row takes no part, both share a group, or s_ij > limit[i].
//   Launches are asynchronous on the stream, allocate nothing, and give the same bits every time: no sum
//   depends on the order of blocks.
#pragma once

#include "../embeddings.h"
#include "language.h"

namespace pyhbt::cuda {

constexpr int kPanelTileRows = 32, kPanelTileColumns = 128;

struct Panel {
  const float* dots;  // (rows, columns)
  int64_t rows, columns;
  const float* row_factor;        // (rows,)
  const float* column_factor;     // (columns,) or nullptr: 1
  const int64_t* positives;       // (rows,) -1: the row takes no part
  const int64_t* query_groups;    // (rows,) or nullptr; a negative id matches nothing
  const int64_t* passage_groups;  // (columns,)
  const float* limit;             // (rows,) or nullptr
};

// Workspaces: partials of rows (column tiles, rows) and of columns (row tiles, columns); a ticket for each
// row tile, zero before and after.
struct PanelSums {
  float2* row_partials;
  unsigned* row_tickets;
  double* row_logsumexp;    // (rows,) out: over the negatives of the row; -infinity where there is none
  float2* column_partials;  // or nullptr: no columns
};

// Reads the panel once: 4 bytes and two exponentials a score.
void panel_logsumexp(const Panel& panel, const PanelSums& out, cudaStream_t stream);

// logsumexp (columns,) of all panels so far, not read at the first: merges the partials of one more.
void merge_columns(const float2* partials, int64_t row_tiles, int64_t columns, bool first, double* logsumexp,
                   cudaStream_t stream);

// What the gradient of a score of a negative is made of:
//   row_weight[i] exp(s - row_reference[i]) + column_weight[j] exp(s - column_logsumexp[j]),
// without the second term where column_weight is 0.
struct PanelGradient {
  const float* row_reference;
  const float* row_weight;
  const float* own;                // (rows,) gradient of the positive's score
  const double* column_logsumexp;  // or nullptr: rows only
  const float* column_weight;
  const float* gain;  // (1,) keeps float16 in range; or nullptr: 1
  void* out;          // (rows, columns), may be the panel itself in float32
  DType dtype;        // of out
};

// out = gain * the gradient of the dot products, the factors of rows and columns included.
// Reads and writes the panel once.
void panel_gradient(const Panel& panel, const PanelGradient& gradient, cudaStream_t stream);

// out (rows, columns) = left (rows, dim) right (columns, dim)^T in float32 multiply-adds, whatever TF32 is
// set to; sums run along dim in order.
void multiply_rows(const float* left, int64_t rows, const float* right, int64_t columns, int64_t dim,
                   float* out, cudaStream_t stream);

}  // namespace pyhbt::cuda
