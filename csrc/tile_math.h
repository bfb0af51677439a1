// Arithmetic shared by every back end, host and device: running logsumexp and the order of search results.
//   No memory is touched; every function is O(1).
// Running (max, sum) pairs: Milakov and Gimelshein, arXiv:1805.02867, section 3.1.
#pragma once

#include <cmath>
#include <cstdint>

#if defined(__CUDACC__)
#define PYHBT_HD __host__ __device__
#else
#define PYHBT_HD
#endif

namespace pyhbt {

// The logsumexp of a set of numbers, kept as sum * exp(max) so that it neither overflows nor underflows.
template <typename Real>
struct LogSumExp {
  Real max = -INFINITY;
  Real sum = 0;

  PYHBT_HD void merge(LogSumExp other) {
    const Real top = max < other.max ? other.max : max;
    if (top == -INFINITY) {  // both empty: avoid inf - inf; a NaN sum still spreads
      sum += other.sum;
      return;
    }
    sum = sum * std::exp(max - top) + other.sum * std::exp(other.max - top);
    max = top;
  }

  PYHBT_HD Real value() const { return max + std::log(sum); }
};

// log(1 + exp(x)) without overflow and without loss for very negative x.
template <typename Real>
PYHBT_HD inline Real softplus(Real x) {
  return x > 0 ? x + std::log1p(std::exp(-x)) : std::log1p(std::exp(x));
}

template <typename Real>
PYHBT_HD inline Real sigmoid(Real x) {
  return Real(1) / (Real(1) + std::exp(-x));
}

// One passage found for a query.
struct Candidate {
  double score;
  int64_t index;
};

// The one total order of results: higher score first, then lower index.
PYHBT_HD inline bool ranks_before(const Candidate& a, const Candidate& b) {
  return a.score > b.score || (a.score == b.score && a.index < b.index);
}

}  // namespace pyhbt
