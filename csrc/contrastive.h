// In-batch contrastive loss (InfoNCE) with its gradients; the score matrix is never stored whole.
//
//   queries (n,d), passages (m,d), positives (n,)
//   -> loss_rows (n,), loss (1,), grad_queries (n,d), grad_passages (m,d), each where it is wanted
//
//   s_ij   = q_i . p_j / temperature, or their cosine / temperature
//   row_i  = logsumexp_{j in A(i)} s_ij - s_i,pos(i)
//   A(i)   = pos(i), and every other passage but false negatives: those with
//            passage_groups[j] == query_groups[i] >= 0, and those with
//            s_ij > s_i,pos(i) + margin / temperature
//   loss_i = row_i, or (row_i + col_i) / 2 with col_i the same over the queries that have a positive: a pair
//            left out as false negative is left out in both directions
//
// Time 2nmd flops for the loss and 2nmd for each gradient (2nmd more when symmetric and scores exceed
// retained_scores);
// extra memory md + 264m floats (symmetric: + up to retained_scores). Loss: van den Oord et al.,
// arXiv:1807.03748, eq. 4.
#pragma once

#include <cstdint>

#include "embeddings.h"

namespace pyhbt {

struct ContrastiveArguments {
  Embeddings queries;
  Embeddings passages;
  const int64_t* positives;       // (n,) index into passages, or -1: the row takes no part
  const float* row_weights;       // (n,) gradients are those of sum_i row_weights[i] * loss_i
  const int64_t* query_groups;    // (n,) or nullptr; a negative id matches nothing
  const int64_t* passage_groups;  // (m,) or nullptr, together with query_groups
  double temperature;
  double margin;  // infinite: no filter
  bool cosine;
  bool symmetric;
  int64_t retained_scores;   // a symmetric batch of up to so many scores keeps them between its two passes
  float* loss_rows;          // (n,) out
  float* loss;               // (1,) out: sum_i row_weights[i] * loss_i
  float* grad_queries;       // (n,d) out, or nullptr: not wanted
  float* grad_passages;      // (m,d) out, or nullptr: not wanted
  double* grad_temperature;  // (1,) out, or nullptr; comes with grad_queries alone
  int threads;
};

// Throws std::invalid_argument on sizes or positives out of range. Bit-identical for every thread count.
void contrastive_loss(const ContrastiveArguments& arguments);

}  // namespace pyhbt
