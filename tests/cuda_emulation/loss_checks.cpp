// The kernels of the rows and columns of the loss, each against plain float64 on the host.
#include "../../csrc/tile_math.h"
#include "checks.h"
#include "loss_rows.h"

namespace checks {
namespace {

using namespace pyhbt::cuda;
using pyhbt::DType;
using pyhbt::Embeddings;

constexpr DType kDTypes[] = {DType::kFloat32, DType::kFloat16, DType::kBFloat16};

// Small integers, which every dtype holds, with room between rows; one row of zeros, one too small to divide.
struct Numbers {
  int64_t rows, dim, stride;
  DType dtype;
  Array<float> wide;
  Array<uint16_t> halves;

  Numbers(int64_t rows_, int64_t dim_, DType dtype_)
      : rows(rows_), dim(dim_), stride(dim_ + 3), dtype(dtype_), wide(rows * stride), halves(rows * stride) {
    std::uniform_int_distribution<int> integer(-4, 4);
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t k = 0; k < dim; ++k) {
        float x = static_cast<float>(integer(generator));
        if (i == 3) x = 0;
        if (i == 4 && dtype == DType::kFloat32) x *= 1e-14f;
        wide[i * stride + k] = x;
        uint32_t bits;
        std::memcpy(&bits, &x, sizeof bits);
        halves[i * stride + k] = dtype == DType::kFloat16 ? half_bits(x) : static_cast<uint16_t>(bits >> 16);
      }
    }
  }
  Embeddings embeddings() {
    const void* data = dtype == DType::kFloat32 ? static_cast<void*>(wide.data()) : halves.data();
    return {data, dtype, rows, dim, stride};
  }
  double at(int64_t i, int64_t k) { return static_cast<double>(wide[i * stride + k]); }
  double norm(int64_t i) {
    double square = 0;
    for (int64_t k = 0; k < dim; ++k) square += at(i, k) * at(i, k);
    return std::max(1e-12, std::sqrt(square));
  }
  double dot(int64_t i, Numbers& other, int64_t j) {
    double sum = 0;
    for (int64_t k = 0; k < dim; ++k) sum += at(i, k) * other.at(j, k);
    return sum;
  }
};

// Rows of which some have no positive, some share one, and some have their groups.
struct RowsCase {
  int64_t rows, columns;
  Array<int64_t> positives, query_groups, passage_groups;
  Array<float> row_weights, row_factor, column_factor, limit, reference, weight, own;
  Array<double> scores, logsumexp, losses;
  Array<unsigned> refused;
  double temperature = 0.25, share = 0.5;

  RowsCase(int64_t rows_, int64_t columns_)
      : rows(rows_),
        columns(columns_),
        positives(rows),
        query_groups(rows),
        passage_groups(columns),
        row_weights(rows),
        row_factor(rows),
        column_factor(columns),
        limit(rows),
        reference(rows),
        weight(rows),
        own(rows),
        scores(rows),
        logsumexp(rows),
        losses(rows),
        refused(2, 0u) {
    std::normal_distribution<double> normal;
    for (int64_t i = 0; i < rows; ++i) {
      positives[i] = i % 6 == 5 ? -1 : i % 4 == 0 ? 0 : i * 5 % columns;
      query_groups[i] = i % 3 == 0 ? i % 2 : -1;
      row_weights[i] = 0.5f + 0.25f * static_cast<float>(i % 3);
      scores[i] = 3 * normal(generator);
      logsumexp[i] = i % 9 == 2 ? -INFINITY : 3 * normal(generator);
    }
    for (int64_t j = 0; j < columns; ++j) passage_groups[j] = j % 3 == 0 ? j % 2 : -1;
  }
  LossRows loss_rows(bool grouped = true) {
    return {.rows = rows,
            .columns = columns,
            .positives = positives.data(),
            .query_groups = grouped ? query_groups.data() : nullptr,
            .passage_groups = grouped ? passage_groups.data() : nullptr,
            .row_weights = row_weights.data(),
            .temperature = temperature,
            .temperature_at = nullptr,
            .margin = 0.5,
            .share = share,
            .refused = refused.data(),
            .scores = scores.data(),
            .logsumexp = logsumexp.data(),
            .losses = losses.data(),
            .row_factor = row_factor.data(),
            .column_factor = nullptr,
            .limit = limit.data(),
            .reference = reference.data(),
            .weight = weight.data(),
            .own = own.data()};
  }
  double weight_of(int64_t i) { return static_cast<double>(row_weights[i]); }
  double delta(int64_t i) { return scores[i] == INFINITY ? NAN : logsumexp[i] - scores[i]; }
};

double at(Array<float>& x, int64_t i) { return static_cast<double>(x[i]); }

void expect_near(const char* scenario, const char* what, int64_t i, double found, double wanted,
                 double unit) {
  expect_close(scenario, what, i, found, wanted, unit * (std::abs(wanted) + 1e-30));
}

constexpr double kFloat = 1e-7, kDouble = 1e-12;  // relative: of numbers that were rounded once, and of sums

// How the temperature is given, and whether it is one.
enum class Heat { kValue, kOnDevice, kBad };

void check_start(int64_t rows, int64_t columns, DType dtype, bool cosine, bool margin, Heat heat) {
  Numbers queries(rows, 37, dtype), passages(columns, 37, dtype);
  RowsCase given(rows, columns);
  const int64_t bad_row = rows > 9 ? 9 : rows > 7 ? 7 : -1;
  if (bad_row == 7) given.positives[7] = columns;  // a passage that is none, and must not be read
  if (bad_row == 9) given.positives[9] = rows > 20 ? -2 : columns + 1;
  Array<double> temperature(1, heat == Heat::kBad ? -0.25 : 0.25);
  LossRows loss = given.loss_rows();
  if (cosine) loss.column_factor = given.column_factor.data();
  if (!margin) loss.limit = nullptr;
  if (heat != Heat::kValue) loss.temperature_at = temperature.data(), loss.temperature = 7;
  start_rows(queries.embeddings(), passages.embeddings(), loss, nullptr);
  const double t = heat == Heat::kBad ? NAN : 0.25;
  expect(given.refused[0] == (bad_row >= 0), "start", "refused", 0, given.refused[0], bad_row >= 0);
  expect(given.refused[1] == (heat == Heat::kBad), "start", "refused", 1, given.refused[1],
         heat == Heat::kBad);
  for (int64_t i = 0; i < rows; ++i) {
    const int64_t j = given.positives[i];
    const bool absent = j < 0, unknown = j >= columns;
    const double size = cosine ? queries.norm(i) : 1.0;
    const double similarity =
        absent || unknown ? NAN : queries.dot(i, passages, j) / size / (cosine ? passages.norm(j) : 1.0);
    expect_near("start", "score", i, given.scores[i], absent ? 0 : similarity / t, kDouble);
    expect_near("start", "factor", i, at(given.row_factor, i), absent ? 0 : 1 / (size * t), kFloat);
    expect_near("start", "limit", i, at(given.limit, i),
                !margin  ? NAN
                : absent ? 0
                         : (similarity + 0.5) / t,
                kFloat);
  }
  for (int64_t j = 0; j < columns; ++j)
    expect_near("start", "column factor", j, at(given.column_factor, j), cosine ? 1 / passages.norm(j) : NAN,
                kFloat);
}

void check_solve(int64_t rows, int64_t first, int64_t last) {
  RowsCase given(rows, 9);
  if (rows > 4) given.scores[4] = INFINITY;
  if (rows > 3) given.logsumexp[3] = INFINITY;
  solve_rows(given.loss_rows(), first, last, nullptr);
  for (int64_t i = 0; i < rows; ++i) {
    double loss = NAN, weight = NAN, reference = NAN;
    if (i >= first && i < last) {
      loss = weight = reference = 0;
      if (given.positives[i] >= 0) {
        loss = 0.5 * pyhbt::softplus(given.delta(i));
        weight = 0.5 * given.weight_of(i) / (1 + std::exp(-given.delta(i)));
        if (given.logsumexp[i] != -INFINITY) reference = given.logsumexp[i];
      }
    }
    expect_near("solve", "loss", i, given.losses[i], loss, kDouble);
    expect_near("solve", "weight", i, at(given.weight, i), weight, kFloat);
    expect_near("solve", "own", i, at(given.own, i), -weight, kFloat);
    expect_near("solve", "reference", i, at(given.reference, i), reference, kFloat);
  }
}

void check_columns(int64_t rows, int64_t columns, bool grouped, bool distinct) {
  RowsCase given(rows, columns);
  for (int64_t i = 0; distinct && i < rows; ++i) given.positives[i] = i;
  if (!distinct && rows > 8) given.positives[8] = columns;  // no passage
  Array<double> base(columns);
  for (int64_t j = 0; j < columns; ++j)
    base[j] = j % 5 == 4 ? -INFINITY : std::normal_distribution<double>()(generator) + (j % 2 == 0 ? 3 : -3);
  std::vector<int64_t> sorted;
  for (int64_t i = 0; i < rows; ++i) sorted.push_back(i);
  std::stable_sort(sorted.begin(), sorted.end(),
                   [&](int64_t a, int64_t b) { return given.positives[a] < given.positives[b]; });
  Array<int64_t> order(rows);
  for (int64_t i = 0; i < rows; ++i) order[i] = sorted[static_cast<size_t>(i)];
  Array<float> column_weight(columns, 0.0f);
  const LossRows loss = given.loss_rows(grouped);
  solve_rows(loss, 0, rows, nullptr);
  Array<double> before(rows);
  for (int64_t i = 0; i < rows; ++i) before[i] = given.losses[i];
  solve_columns(loss, base.data(), distinct ? nullptr : order.data(), column_weight.data(), nullptr);
  for (int64_t j = 0; j < columns; ++j) {
    std::vector<int64_t> here;
    for (int64_t i = 0; i < rows; ++i)
      if (given.positives[i] == j) here.push_back(i);
    const auto taken = [&](int64_t i) {
      return !(grouped && given.passage_groups[j] >= 0 && given.passage_groups[j] == given.query_groups[i]);
    };
    // Of each row the loss is that of its score among the base and the other candidates.
    std::vector<double> rest, gradient(here.size(), 0.0);
    double weight = 0;
    for (const int64_t i : here) {
      double sum = std::exp(base[j]);
      for (const int64_t other : here)
        if (other != i && taken(other)) sum += std::exp(given.scores[other]);
      rest.push_back(sum);
    }
    for (size_t at_row = 0; at_row < here.size(); ++at_row) {
      const int64_t i = here[at_row];
      const double pull = 0.5 * given.weight_of(i) / (rest[at_row] + std::exp(given.scores[i]));
      weight += pull * std::exp(base[j]);
      gradient[at_row] -= pull * rest[at_row];
      for (size_t other = 0; other < here.size(); ++other)
        if (other != at_row && taken(here[other]))
          gradient[other] += pull * std::exp(given.scores[here[other]]);
    }
    expect_near("columns", "weight", j, at(column_weight, j), weight, kFloat);
    for (size_t at_row = 0; at_row < here.size(); ++at_row) {
      const int64_t i = here[at_row];
      const double own = gradient[at_row] - 0.5 * given.weight_of(i) / (1 + std::exp(-given.delta(i)));
      expect_close("columns", "own", i, at(given.own, i), own, 1e-7 * (1 + std::abs(own)));
      const double more = 0.5 * std::log1p(rest[at_row] / std::exp(given.scores[i]));
      expect_close("columns", "loss", i, given.losses[i], before[i] + more, 1e-11 * (1 + more));
    }
  }
  for (int64_t i = 0; i < rows; ++i) {
    if (given.positives[i] >= 0 && given.positives[i] < columns) continue;
    expect_close("columns", "loss", i, given.losses[i], before[i], 0);
    if (given.positives[i] < 0) expect_close("columns", "own", i, at(given.own, i), 0, 0);
  }
}

// Of infinite and missing numbers a loss is what it is in torch's cross-entropy.
void check_columns_of_nan() {
  RowsCase given(3, 3);
  for (int64_t i = 0; i < 3; ++i) given.positives[i] = i;
  Array<double> base(3, 1.0);
  Array<float> column_weight(3, 0.0f);
  given.scores[0] = NAN;
  base[1] = NAN;
  const LossRows loss = given.loss_rows(false);
  solve_rows(loss, 0, 3, nullptr);
  solve_columns(loss, base.data(), nullptr, column_weight.data(), nullptr);
  for (int64_t i = 0; i < 3; ++i) {
    expect(std::isnan(given.losses[i]) == (i < 2), "columns", "loss of NaN", i, given.losses[i], NAN);
    expect(std::isnan(column_weight[i]) == (i < 2), "columns", "weight of NaN", i, at(column_weight, i), NAN);
  }
  RowsCase shared(2, 1);
  shared.positives[0] = shared.positives[1] = 0;
  shared.scores[1] = NAN;
  Array<int64_t> order(2, 0);
  order[1] = 1;
  Array<double> below(1, 1.0);
  const LossRows both = shared.loss_rows(false);
  solve_rows(both, 0, 2, nullptr);
  solve_columns(both, below.data(), order.data(), column_weight.data(), nullptr);
  for (int64_t i = 0; i < 2; ++i)
    expect(std::isnan(shared.losses[i]), "columns", "loss beside NaN", i, shared.losses[i], NAN);
}

void check_gain(int64_t rows, int64_t columns, bool factors, float size) {
  RowsCase given(rows, columns);
  Array<float> gain(1);
  double weight = 0, row_factor = 0, column_factor = factors ? 0 : 1;
  for (int64_t i = 0; i < rows; ++i) {
    given.row_factor[i] = size * static_cast<float>(1 + i % 5);
    if (i % 2 == 0) given.row_weights[i] *= -1;
    if (given.positives[i] < 0) given.row_weights[i] = given.row_factor[i] = INFINITY;  // takes no part
    if (given.positives[i] < 0) continue;
    weight = std::max(weight, std::abs(given.weight_of(i)));
    row_factor = std::max(row_factor, at(given.row_factor, i));
  }
  for (int64_t j = 0; j < columns; ++j) {
    given.column_factor[j] = 0.1f * static_cast<float>(j + 1);
    if (factors) column_factor = std::max(column_factor, at(given.column_factor, j));
  }
  LossRows loss = given.loss_rows();
  if (factors) loss.column_factor = given.column_factor.data();
  choose_gain(loss, gain.data(), nullptr);
  const double largest = weight * row_factor * column_factor;
  const bool usual = std::isfinite(largest) && largest > 0;
  const double wanted = usual ? std::exp2(std::floor(std::log2(64 / largest))) : 1.0;
  expect(at(gain, 0) == wanted, "gain", "of", rows, at(gain, 0), wanted);
}

void check_end(int64_t rows, DType dtype, bool cosine, bool with_gain, bool with_moments) {
  Numbers given(rows, 45, dtype);
  Array<float> gradient(rows * 45), before(rows * 45), gain(1, 4.0f);
  fill(gradient, 1.0f);
  for (int64_t at_ = 0; at_ < rows * 45; ++at_) before[at_] = gradient[at_];
  Array<double> moments(rows);
  end_gradient(given.embeddings(), cosine, with_gain ? gain.data() : nullptr, gradient.data(),
               with_moments ? moments.data() : nullptr, nullptr);
  for (int64_t i = 0; i < rows; ++i) {
    double dot = 0;
    for (int64_t k = 0; k < 45; ++k) dot += given.at(i, k) * at(before, i * 45 + k);
    const double scale = with_gain ? 0.25 : 1.0, norm = given.norm(i);
    expect_close("end", "moment", i, moments[i], with_moments ? dot * scale : NAN,
                 1e-12 * (1 + std::abs(dot)));
    for (int64_t k = 0; k < 45; ++k) {
      double wanted = at(before, i * 45 + k);
      if (cosine && norm > 1e-12) wanted -= given.at(i, k) * dot / (norm * norm);
      expect_close("end", "gradient", i * 45 + k, at(gradient, i * 45 + k), wanted * scale, 3e-7);
    }
  }
}

void check_total(int64_t rows, bool with_moments, bool on_device) {
  RowsCase given(rows, 5);
  Array<double> moments(rows), found_temperature(1), temperature(1, 0.125);
  Array<float> loss_rows(rows), loss(1);
  double total = 0, moment = 0;
  for (int64_t i = 0; i < rows; ++i) {
    given.losses[i] = given.positives[i] < 0 ? 0 : std::abs(given.scores[i]);
    if (given.positives[i] < 0) given.row_weights[i] = NAN;  // takes no part
    moments[i] = 0.5 * given.scores[i] + 0.1;
    if (given.positives[i] >= 0) total += given.losses[i] * given.weight_of(i);
    moment += moments[i];
  }
  LossRows rows_of = given.loss_rows();
  if (on_device) rows_of.temperature_at = temperature.data();
  total_rows(rows_of,
             {.moments = with_moments ? moments.data() : nullptr,
              .loss_rows = loss_rows.data(),
              .loss = loss.data(),
              .temperature = found_temperature.data()},
             nullptr);
  expect_near("total", "loss", rows, at(loss, 0), total, kFloat);
  const double t = on_device ? 0.125 : 0.25;
  expect_close("total", "temperature", rows, found_temperature[0], with_moments ? -moment / t : 0.0,
               1e-10 * static_cast<double>(rows));
  for (int64_t i = 0; i < rows; ++i)
    expect_close("total", "row", i, at(loss_rows, i),
                 static_cast<double>(static_cast<float>(given.losses[i])), 0);
}

}  // namespace

void test_start() {
  for (const DType dtype : kDTypes) {
    if (kShort && dtype != DType::kFloat16) continue;
    check_start(11, 13, dtype, true, true, Heat::kValue);
    if (kShort) continue;
    check_start(8, 6, dtype, false, false, Heat::kOnDevice);
    check_start(33, 6, dtype, false, true, Heat::kBad);
    check_start(1, 1, dtype, true, false, Heat::kValue);
  }
}

void test_solve() {
  check_solve(kShort ? 20 : 300, 0, kShort ? 20 : 300);
  if (kShort) return;
  check_solve(600, 32, 320);
  check_solve(1, 0, 1);
}

void test_columns() {
  check_columns(kShort ? 40 : 230, kShort ? 7 : 29, true, false);
  check_columns_of_nan();
  if (kShort) return;
  for (const bool grouped : {false, true}) {
    check_columns(40, 45, grouped, true);
    check_columns(129, 1, grouped, false);  // all share one, of several steps of the warp
    check_columns(64, 2, grouped, false);
    check_columns(1, 1, grouped, false);
  }
}

void test_gain() {
  check_gain(kShort ? 40 : 1500, 9, true, 1.0f);
  if (kShort) return;
  check_gain(3, 1100, true, 100.0f);
  check_gain(40, 9, false, 0.3f);
  check_gain(40, 9, false, 0.0f);
  check_gain(1, 1, true, INFINITY);
}

void test_end() {
  for (const DType dtype : kDTypes) {
    if (kShort && dtype != DType::kBFloat16) continue;
    check_end(11, dtype, true, true, true);
    if (kShort) continue;
    check_end(8, dtype, true, false, false);
    check_end(8, dtype, false, true, false);
    check_end(1, dtype, false, false, true);
  }
}

void test_total() {
  check_total(kShort ? 50 : 1500, true, false);
  if (kShort) return;
  check_total(1, false, true);
  check_total(1024, true, true);
}

}  // namespace checks
