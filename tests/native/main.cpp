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

struct LossCase {
  int64_t n, m, dim;
  bool cosine, symmetric, grouped, filtered;

  std::string name() const {
    return "loss " + std::to_string(n) + "x" + std::to_string(m) + "x" + std::to_string(dim) +
           (cosine ? " cosine" : "") + (symmetric ? " symmetric" : "") + (grouped ? " grouped" : "") +
           (filtered ? " filtered" : "");
  }
};

double similarity(const pyhbt::ContrastiveArguments& a, int64_t i, int64_t j) {
  const float* query = static_cast<const float*>(a.queries.data) + i * a.queries.stride;
  const float* passage = static_cast<const float*>(a.passages.data) + j * a.passages.stride;
  const int64_t dim = a.queries.dim;
  const double dot = exact_score(query, passage, dim);
  if (!a.cosine) return dot;
  return dot / std::sqrt(exact_score(query, query, dim) * exact_score(passage, passage, dim));
}

// Loss of one row and, when symmetric, of its column, straight from the definition.
double plain_loss(const pyhbt::ContrastiveArguments& a, int64_t row) {
  const int64_t positive = a.positives[row];
  if (positive < 0) return 0;
  const auto left_out = [&](int64_t i, int64_t j) {
    if (a.query_groups != nullptr && a.query_groups[i] >= 0 && a.query_groups[i] == a.passage_groups[j])
      return true;
    return j != a.positives[i] && similarity(a, i, j) > similarity(a, i, a.positives[i]) + a.margin;
  };
  const double own = similarity(a, row, positive);
  double across = 0, down = 0;
  for (int64_t j = 0; j < a.passages.rows; ++j)
    if (j != positive && !left_out(row, j)) across += std::exp((similarity(a, row, j) - own) / a.temperature);
  if (!a.symmetric) return std::log1p(across);
  for (int64_t i = 0; i < a.queries.rows; ++i)
    if (i != row && a.positives[i] >= 0 && !left_out(i, positive))
      down += std::exp((similarity(a, i, positive) - own) / a.temperature);
  return (std::log1p(across) + std::log1p(down)) / 2;
}

struct LossResult {
  std::vector<float> loss, grad_queries, grad_passages;
  float total = 0;
  double grad_temperature = 0;

  bool operator==(const LossResult& other) const {
    return loss == other.loss && grad_queries == other.grad_queries && grad_passages == other.grad_passages &&
           total == other.total && grad_temperature == other.grad_temperature;
  }
};

LossResult run_loss(pyhbt::ContrastiveArguments a, int threads) {
  LossResult result{std::vector<float>(static_cast<size_t>(a.queries.rows)),
                    std::vector<float>(static_cast<size_t>(a.queries.rows * a.queries.dim)),
                    std::vector<float>(static_cast<size_t>(a.passages.rows * a.queries.dim))};
  a.loss_rows = result.loss.data();
  a.loss = &result.total;
  a.grad_queries = result.grad_queries.data();
  a.grad_passages = result.grad_passages.data();
  a.grad_temperature = &result.grad_temperature;
  a.threads = threads;
  pyhbt::contrastive_loss(a);
  return result;
}

void check_loss(const LossCase& c, int64_t retained_scores = int64_t{1} << 24) {
  const int64_t stride = c.dim + 3;  // rows may lie apart
  const std::vector<float> queries = normal(c.n * stride, 1), passages = normal(c.m * stride, 2),
                           weights = normal(c.n, 3);
  const std::vector<int64_t> positives = integers(c.n, -1, c.m - 1, 4);
  const std::vector<int64_t> query_groups = integers(c.n, -1, 3, 5), passage_groups = integers(c.m, -1, 3, 6);
  pyhbt::ContrastiveArguments a{};
  a.queries = {queries.data(), pyhbt::DType::kFloat32, c.n, c.dim, stride};
  a.passages = {passages.data(), pyhbt::DType::kFloat32, c.m, c.dim, stride};
  a.positives = positives.data();
  a.row_weights = weights.data();
  a.query_groups = c.grouped ? query_groups.data() : nullptr;
  a.passage_groups = c.grouped ? passage_groups.data() : nullptr;
  a.temperature = 2.0;
  a.margin = c.filtered ? 0.5 : INFINITY;
  a.cosine = c.cosine;
  a.symmetric = c.symmetric;
  a.retained_scores = retained_scores;
  const LossResult first = run_loss(a, 1);
  for (const int threads : {2, 3})
    expect(run_loss(a, threads) == first, c.name() + ": bits depend on the thread count");
  for (int64_t i = 0; i < c.n; i += std::max<int64_t>(1, c.n / 8)) {
    const double truth = plain_loss(a, i), found = static_cast<double>(first.loss[static_cast<size_t>(i)]);
    expect(std::abs(found - truth) <= 1e-5 * (1 + std::abs(truth)),
           c.name() + ": loss of row " + std::to_string(i));
  }
  for (const float g : first.grad_queries) expect(std::isfinite(g), c.name() + ": finite gradient");
  // The gradients of all scores of a row sum to zero, so moving every passage alike changes nothing.
  double drift = 0, size = 0;
  for (int64_t k = 0; k < c.dim && !c.symmetric && !c.cosine; ++k) {
    double sum = 0;
    for (int64_t i = 0; i < c.n; ++i)
      size += std::abs(static_cast<double>(first.grad_queries[static_cast<size_t>(i * c.dim + k)]));
    for (int64_t j = 0; j < c.m; ++j)
      sum += static_cast<double>(first.grad_passages[static_cast<size_t>(j * c.dim + k)]);
    drift += std::abs(sum);
  }
  expect(drift <= 1e-4 * (1 + size), c.name() + ": passage gradients sum to zero");
}

// Half-precision rows give the bits of the same numbers in float32.
void check_half_precision() {
  const int64_t n = 33, dim = 19;
  std::vector<uint16_t> bits(static_cast<size_t>(n * dim));
  std::vector<float> values(bits.size());
  const std::vector<float> weights(static_cast<size_t>(n), 1.0f);
  for (size_t i = 0; i < bits.size(); ++i) {
    bits[i] = static_cast<uint16_t>(0x3c00 + 7 * i % 512);  // float16 numbers from 1 to 1.5
    values[i] = 1.0f + static_cast<float>(7 * i % 512) / 1024;
  }
  const std::vector<int64_t> positives = integers(n, 0, n - 1, 4);
  pyhbt::ContrastiveArguments a{};
  a.queries = {bits.data(), pyhbt::DType::kFloat16, n, dim, dim};
  a.passages = {values.data(), pyhbt::DType::kFloat32, n, dim, dim};
  a.positives = positives.data();
  a.row_weights = weights.data();
  a.temperature = 1.0;
  a.margin = INFINITY;
  const LossResult half = run_loss(a, 2);
  a.queries = a.passages;
  expect(run_loss(a, 1) == half, "float16 rows");
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

int main(int argc, char** argv) {
  if (argc > 1 && std::string(argv[1]) == "--levels") {
    for (const std::string& level : pyhbt::cpu::supported_levels()) std::printf("%s\n", level.c_str());
    return 0;
  }
  std::printf("instruction set: %s\n", pyhbt::cpu::kernels().name);
  for (const int64_t n : {1, 2, 7, 9, 33, 129}) {
    for (const bool symmetric : {false, true}) {
      check_loss({n, n, 7, false, symmetric, false, false});
      check_loss({n, 40, 33, true, symmetric, true, false});
      check_loss({n, 50, 24, false, symmetric, true, true});
    }
  }
  check_loss({280, 300, 17, true, false, true, true});            // two panels
  check_loss({600, 550, 3, false, true, false, false}, 0);        // two passes
  check_loss({600, 550, 370, false, true, true, true}, 1 << 20);  // kept scores; two blocks of depth
  check_half_precision();
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
