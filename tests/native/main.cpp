// Native tests: every kernel on ragged shapes and thread counts, without Python, so that sanitizers see all
// of it.
//   Truth is plain float64 code beside the kernels. Exits with 1 after the first failed expectation.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "checks.h"
#include "codes.h"
#include "contrastive.h"
#include "cpu/dispatch.h"
#include "interrupt.h"
#include "search.h"
#include "tile_math.h"

namespace {

using pyhbt::Candidate;

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

LossResult run_loss(pyhbt::ContrastiveArguments a, int threads, bool of_queries = true,
                    bool of_passages = true) {
  LossResult result{std::vector<float>(static_cast<size_t>(a.queries.rows)),
                    std::vector<float>(static_cast<size_t>(a.queries.rows * a.queries.dim)),
                    std::vector<float>(static_cast<size_t>(a.passages.rows * a.queries.dim))};
  a.loss_rows = result.loss.data();
  a.loss = &result.total;
  a.grad_queries = of_queries ? result.grad_queries.data() : nullptr;
  a.grad_passages = of_passages ? result.grad_passages.data() : nullptr;
  a.grad_temperature = of_queries ? &result.grad_temperature : nullptr;
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
  LossResult queries_alone = run_loss(a, 2, true, false), passages_alone = run_loss(a, 2, false, true);
  expect(queries_alone.grad_queries == first.grad_queries && queries_alone.total == first.total &&
             queries_alone.grad_temperature == first.grad_temperature,
         c.name() + ": the gradient of queries alone");
  expect(passages_alone.grad_passages == first.grad_passages && passages_alone.loss == first.loss,
         c.name() + ": the gradient of passages alone");
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

float plain_widened(uint16_t bits, pyhbt::DType dtype) {
  const int digits = dtype == pyhbt::DType::kBFloat16 ? 7 : 10,
            bias = dtype == pyhbt::DType::kBFloat16 ? 127 : 15;
  const int exponent = (bits & 0x7fff) >> digits, fraction = bits & ((1 << digits) - 1);
  const float sign = bits >> 15 ? -1.0f : 1.0f;
  if (exponent == 2 * bias + 1) return sign * (fraction == 0 ? INFINITY : NAN);
  const int whole = exponent == 0 ? fraction : fraction + (1 << digits);
  return sign * std::ldexp(static_cast<float>(whole), std::max(1, exponent) - bias - digits);
}

void check_widening() {
  std::vector<uint16_t> bits(1 << 16);
  for (size_t i = 0; i < bits.size(); ++i) bits[i] = static_cast<uint16_t>(i);
  const pyhbt::cpu::CpuKernels& kernels = pyhbt::cpu::kernels();
  for (const pyhbt::DType dtype : {pyhbt::DType::kFloat16, pyhbt::DType::kBFloat16}) {
    const auto widen = dtype == pyhbt::DType::kFloat16 ? kernels.widen_float16 : kernels.widen_bfloat16;
    for (const size_t start : {0, 1, 65531}) {  // whole vectors and the rest of one
      std::vector<float> wide(bits.size() - start);
      widen(bits.data() + start, static_cast<int64_t>(wide.size()), wide.data());
      for (size_t i = 0; i < wide.size(); ++i) {
        const float plain = plain_widened(bits[start + i], dtype);
        expect(std::isnan(plain) ? std::isnan(wide[i])
                                 : wide[i] == plain && std::signbit(wide[i]) == std::signbit(plain),
               "half-precision number " + std::to_string(start + i));
      }
    }
  }
}

// A corpus in one of the dtypes, and the same numbers in float32. Rows lie apart.
struct Corpus {
  int64_t rows, dim, stride;
  pyhbt::DType dtype;
  std::vector<float> values;
  std::vector<uint16_t> bits;

  Corpus(const std::vector<float>& numbers, int64_t n, int64_t d, pyhbt::DType type)
      : rows(n), dim(d), stride(d + 3), dtype(type), values(static_cast<size_t>(n * (d + 3)), NAN) {
    bits.assign(values.size(), 0x7fff);
    for (int64_t at = 0; at < n * d; ++at) {
      const size_t place = static_cast<size_t>(at / d * stride + at % d);
      values[place] = numbers[static_cast<size_t>(at)];
      if (type == pyhbt::DType::kFloat32) continue;
      uint32_t wide;
      std::memcpy(&wide, &values[place], sizeof wide);
      // bfloat16: cut. float16: the sign and the mantissa with an exponent from -10 to 5.
      const uint32_t exponent = type == pyhbt::DType::kBFloat16 ? 0 : 5 + wide % 16;
      bits[place] = static_cast<uint16_t>(
          exponent == 0 ? wide >> 16 : (wide >> 16 & 0x8000) | exponent << 10 | (wide >> 13 & 0x3ff));
      values[place] = plain_widened(bits[place], type);
    }
  }

  const float* row(int64_t i) const { return values.data() + i * stride; }
  pyhbt::Embeddings embeddings() const {
    const bool wide = dtype == pyhbt::DType::kFloat32;
    return {wide ? static_cast<const void*>(values.data()) : bits.data(), dtype, rows, dim, stride};
  }
};

// Codes of a corpus around a centre.
struct Codes {
  std::vector<int8_t> codes;
  std::vector<float> inverse_scale, along, code_norm, residual_norm, centre, direction;
  std::vector<int32_t> code_sum;
  std::vector<double> norm;
  std::vector<uint8_t> nibbles;
  std::vector<float> nibble_residual;

  Codes(const Corpus& corpus, bool cosine, int threads) {
    const size_t n = static_cast<size_t>(corpus.rows), dim = static_cast<size_t>(corpus.dim);
    codes.assign(n * static_cast<size_t>(pyhbt::code_stride(corpus.dim)), 99);
    for (std::vector<float>* part : {&inverse_scale, &along, &code_norm, &residual_norm}) part->resize(n);
    code_sum.resize(n);
    norm.resize(n);
    nibbles.assign(n * static_cast<size_t>(pyhbt::nibble_stride(corpus.dim)), 99);
    nibble_residual.resize(n);
    centre.resize(dim);
    direction.resize(dim);
    for (size_t k = 0; k < dim; ++k) {
      double sum = 0;
      for (int64_t i = 0; i < corpus.rows; ++i) sum += static_cast<double>(corpus.row(i)[k]);
      const double mean = sum / static_cast<double>(std::max<size_t>(1, n));
      centre[k] = static_cast<float>(std::min(std::max(mean, -1e30), 1e30));
      direction[k] = k % 2 == 0 ? 0.3f : -0.1f;
    }
    pyhbt::encode(corpus.embeddings(), cosine, centre.data(), direction.data(), out(), 0, threads);
  }

  pyhbt::CodesOut out() {
    pyhbt::CodesOut out{};
    out.codes = codes.data();
    out.inverse_scale = inverse_scale.data();
    out.along = along.data();
    out.code_norm = code_norm.data();
    out.residual_norm = residual_norm.data();
    out.code_sum = code_sum.data();
    out.norm = norm.data();
    out.nibbles = nibbles.empty() ? nullptr : nibbles.data();
    out.nibble_residual = nibble_residual.data();
    return out;
  }
  pyhbt::CorpusCodes view() const {
    pyhbt::CorpusCodes view{};
    view.codes = codes.data();
    view.inverse_scale = inverse_scale.data();
    view.along = along.data();
    view.code_norm = code_norm.data();
    view.residual_norm = residual_norm.data();
    view.code_sum = code_sum.data();
    view.norm = norm.data();
    view.centre = centre.data();
    view.direction = direction.data();
    view.nibbles = nibbles.empty() ? nullptr : nibbles.data();
    view.nibble_residual = nibble_residual.data();
    return view;
  }
};

// What is stored with the codes holds (codes.h), the part along the direction within what queries allow it.
void check_codes(const Codes& c, const Corpus& corpus, bool cosine, const std::string& name) {
  const int64_t dim = corpus.dim, stride = pyhbt::code_stride(dim);
  double direction_square = 0;
  for (const float u : c.direction) direction_square += static_cast<double>(u) * static_cast<double>(u);
  for (int64_t i = 0; i < corpus.rows; ++i) {
    const size_t at = static_cast<size_t>(i);
    const int8_t* codes = c.codes.data() + i * stride;
    const double norm = std::sqrt(exact_score(corpus.row(i), corpus.row(i), dim));
    expect(c.norm[at] == norm, name + ": norm of a passage");
    for (int64_t k = dim; k < stride; ++k) expect(codes[k] == 0, name + ": padding of codes");
    if (std::isinf(c.code_norm[at])) {
      for (int64_t k = 0; k < dim; ++k) expect(codes[k] == 0, name + ": codes of a row beyond them");
      continue;
    }
    int64_t sum = 0;
    double code_square = 0, residual_square = 0, along = 0;
    for (int64_t k = 0; k < dim; ++k) {
      const size_t place = static_cast<size_t>(k);
      const double row = static_cast<double>(corpus.row(i)[k]);
      const double x = (cosine && norm > 0 ? row / norm : row) - static_cast<double>(c.centre[place]);
      const double scaled = static_cast<double>(c.inverse_scale[at]) * x, residual = scaled - codes[k];
      sum += codes[k];
      code_square += codes[k] * codes[k];
      residual_square += residual * residual;
      along += scaled * static_cast<double>(c.direction[place]);
    }
    const double code_norm = static_cast<double>(c.code_norm[at]);
    const double residual_norm = static_cast<double>(c.residual_norm[at]);
    const double rounding = 0x1p-20 + (static_cast<double>(dim) / 4 + 16) * 0x1p-24;
    expect(c.code_sum[at] == sum, name + ": sum of codes");
    expect(std::sqrt(code_square) <= code_norm, name + ": norm of codes");
    expect(std::sqrt(residual_square) <= residual_norm, name + ": residual of codes");
    expect(std::abs(along - static_cast<double>(c.along[at])) <=
               rounding * std::sqrt(direction_square) * (code_norm + residual_norm),
           name + ": part along the direction");
    if (c.nibbles.empty()) continue;
    const uint8_t* nibbles = c.nibbles.data() + i * pyhbt::nibble_stride(dim);
    const double step = static_cast<double>(
        c.code_norm[at] * static_cast<float>(2.7326 / (63 * std::sqrt(static_cast<double>(dim)))));
    double level_square = 0, rest_square = 0;
    for (int64_t k = 0; k < dim; ++k) {
      const int both = nibbles[k / 128 * 64 + k % 64], place = k % 128 < 64 ? both & 15 : both >> 4;
      const double level = step * pyhbt::kNibbleLevels[place], row = static_cast<double>(corpus.row(i)[k]);
      const double x =
          (cosine && norm > 0 ? row / norm : row) - static_cast<double>(c.centre[static_cast<size_t>(k)]);
      const double rest = static_cast<double>(c.inverse_scale[at]) * x - level;
      level_square += level * level;
      rest_square += rest * rest;
    }
    const double nibble_residual = static_cast<double>(c.nibble_residual[at]);
    expect(std::sqrt(rest_square) <= nibble_residual, name + ": residual of nibbles");
    expect(residual_norm <= nibble_residual, name + ": no less than the residual of codes");
    expect(std::sqrt(level_square) <= code_norm + nibble_residual, name + ": norm of levels");
  }
}

struct SearchCase {
  int64_t nq, n, dim, k;
  bool cosine = false, filtered = false;
  pyhbt::DType dtype = pyhbt::DType::kFloat32;
  bool rounded = false;
  float factor = 1;

  std::string name() const {
    return "search " + std::to_string(nq) + "x" + std::to_string(n) + "x" + std::to_string(dim) +
           " k=" + std::to_string(k) + (cosine ? " cosine" : "") + (filtered ? " filtered" : "") +
           (rounded ? " rounded" : "") + " dtype " + std::to_string(static_cast<int>(dtype));
  }
};

// Partitions of passages side by side, some passages not allowed, and some excluded for each query.
struct Pools {
  static constexpr int64_t kPartitions = 5, kExcluded = 3;
  std::vector<uint8_t> allowed, pools;
  std::vector<int32_t> partitions, wanted;
  std::vector<int64_t> excluded;

  Pools(int64_t nq, int64_t n) : excluded(integers(nq * kExcluded, -1, n - 1, 10)) {
    for (const int64_t x : integers(n, 0, 9, 11)) allowed.push_back(x != 0);
    for (const int64_t x : integers(nq * kPartitions, 0, 2, 12)) pools.push_back(x == 0);
    for (int64_t i = 0; i < n; ++i) partitions.push_back(static_cast<int32_t>(i * kPartitions / n));
    for (int64_t q = 0; q < nq; ++q) {
      std::vector<int32_t> own;
      for (int64_t p = 0; p < kPartitions; ++p)
        own.push_back(pools[static_cast<size_t>(q * kPartitions + p)] ? static_cast<int32_t>(p) : -1);
      std::sort(own.begin(), own.end());
      wanted.insert(wanted.end(), own.begin(), own.end());
      const auto row = excluded.begin() + q * kExcluded;
      if (q % 2 == 0) row[0] = row[1];
      std::sort(row, row + kExcluded);
    }
  }
  pyhbt::SearchFilter filter() const {
    return {allowed.data(), partitions.data(), kPartitions, wanted.data(),
            kPartitions,    excluded.data(),   kExcluded};
  }
  bool accepts(int64_t query, int64_t passage) const {
    const auto own = excluded.begin() + query * kExcluded;
    return allowed[static_cast<size_t>(passage)] != 0 &&
           pools[static_cast<size_t>(query * kPartitions + partitions[static_cast<size_t>(passage)])] != 0 &&
           std::find(own, own + kExcluded, passage) == own + kExcluded;
  }
};

constexpr int64_t kTargets = 19;  // of a query, enough for their own way of counting

void check_search(const SearchCase& c) {
  std::vector<float> queries = normal(c.nq * c.dim, 7), numbers = normal(c.n * c.dim, 8);
  for (float& x : queries) x = c.rounded ? std::round(x) : x;
  for (float& x : numbers)
    x = c.rounded ? std::round(x) : std::min(std::max((x + 0.5f) * c.factor, -3e38f), 3e38f);
  const Corpus corpus(numbers, c.n, c.dim, c.dtype);
  const std::vector<int64_t> targets = integers(c.nq * kTargets, -1, c.n - 1, 9);
  const Pools pools(c.nq, c.n);
  const Codes codes(corpus, c.cosine, 3);
  check_codes(codes, corpus, c.cosine, c.name());
  const pyhbt::CorpusCodes view = codes.view();

  std::vector<std::vector<Candidate>> order(static_cast<size_t>(c.nq));  // of what each query may find
  std::vector<int64_t> expected_ranks, expected_within;
  const std::vector<int64_t> ends = {c.n / 3, c.n / 3, c.n - c.n / 4, c.n};  // one group has no passages
  const pyhbt::Groups groups{ends.data(), static_cast<int64_t>(ends.size())};
  for (int64_t q = 0; q < c.nq; ++q) {
    std::vector<Candidate> all;
    for (int64_t j = 0; j < c.n; ++j) {
      const double dot = exact_score(queries.data() + q * c.dim, corpus.row(j), c.dim);
      const double norm = c.cosine ? codes.norm[static_cast<size_t>(j)] : 1.0;
      all.push_back({norm > 0 ? dot / norm : 0.0, j});
    }
    std::vector<Candidate>& found = order[static_cast<size_t>(q)];
    for (const Candidate& candidate : all)
      if (!c.filtered || pools.accepts(q, candidate.index)) found.push_back(candidate);
    std::sort(found.begin(), found.end(), pyhbt::ranks_before);
    for (int64_t t = kTargets * q; t < kTargets * (q + 1); ++t) {
      const int64_t target = targets[static_cast<size_t>(t)];
      const auto ahead = [&](const Candidate& candidate) {
        return pyhbt::ranks_before(candidate, all[static_cast<size_t>(target)]);
      };
      expected_ranks.push_back(target < 0 ? 0 : 1 + std::count_if(found.begin(), found.end(), ahead));
      const auto ahead_within = [&](const Candidate& candidate) {
        return groups.of(candidate.index) == groups.of(target) && ahead(candidate);
      };
      expected_within.push_back(target < 0 ? 0 : 1 + std::count_if(all.begin(), all.end(), ahead_within));
    }
  }

  using pyhbt::Screening;
  const struct {
    std::optional<pyhbt::CorpusCodes> codes;
    Screening screening;
  } ways[] = {{std::nullopt, Screening::kAuto},
              {std::nullopt, Screening::kFloats},
              {view, Screening::kAuto},
              {view, Screening::kCodes}};
  for (const int threads : {1, 3}) {
    for (const auto& way : ways) {
      const std::string name = c.name() + " screening " + std::to_string(static_cast<int>(way.screening)) +
                               (way.codes ? " with codes" : "");
      pyhbt::SearchArguments a{};
      a.queries = {queries.data(), pyhbt::DType::kFloat32, c.nq, c.dim, c.dim};
      a.corpus = corpus.embeddings();
      a.codes = way.codes;
      a.cosine = c.cosine;
      if (c.filtered) a.filter = pools.filter();
      a.screening = way.screening;
      a.threads = threads;
      const size_t places = static_cast<size_t>(c.nq * c.k);
      std::vector<float> scores(places);
      std::vector<double> exact(places);
      std::vector<int64_t> indices(places), found(targets.size());
      pyhbt::search(a, c.k, scores.data(), indices.data(), exact.data());
      pyhbt::ranks(a, targets.data(), kTargets, found.data());
      expect(found == expected_ranks, name + ": ranks");
      if (!c.filtered) {
        std::vector<int64_t> within(targets.size());
        pyhbt::ranks(a, targets.data(), kTargets, found.data(), groups, within.data());
        expect(found == expected_ranks, name + ": ranks beside those within groups");
        expect(within == expected_within, name + ": ranks within groups");
      }
      for (int64_t q = 0; q < c.nq; ++q) {
        const std::vector<Candidate>& best = order[static_cast<size_t>(q)];
        const float* row = queries.data() + q * c.dim;
        const double norm = c.cosine ? std::sqrt(exact_score(row, row, c.dim)) : 1.0;
        for (int64_t r = 0; r < c.k; ++r) {
          const size_t at = static_cast<size_t>(q * c.k + r), place = static_cast<size_t>(r);
          const Candidate wanted = place < best.size() ? best[place] : Candidate{-INFINITY, -1};
          const double score = wanted.index < 0 || norm > 0 ? wanted.score / (norm > 0 ? norm : 1) : 0.0;
          expect(indices[at] == wanted.index, name + ": index");
          expect(exact[at] == wanted.score, name + ": exact score");
          expect(scores[at] == static_cast<float>(score), name + ": score");
        }
      }
    }
  }
}

// Sums of products near the end of int32.
void check_many_dims() {
  const int64_t dim = 140'000;
  std::vector<float> values(static_cast<size_t>(3 * dim), 1.0f);
  std::fill_n(values.begin(), dim, -1.0f);
  const std::vector<float> zeros(static_cast<size_t>(dim));
  const Corpus corpus(values, 3, dim, pyhbt::DType::kFloat32);
  Codes codes(corpus, false, 1);
  pyhbt::encode(corpus.embeddings(), false, zeros.data(), zeros.data(), codes.out(), 0, 1);
  pyhbt::CorpusCodes view = codes.view();
  view.centre = view.direction = zeros.data();
  for (const int64_t nq : {1, 2}) {
    pyhbt::SearchArguments a{};
    a.queries = {values.data() + dim, pyhbt::DType::kFloat32, nq, dim, 0};
    a.corpus = corpus.embeddings();
    a.codes = view;
    a.screening = pyhbt::Screening::kCodes;
    a.threads = 1;
    float scores[4];
    int64_t indices[4];
    pyhbt::search(a, 2, scores, indices);
    for (int64_t r = 0; r < 2 * nq; ++r)
      expect(indices[r] == r % 2 + 1 && scores[r] == static_cast<float>(dim), "search of many dims");
  }
}

void check_refusals() {
  const std::vector<float> values(12, 1.0f);
  std::vector<float> bad = values, scores(4);
  bad[5] = NAN;
  std::vector<int64_t> indices(4), positives{0, 9};
  const pyhbt::Embeddings two{values.data(), pyhbt::DType::kFloat32, 2, 4, 4},
      three{values.data(), pyhbt::DType::kFloat32, 3, 4, 4},
      spoiled{bad.data(), pyhbt::DType::kFloat32, 3, 4, 4},
      narrow{values.data(), pyhbt::DType::kFloat32, 3, 3, 4};
  pyhbt::SearchArguments good{};
  good.queries = two;
  good.corpus = three;
  good.threads = 1;
  const auto searching = [&](auto change, int64_t k = 1) {
    return [&, change, k] {
      pyhbt::SearchArguments a = good;
      change(a);
      pyhbt::search(a, k, scores.data(), indices.data());
    };
  };
  using Arguments = pyhbt::SearchArguments;
  expect_refusal(searching([](Arguments&) {}, 0), "k: found 0");
  expect_refusal(searching([&](Arguments& a) { a.queries = spoiled; }), "queries: row 1");
  expect_refusal(searching([&](Arguments& a) { a.corpus = spoiled; }), "corpus: row 1");
  expect_refusal(searching([&](Arguments& a) { a.corpus = narrow; }), "corpus: dim 3, expected 4");
  expect_refusal(searching([](Arguments& a) { a.queries.dim = a.corpus.dim = 0; }), "queries: dim 0");
  expect_refusal(searching([](Arguments& a) { a.threads = 0; }), "threads: found 0");
  expect_refusal(searching([](Arguments& a) { a.screening = pyhbt::Screening::kCodes; }),
                 "screening: by codes");
  expect_refusal([&] { pyhbt::ranks(good, positives.data(), 1, indices.data()); },
                 "targets: found 9 in row 1");
  const std::vector<int64_t> first = {0, 0, 0};
  for (const std::vector<int64_t>& ends :
       {std::vector<int64_t>{1, 2}, std::vector<int64_t>{2, 1, 3}, std::vector<int64_t>{-1, 3}}) {
    const pyhbt::Groups groups{ends.data(), static_cast<int64_t>(ends.size())};
    expect_refusal([&] { pyhbt::ranks(good, first.data(), 1, indices.data(), groups, indices.data()); },
                   "groups: found an end at");
  }

  const Corpus corpus(values, 3, 4, pyhbt::DType::kFloat32);
  Codes codes(corpus, false, 1);
  for (const bool cosine : {false, true})
    expect_refusal([&] { pyhbt::encode(spoiled, cosine, values.data(), values.data(), codes.out(), 70, 1); },
                   "corpus: row 71 holds a NaN");
}

// A call that would take minutes ends soon after the check has said so, on any thread.
void check_interrupt() {
  const std::vector<float> ones(8, 1.0f);
  const pyhbt::Embeddings many{ones.data(), pyhbt::DType::kFloat32, 100'000, 8, 0};
  std::vector<float> scores(100'000);
  std::vector<int64_t> indices(100'000), targets(100'000);
  pyhbt::interrupt_check = [] { return true; };
  for (const int threads : {1, 3}) {
    pyhbt::SearchArguments a{};
    a.queries = a.corpus = many;
    a.threads = threads;
    bool stopped = false;
    try {
      pyhbt::search(a, 1, scores.data(), indices.data());
    } catch (const pyhbt::Interrupted&) {
      stopped = true;
    }
    expect(stopped, "interrupt of a search");
    stopped = false;
    try {
      pyhbt::ranks(a, targets.data(), 1, indices.data());
    } catch (const pyhbt::Interrupted&) {
      stopped = true;
    }
    expect(stopped, "interrupt of ranks");
  }
  pyhbt::interrupt_check = nullptr;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1 && std::string(argv[1]) == "--levels") {
    for (const std::string& level : pyhbt::cpu::supported_levels()) std::printf("%s\n", level.c_str());
    return 0;
  }
  if (argc > 1 && std::string(argv[1]) == "--chosen") {
    try {
      std::printf("%s\n", pyhbt::cpu::kernels().name);
      return 0;
    } catch (const std::runtime_error& error) {
      std::fprintf(stderr, "%s\n", error.what());
      return 2;
    }
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
  check_widening();
  using pyhbt::DType;
  for (const int64_t n : {0, 1, 2, 7, 9, 33, 129, 1000}) {
    for (const bool cosine : {false, true}) {
      check_search({5, n, 9, 3, cosine, n > 0, DType::kFloat32, true});
      check_search({33, n, 17, n + 2, cosine, false, DType::kFloat32, n % 2 == 0});
    }
  }
  for (const int64_t nq : {1, 2, 3, 4, 5}) {
    check_search({nq, 1500, 65, 10, nq % 2 == 0, false, DType::kFloat16});
    check_search({nq, 2100, 7, 40, nq % 2 == 1, true, DType::kBFloat16});
  }
  for (const bool cosine : {false, true}) {
    check_search({40, 2300, 70, 20, cosine});  // three threads, and guesses of thresholds
    check_search({70, 2300, 40, 300, cosine, true, DType::kFloat16});
    // So many codes that few queries read nibbles first, in slices.
    for (const int64_t nq : {1, 2, 3, 4}) check_search({nq, 33'000, 70, 10, cosine, nq % 2 == 0});
    check_search(
        {9, 300, 17, 20, cosine, false, DType::kFloat32, false, 1e38f});  // norms and scores beyond float32
    check_search({9, 1100, 17, 20, cosine, true, DType::kFloat32, false, 1e18f});  // about where codes end
    check_search({9, 300, 17, 20, cosine, false, DType::kFloat32, false, 1e-42f});
  }
  check_products();
  check_subnormals();
  check_many_dims();
  check_interrupt();
  check_refusals();
  std::printf("all native tests passed\n");
  return 0;
}
