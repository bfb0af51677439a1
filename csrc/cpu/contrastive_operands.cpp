// Packing and scaling of contrastive_operands.h.
#include "contrastive_operands.h"

#include <algorithm>
#include <cmath>
#include <memory>

#include "../parallel.h"
#include "rows.h"

namespace pyhbt::cpu {
namespace {

constexpr double kLog2E = 1.4426950408889634;
constexpr double kSmallestNorm = 1e-12;  // torch.nn.functional.normalize's eps
constexpr int64_t kTaskRows = 32;

int64_t panel_floats(const ContrastiveLayout& cut) { return cut.panel_lanes() * cut.depth(); }

// A row times factor, cut into strips whose lanes beyond dim are zero: piece s goes to out + s * stride.
void write_row(const float* row, float factor, int64_t dim, int64_t strip, float* out, int64_t stride) {
  for (int64_t k = 0; k < dim; k += strip, out += stride) {
    const int64_t here = std::min(strip, dim - k);
    for (int64_t lane = 0; lane < here; ++lane) out[lane] = factor * row[k + lane];
    std::fill(out + here, out + strip, 0.0f);
  }
}

}  // namespace

int64_t ContrastiveOperands::work_floats(const ContrastiveArguments& a, const ContrastiveLayout& cut) {
  return Workspace::rounded(cut.dim_strips * cut.strip_stride) +
         (a.grad_passages != nullptr ? 2 : 1) * Workspace::rounded(panel_floats(cut));
}

ContrastiveOperands::ContrastiveOperands(const ContrastiveArguments& arguments,
                                         const ContrastiveLayout& layout, const CpuKernels& kernel,
                                         Workspace& workspace)
    : a_(arguments),
      cut_(layout),
      kernel_(kernel),
      dim_(a_.queries.dim),
      query_scales_(static_cast<size_t>(a_.queries.rows)),
      passage_scales_(static_cast<size_t>(a_.passages.rows)),
      passages_(workspace.take(cut_.dim_strips * cut_.strip_stride)),
      queries_transposed_(workspace.take(panel_floats(cut_))),
      queries_by_row_(a_.grad_passages != nullptr ? workspace.take(panel_floats(cut_)) : nullptr) {}

ContrastiveOperands::Scale ContrastiveOperands::scale_of(const float* row) const {
  if (!a_.cosine) return {};
  const double norm = std::sqrt(kernel_.dot(row, row, dim_));
  return {static_cast<float>(1.0 / std::max(norm, kSmallestNorm)), !(norm < kSmallestNorm)};
}

void ContrastiveOperands::pack_passages() {
  const int64_t rows = a_.passages.rows;
  parallel_for(a_.threads, ceil_div(cut_.padded_passages, kTaskRows), [&](int64_t task) {
    std::vector<float> scratch;
    for (int64_t j = task * kTaskRows; j < std::min(cut_.padded_passages, (task + 1) * kTaskRows); ++j) {
      float* out = passages_ + j * cut_.strip;
      if (j < rows) {
        const float* row = float_row(a_.passages, j, scratch);
        Scale& scale = passage_scales_[static_cast<size_t>(j)];
        scale = scale_of(row);
        write_row(row, scale.factor, dim_, cut_.strip, out, cut_.strip_stride);
      } else {
        for (int64_t piece = 0; piece < cut_.dim_strips; ++piece)
          std::fill_n(out + piece * cut_.strip_stride, cut_.strip, 0.0f);
      }
    }
  });
}

void ContrastiveOperands::pack_queries(int64_t first, int64_t strips, std::vector<double>& positive_scores) {
  const float exponents = static_cast<float>(kLog2E / a_.temperature);  // scores become exponents of two
  parallel_for(a_.threads, strips, [&](int64_t s) {
    const std::unique_ptr<float[]> rows(new float[static_cast<size_t>(cut_.strip * dim_)]);
    std::vector<float> scratch, other_scratch;
    for (int64_t lane = 0; lane < cut_.strip; ++lane) {
      const int64_t i = first + s * cut_.strip + lane;
      float* row = rows.get() + lane * dim_;
      if (i < a_.queries.rows && a_.positives[i] >= 0) {
        const float* query = float_row(a_.queries, i, scratch);
        const float* positive = float_row(a_.passages, a_.positives[i], other_scratch);
        Scale& scale = query_scales_[static_cast<size_t>(i)];
        scale = scale_of(query);
        const double both = static_cast<double>(scale.factor) *
                            static_cast<double>(passage_scales_[static_cast<size_t>(a_.positives[i])].factor);
        positive_scores[static_cast<size_t>(i)] = kernel_.dot(query, positive, dim_) * both / a_.temperature;
        for (int64_t k = 0; k < dim_; ++k) row[k] = scale.factor * query[k];
      } else {
        std::fill_n(row, dim_, 0.0f);
      }
      if (queries_by_row_ != nullptr)
        write_row(row, 1.0f, dim_, cut_.strip, queries_by_row_ + (s * cut_.strip + lane) * cut_.strip,
                  cut_.panel_lanes() * cut_.strip);
    }
    kernel_.transpose_strip(rows.get(), dim_, cut_.strip, dim_, cut_.depth(), exponents,
                            queries_transposed_ + s * cut_.depth() * cut_.strip);
  });
}

double ContrastiveOperands::query_moment(int64_t row, const float* gradient) const {
  std::vector<float> scratch;
  return kernel_.dot(float_row(a_.queries, row, scratch), gradient, dim_) *
         static_cast<double>(query_scales_[static_cast<size_t>(row)].factor);
}

void ContrastiveOperands::propagate_query(int64_t row, float* gradient) const {
  if (a_.cosine) propagate(a_.queries, row, query_scales_[static_cast<size_t>(row)], gradient);
}

void ContrastiveOperands::propagate_passage(int64_t row, float* gradient) const {
  if (a_.cosine) propagate(a_.passages, row, passage_scales_[static_cast<size_t>(row)], gradient);
}

// gradient <- factor * (gradient - x^ (x^ . gradient))
void ContrastiveOperands::propagate(const Embeddings& x, int64_t row, const Scale& scale,
                                    float* gradient) const {
  std::vector<float> scratch;
  const float* source = float_row(x, row, scratch);
  const double factor = static_cast<double>(scale.factor);
  const double along = scale.projects ? kernel_.dot(source, gradient, dim_) * factor * factor : 0.0;
  const float part = static_cast<float>(along);
  for (int64_t k = 0; k < dim_; ++k) gradient[k] = scale.factor * (gradient[k] - part * source[k]);
}

}  // namespace pyhbt::cpu
