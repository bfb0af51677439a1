// What the products of the contrastive loss read: queries and passages as float32, scaled for cosine
// similarity, and packed.
//   passages           [strip of dim][passage][lane]   all of them
//   queries transposed [strip][k][lane]                one panel, times log2(e) / temperature
//   queries by row     [strip of dim][panel lane][lane]  one panel, where those of passages are wanted
// Lanes and rows beyond the data, and queries without a positive, are zero.
#pragma once

#include <cstdint>
#include <vector>

#include "../contrastive.h"
#include "../interrupt.h"
#include "buffer.h"
#include "contrastive_layout.h"

namespace pyhbt::cpu {

class ContrastiveOperands {
 public:
  ContrastiveOperands(const ContrastiveArguments& arguments, const ContrastiveLayout& layout,
                      const CpuKernels& kernel, Workspace& workspace);
  static int64_t work_floats(const ContrastiveArguments& arguments, const ContrastiveLayout& layout);

  void pack_passages(Interrupt& interrupt);
  // A panel, after the passages. Gives each row s_i,pos(i) in float64, where it has a positive.
  void pack_queries(int64_t first, int64_t strips, std::vector<double>& positive_scores);

  const float* passages(int64_t piece, int64_t passage) const {
    return passages_ + piece * cut_.strip_stride + passage * cut_.strip;
  }
  const float* queries_transposed(int64_t strip, int64_t piece) const {
    return queries_transposed_ + (strip * cut_.depth() + piece * cut_.strip) * cut_.strip;
  }
  const float* queries_by_row(int64_t piece, int64_t strip) const {
    return queries_by_row_ + (piece * cut_.panel_lanes() + strip * cut_.strip) * cut_.strip;
  }

  // Given the gradient with respect to a packed row, x^ = factor * x: their dot product, and the gradient
  // with respect to x, in place.
  double query_moment(int64_t row, const float* gradient) const;
  void propagate_query(int64_t row, float* gradient) const;
  void propagate_passage(int64_t row, float* gradient) const;

 private:
  struct Scale {
    float factor = 1.0f;
    bool projects = false;  // the gradient loses its part along the row
  };

  Scale scale_of(const float* row) const;
  void propagate(const Embeddings& x, int64_t row, const Scale& scale, float* gradient) const;

  const ContrastiveArguments& a_;
  const ContrastiveLayout& cut_;
  const CpuKernels& kernel_;
  const int64_t dim_;
  std::vector<Scale> query_scales_, passage_scales_;
  float *passages_, *queries_transposed_, *queries_by_row_;
};

}  // namespace pyhbt::cpu
