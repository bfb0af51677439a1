// Norms and bounds of screen.h.
#include "screen.h"

#include <stdexcept>
#include <string>

#include "../parallel.h"

namespace pyhbt::cpu {

std::vector<float> upper_norms(const float* x, int64_t rows, int64_t dim, const char* name, int threads) {
  std::vector<float> norms(static_cast<size_t>(rows));
  constexpr int64_t kRows = 256;
  parallel_for(threads, ceil_div(rows, kRows), [&](int64_t task) {
    const KeepSubnormals guard;
    std::vector<double> wide(static_cast<size_t>(dim));
    for (int64_t row = task * kRows; row < std::min(rows, task * kRows + kRows); ++row) {
      widen(x + row * dim, dim, wide);
      const double square = kernels().dot(wide.data(), x + row * dim, dim);
      // The sum of squares and the root are each within (dim + 2) * 2^-53 of the truth; 2^-30 covers dim <
      // 2^22.
      const float norm = float_up(std::sqrt(square) * (1.0 + std::ldexp(1.0, -30)));
      norms[static_cast<size_t>(row)] = std::isfinite(square) ? norm : -1.0f;
    }
  });
  const auto bad = std::find(norms.begin(), norms.end(), -1.0f);
  if (bad != norms.end())
    throw std::invalid_argument(std::string(name) + ": row " + std::to_string(bad - norms.begin()) +
                                " holds a NaN or an infinity, expected finite numbers");
  return norms;
}

PackedQueries::PackedQueries(const float* queries, int64_t rows, int64_t dim)
    : width_(kernels().strip), dim_(dim), buffer_(round_up(rows, width_) * dim) {
  for (int64_t row = 0; row < rows; row += width_)
    kernels().transpose_strip(queries + row * dim, dim, std::min(width_, rows - row), dim, dim, 1.0f,
                              buffer_.data() + row * dim);
}

float screening_error(float query_norm, float max_passage_norm, int64_t dim) {
  const double largest = static_cast<double>(query_norm) * static_cast<double>(max_passage_norm);
  if (dim > (int64_t{1} << 21) || !(largest < std::ldexp(1.0, 125))) return kInfinity;
  const double steps = static_cast<double>(dim + 8) * std::ldexp(1.0, -24);
  return float_up(steps / (1.0 - steps) * static_cast<double>(query_norm));
}

Division divide(const SearchArguments& a) {
  const int64_t width = kernels().strip;
  Division division{};
  // Fewer queries in a block when that gives every thread a block of at least two strips.
  const int64_t share = round_up(ceil_div(a.num_queries, a.threads), width);
  division.block_queries = std::clamp<int64_t>(share, 2 * width, kBlockQueries);
  division.blocks = ceil_div(a.num_queries, division.block_queries);
  const int64_t most = std::max<int64_t>(1, ceil_div(a.num_passages, 4 * kTileRows));
  division.slices = division.blocks >= a.threads ? 1 : std::min(most, ceil_div(a.threads, division.blocks));
  division.slice_passages = std::max<int64_t>(1, ceil_div(a.num_passages, division.slices));
  return division;
}

void widen(const float* row, int64_t dim, std::vector<double>& out) {
  out.resize(static_cast<size_t>(dim));
  std::copy_n(row, dim, out.begin());
}

SearchArguments checked(SearchArguments a) {
  if (a.dim < 1)
    throw std::invalid_argument("queries: dim " + std::to_string(a.dim) + ", expected at least 1");
  if (a.threads < 1)
    throw std::invalid_argument("threads: found " + std::to_string(a.threads) + ", expected >= 1");
  a.threads =
      worthwhile_threads(a.threads, 2.0 * static_cast<double>(a.num_queries) *
                                        static_cast<double>(a.num_passages) * static_cast<double>(a.dim));
  return a;
}

}  // namespace pyhbt::cpu
