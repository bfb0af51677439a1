// Native tests: every kernel on ragged shapes and thread counts, without Python, so that sanitizers see all
// of it.
//   Truth is plain float64 code beside the kernels. Exits with 1 after the first failed expectation.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "contrastive.h"
#include "cpu/dispatch.h"
#include "search.h"
#include "tile_math.h"

namespace {

using pyhbt::Candidate;

void expect(bool condition, const std::string& what) {
  if (condition) return;
  std::fprintf(stderr, "FAILED: %s\n", what.c_str());
  std::exit(1);
}

template <typename Call>
void expect_refusal(const Call& call, const std::string& part) {
  try {
    call();
  } catch (const std::invalid_argument& error) {
    expect(std::string(error.what()).find(part) != std::string::npos,
           "message: " + std::string(error.what()));
    return;
  }
  expect(false, "no refusal mentioning " + part);
}

std::vector<float> normal(int64_t size, unsigned seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> distribution;
  std::vector<float> values(static_cast<size_t>(size));
  for (float& value : values) value = distribution(generator);
  return values;
}

std::vector<int64_t> integers(int64_t size, int64_t low, int64_t high, unsigned seed) {
  std::mt19937 generator(seed);
  std::uniform_int_distribution<int64_t> distribution(low, high);
  std::vector<int64_t> values(static_cast<size_t>(size));
  for (int64_t& value : values) value = distribution(generator);
  return values;
}

double exact_score(const float* a, const float* b, int64_t dim) {
  double lanes[8] = {};
  for (int64_t i = 0; i < dim; ++i) lanes[i % 8] += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  return ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])) + ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7]));
}

// Loss of one row and, when symmetric, of its column, straight from the definition.
double plain_loss(const pyhbt::ContrastiveArguments& a, int64_t row) {
  const int64_t positive = a.positives[row];
  if (positive < 0) return 0;
  const auto score = [&](int64_t i, int64_t j) {
    return exact_score(a.queries + i * a.dim, a.passages + j * a.dim, a.dim) / a.temperature;
  };
  const auto same_group = [&](int64_t i, int64_t j) {
    return a.query_groups != nullptr && a.query_groups[i] >= 0 && a.query_groups[i] == a.passage_groups[j];
  };
  double across = 0, down = 0;
  for (int64_t j = 0; j < a.num_passages; ++j)
    if (j != positive && !same_group(row, j)) across += std::exp(score(row, j) - score(row, positive));
  if (!a.symmetric) return std::log1p(across);
  for (int64_t i = 0; i < a.num_queries; ++i)
    if (i != row && a.positives[i] >= 0 && !same_group(i, positive))
      down += std::exp(score(i, positive) - score(row, positive));
  return (std::log1p(across) + std::log1p(down)) / 2;
}

struct LossResult {
  std::vector<float> loss, grad_queries, grad_passages;
};

void check_loss(int64_t n, int64_t m, int64_t dim, bool symmetric, bool grouped) {
  const std::vector<float> queries = normal(n * dim, 1), passages = normal(m * dim, 2),
                           weights = normal(n, 3);
  const std::vector<int64_t> positives = integers(n, -1, m - 1, 4);
  const std::vector<int64_t> query_groups = integers(n, -1, 3, 5), passage_groups = integers(m, -1, 3, 6);
  const std::string name = "loss " + std::to_string(n) + "x" + std::to_string(m) + "x" + std::to_string(dim);
  pyhbt::ContrastiveArguments a{queries.data(),
                                passages.data(),
                                positives.data(),
                                weights.data(),
                                grouped ? query_groups.data() : nullptr,
                                grouped ? passage_groups.data() : nullptr,
                                n,
                                m,
                                dim,
                                2.0,
                                symmetric,
                                nullptr,
                                nullptr,
                                nullptr,
                                1};
  LossResult first;
  for (const int threads : {1, 2, 3}) {
    LossResult result{std::vector<float>(static_cast<size_t>(n)), std::vector<float>(queries.size()),
                      std::vector<float>(passages.size())};
    a.loss_rows = result.loss.data();
    a.grad_queries = result.grad_queries.data();
    a.grad_passages = result.grad_passages.data();
    a.threads = threads;
    pyhbt::contrastive_loss(a);
    if (threads == 1) first = result;
    expect(result.loss == first.loss && result.grad_queries == first.grad_queries &&
               result.grad_passages == first.grad_passages,
           name + ": bits depend on the thread count");
  }
  double total = 0;
  for (int64_t i = 0; i < n; i += std::max<int64_t>(1, n / 8)) {
    const double truth = plain_loss(a, i), found = static_cast<double>(first.loss[static_cast<size_t>(i)]);
    expect(std::abs(found - truth) <= 1e-5 * (1 + std::abs(truth)),
           name + ": loss of row " + std::to_string(i));
    total += found;
  }
  expect(std::isfinite(total), name + ": finite");
  // The gradients of all scores of a row sum to zero, so moving every passage alike changes nothing.
  double drift = 0, size = 0;
  for (int64_t k = 0; k < dim && !symmetric; ++k) {
    double sum = 0;
    for (int64_t i = 0; i < n; ++i) {
      const double g = static_cast<double>(first.grad_queries[static_cast<size_t>(i * dim + k)]);
      size += std::abs(g);
    }
    for (int64_t j = 0; j < m; ++j)
      sum += static_cast<double>(first.grad_passages[static_cast<size_t>(j * dim + k)]);
    drift += std::abs(sum);
  }
  expect(drift <= 1e-4 * (1 + size), name + ": passage gradients sum to zero");
}

void check_search(int64_t nq, int64_t n, int64_t dim, int64_t k, bool rounded, float factor = 1) {
  std::vector<float> queries = normal(nq * dim, 7), corpus = normal(n * dim, 8);
  if (rounded) {
    for (float& x : queries) x = std::round(x);
    for (float& x : corpus) x = std::round(x);
  }
  for (float& x : corpus) x = std::min(std::max(x * factor, -3e38f), 3e38f);
  const std::string name = "search " + std::to_string(nq) + "x" + std::to_string(n) + "x" +
                           std::to_string(dim) + " k=" + std::to_string(k);
  const std::vector<int64_t> targets = integers(nq * 2, -1, n - 1, 9);
  for (const int threads : {1, 3}) {
    const pyhbt::SearchArguments a{queries.data(), corpus.data(), nq, n, dim, threads};
    std::vector<float> scores(static_cast<size_t>(nq * k));
    std::vector<int64_t> indices(static_cast<size_t>(nq * k)), found(static_cast<size_t>(nq * 2));
    pyhbt::search(a, k, scores.data(), indices.data());
    pyhbt::ranks(a, targets.data(), 2, found.data());
    for (int64_t q = 0; q < nq; ++q) {
      std::vector<Candidate> all;
      for (int64_t j = 0; j < n; ++j)
        all.push_back({exact_score(queries.data() + q * dim, corpus.data() + j * dim, dim), j});
      for (int64_t t = 2 * q; t < 2 * q + 2; ++t) {
        const int64_t target = targets[static_cast<size_t>(t)];
        int64_t rank = target < 0 ? 0 : 1;
        for (int64_t j = 0; j < n && target >= 0; ++j)
          rank += pyhbt::ranks_before(all[static_cast<size_t>(j)], all[static_cast<size_t>(target)]) ? 1 : 0;
        expect(found[static_cast<size_t>(t)] == rank, name + ": rank");
      }
      std::sort(all.begin(), all.end(), pyhbt::ranks_before);
      for (int64_t r = 0; r < k; ++r) {
        const size_t at = static_cast<size_t>(q * k + r);
        const bool real = r < n;
        expect(indices[at] == (real ? all[static_cast<size_t>(r)].index : -1), name + ": index");
        expect(scores[at] == (real ? static_cast<float>(all[static_cast<size_t>(r)].score) : -INFINITY),
               name + ": score");
      }
    }
  }
}

void check_refusals() {
  const std::vector<float> values(12, 1.0f);
  std::vector<float> scores(4);
  std::vector<int64_t> indices(4), positives{0, 9};
  const pyhbt::SearchArguments a{values.data(), values.data(), 2, 3, 4, 1};
  expect_refusal([&] { pyhbt::search(a, 0, scores.data(), indices.data()); }, "k: found 0");
  expect_refusal([&] { pyhbt::ranks(a, positives.data(), 1, indices.data()); }, "targets: found 9 in row 1");
  std::vector<float> bad = values;
  bad[5] = NAN;
  const pyhbt::SearchArguments b{bad.data(), values.data(), 2, 3, 4, 2};
  expect_refusal([&] { pyhbt::search(b, 1, scores.data(), indices.data()); }, "queries: row 1");
}

}  // namespace

int main() {
  std::printf("instruction set: %s\n", pyhbt::cpu::kernels().name);
  for (const int64_t n : {1, 2, 7, 9, 33, 129}) {
    for (const bool symmetric : {false, true}) {
      check_loss(n, n, 7, symmetric, false);
      check_loss(n, 40, 33, symmetric, true);
    }
  }
  check_loss(280, 300, 17, false, true);   // two panels
  check_loss(2100, 2050, 3, true, false);  // two passes
  for (const int64_t n : {0, 1, 2, 7, 9, 33, 129, 1000}) {
    for (const bool rounded : {false, true}) {
      check_search(5, n, 9, 3, rounded);
      check_search(33, n, 17, n + 2, rounded);
    }
  }
  check_search(9, 300, 17, 20, false, 1e38f);  // norms and scores beyond float32
  check_refusals();
  std::printf("all native tests passed\n");
  return 0;
}
