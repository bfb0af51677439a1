// What the checks of the kernels share: memory of exact sizes, data, and a count of failures.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <vector>

#include "../../csrc/embeddings.h"

namespace checks {

#if defined(__SANITIZE_THREAD__)  // every thread of every block is a new one to it, which takes its time
constexpr bool kShort = true;
#else
constexpr bool kShort = false;
#endif

inline int failures = 0;

inline void expect(bool good, const char* scenario, const char* what, int64_t at, double found,
                   double wanted) {
  if (good) return;
  if (++failures <= 20)
    std::printf("%s: %s[%lld]: found %.17g, expected %.17g\n", scenario, what, static_cast<long long>(at),
                found, wanted);
}

inline void expect_close(const char* scenario, const char* what, int64_t at, double found, double wanted,
                         double budget) {
  expect(std::abs(found - wanted) <= budget || found == wanted || (std::isnan(found) && std::isnan(wanted)),
         scenario, what, at, found, wanted);
}

// Memory of exactly this size, so that an overrun is seen; what is not written is NaN or -1.
template <typename T>
class Array {
 public:
  explicit Array(int64_t size) : size_(size), data_(static_cast<T*>(std::malloc(bytes()))) {
    std::memset(static_cast<void*>(data_), 0xFF, bytes());
  }
  Array(int64_t size, T value) : Array(size) { std::fill_n(data_, size, value); }
  ~Array() { std::free(data_); }
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;

  T* data() { return data_; }
  int64_t size() const { return size_; }
  T& operator[](int64_t at) { return data_[at]; }

 private:
  size_t bytes() const { return std::max<size_t>(1, static_cast<size_t>(size_) * sizeof(T)); }
  int64_t size_;
  T* data_;
};

inline std::mt19937 generator(7);

inline void fill(Array<float>& x, float scale) {
  std::normal_distribution<float> normal;
  for (int64_t i = 0; i < x.size(); ++i) x[i] = scale * normal(generator);
}

// The scenarios, by the file of the kernels that they run.
void test_logsumexp();
void test_gradient();
void test_multiply();
void test_start();
void test_solve();
void test_columns();
void test_gain();
void test_end();
void test_total();
void test_search();
void test_overflow();
void test_ranks();
void test_append();
void test_norms();
void test_scores();
void test_select();
void test_count();
void test_settle();

}  // namespace checks
