// The kernels of the contrastive loss against plain float64 on the host.
#include "contrastive.h"

#include "checks.h"

namespace checks {
namespace {

using namespace pyhbt::cuda;
using pyhbt::DType;
double logsumexp(const std::vector<double>& scores) {
  for (const double score : scores)
    if (std::isnan(score)) return score;
  const double top = scores.empty() ? -INFINITY : *std::max_element(scores.begin(), scores.end());
  if (top == -INFINITY) return top;
  double sum = 0;
  for (const double score : scores) sum += std::exp(score - top);
  return top + std::log(sum);
}

// A panel with everything: factors, rows without a positive, groups, limits, one of them met exactly. Bare, it
// has what every panel has.
struct PanelCase {
  int64_t rows, columns;
  bool bare;
  Array<float> dots, row_factor, column_factor, limit;
  Array<int64_t> positives, query_groups, passage_groups;

  PanelCase(int64_t rows_, int64_t columns_, bool bare_ = false)
      : rows(rows_),
        columns(columns_),
        bare(bare_),
        dots(rows * columns),
        row_factor(rows),
        column_factor(columns),
        limit(rows),
        positives(rows),
        query_groups(rows),
        passage_groups(columns) {
    fill(dots, 1.0f);
    std::uniform_real_distribution<float> factor(0.5f, 4.0f);
    for (int64_t i = 0; i < rows; ++i) {
      row_factor[i] = factor(generator);
      limit[i] = 6.0f;
      positives[i] = i % 5 == 3 ? -1 : (i * 7) % columns;
      query_groups[i] = i % 4 == 0 ? -1 : i % 9;
    }
    for (int64_t j = 0; j < columns; ++j) {
      column_factor[j] = factor(generator);
      passage_groups[j] = j % 6 == 0 ? -1 : j % 11;
    }
    for (int64_t i = 0; i < rows; i += 3)
      limit[i] = std::min(6.0f, static_cast<float>(score(i, (i + 1) % columns)));
  }

  Panel panel() {
    return {.dots = dots.data(),
            .rows = rows,
            .columns = columns,
            .row_factor = row_factor.data(),
            .column_factor = bare ? nullptr : column_factor.data(),
            .positives = positives.data(),
            .query_groups = bare ? nullptr : query_groups.data(),
            .passage_groups = bare ? nullptr : passage_groups.data(),
            .limit = bare ? nullptr : limit.data()};
  }
  double score(int64_t i, int64_t j) {
    return static_cast<double>(dots[i * columns + j] * (row_factor[i] * (bare ? 1.0f : column_factor[j])));
  }
  bool negative(int64_t i, int64_t j) {
    if (positives[i] < 0 || positives[i] == j) return false;
    if (bare) return true;
    return !(passage_groups[j] >= 0 && passage_groups[j] == query_groups[i]) &&
           !(score(i, j) > static_cast<double>(limit[i]));
  }
};

const std::vector<std::pair<int64_t, int64_t>> kPanelShapes =
    kShort ? std::vector<std::pair<int64_t, int64_t>>{{33, 130}}
           : std::vector<std::pair<int64_t, int64_t>>{{1, 1},    {1, 129},  {31, 127}, {32, 128}, {33, 128},
                                                      {64, 256}, {65, 257}, {70, 300}, {2, 1100}};

}  // namespace

namespace {

void check_logsumexp(PanelCase& given, bool with_columns) {
  const int64_t rows = given.rows, columns = given.columns;
  const int64_t row_tiles = (rows + kPanelTileRows - 1) / kPanelTileRows;
  const int64_t column_tiles = (columns + kPanelTileColumns - 1) / kPanelTileColumns;
  Array<float2> row_partials(column_tiles * rows), column_partials(row_tiles * columns);
  Array<unsigned> tickets(row_tiles, 0);
  Array<double> by_row(rows), by_column(columns);
  std::vector<std::vector<double>> in_columns(static_cast<size_t>(columns));
  for (int round = 0; round < (kShort ? 2 : 6); ++round) {  // tickets are ready for the next; columns go on
    panel_logsumexp(given.panel(),
                    {.row_partials = row_partials.data(),
                     .row_tickets = tickets.data(),
                     .row_logsumexp = by_row.data(),
                     .column_partials = with_columns ? column_partials.data() : nullptr},
                    nullptr);
    if (with_columns)
      merge_columns(column_partials.data(), row_tiles, columns, round == 0, by_column.data(), nullptr);
    for (int64_t i = 0; i < rows; ++i) {
      std::vector<double> scores;
      for (int64_t j = 0; j < columns; ++j) {
        if (!given.negative(i, j)) continue;
        scores.push_back(given.score(i, j));
        in_columns[static_cast<size_t>(j)].push_back(given.score(i, j));
      }
      expect_close("logsumexp", "row", i, by_row[i], logsumexp(scores), 4e-6);
    }
    for (int64_t j = 0; with_columns && j < columns; ++j)
      expect_close("logsumexp", "column", j, by_column[j], logsumexp(in_columns[static_cast<size_t>(j)]),
                   4e-6);
    fill(given.dots, 2.0f);
    if (round == 1) {  // some that exp would overflow on, and some that are not there
      for (int64_t at = 0; at < rows * columns; ++at) given.dots[at] *= at % 11 == 4 ? 40.0f : 1.0f;
      for (int64_t at = 0; at < rows * columns; at += 29) given.dots[at] = -INFINITY;
    } else if (round == 2) {  // all that exp would lose
      for (int64_t at = 0; at < rows * columns; ++at) given.dots[at] = -200.0f - std::abs(given.dots[at]);
    } else if (round == 3) {
      for (int64_t i = 2; i < rows; i += 7) given.dots[i * columns + i * 11 % columns] = NAN;
    } else if (round == 4) {  // one NaN where nothing else is
      std::fill_n(given.dots.data(), rows * columns, -INFINITY);
      for (int64_t i = 0; i < rows; ++i) given.dots[i * columns + i * 11 % columns] = NAN;
      std::fill_n(by_column.data(), columns, -INFINITY);
      for (auto& scores : in_columns) scores.clear();
    }
  }
}

}  // namespace

void test_logsumexp() {
  for (const auto& [rows, columns] : kPanelShapes) {
    PanelCase given(rows, columns);
    check_logsumexp(given, true);
    PanelCase bare(rows, columns, true);
    std::fill_n(bare.dots.data(), rows * columns, 0.0f);  // some columns have a logsumexp of 0 to go on from
    check_logsumexp(bare, columns % 2 == 1);              // without columns there is a barrier less
  }
}

namespace {

double wide(DType dtype, void* out, int64_t at) {
  if (dtype == DType::kFloat32) return static_cast<double>(static_cast<float*>(out)[at]);
  const uint16_t bits = static_cast<uint16_t*>(out)[at];
  if (dtype == DType::kFloat16) return static_cast<double>(from_half_bits(bits));
  const uint32_t high = static_cast<uint32_t>(bits) << 16;
  float x;
  std::memcpy(&x, &high, sizeof x);
  return static_cast<double>(x);
}

}  // namespace

namespace {

void check_gradient(PanelCase& given, DType dtype, bool with_columns, bool with_gain) {
  const int64_t rows = given.rows, columns = given.columns;
  Array<float> reference(rows), weight(rows), own(rows), column_weight(columns);
  Array<double> column_logsumexp(columns);
  for (Array<float>* x : {&reference, &weight, &own, &column_weight}) fill(*x, 0.5f);
  for (int64_t j = 0; j < columns; ++j) {
    column_logsumexp[j] = 0.5 * static_cast<double>(column_weight[j]) + 0.1;
    if (j % 7 == 2) column_weight[j] = 0, column_logsumexp[j] = j % 2 == 0 ? -INFINITY : NAN;  // not read
  }
  Array<float> gain(1, 0.25f), out(rows * columns);
  for (int64_t i = 1; given.bare && i < rows; i += 2) {  // exp overflows without the reference
    reference[i] = 100.0f;
    for (int64_t j = 0; j < columns; ++j) given.dots[i * columns + j] += 100.0f / given.row_factor[i];
  }
  panel_gradient(given.panel(),
                 {.row_reference = reference.data(),
                  .row_weight = weight.data(),
                  .own = own.data(),
                  .column_logsumexp = with_columns ? column_logsumexp.data() : nullptr,
                  .column_weight = with_columns ? column_weight.data() : nullptr,
                  .gain = with_gain ? gain.data() : nullptr,
                  .out = out.data(),
                  .dtype = dtype},
                 nullptr);
  const double unit = dtype == DType::kFloat32 ? 2e-6 : dtype == DType::kFloat16 ? 1e-3 : 8e-3;
  const auto value = [](Array<float>& x, int64_t at) { return static_cast<double>(x[at]); };
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < columns; ++j) {
      double slope = 0, size = 0;
      if (given.positives[i] == j) {
        slope = size = value(own, i);
      } else if (given.negative(i, j)) {
        const double row = value(weight, i) * std::exp(given.score(i, j) - value(reference, i));
        const double column =
            with_columns && column_weight[j] != 0
                ? value(column_weight, j) * std::exp(given.score(i, j) - column_logsumexp[j])
                : 0.0;
        slope = row + column;
        size = std::abs(row) + std::abs(column);
      }
      const double factor = (with_gain ? 0.25 : 1.0) * value(given.row_factor, i) *
                            (given.bare ? 1.0 : value(given.column_factor, j));
      expect_close("gradient", "entry", i * columns + j, wide(dtype, out.data(), i * columns + j),
                   slope * factor, unit * std::abs(size * factor) + 1e-7);
    }
  }
}

}  // namespace

void test_gradient() {
  for (const auto& [rows, columns] : kPanelShapes) {
    for (const auto dtype : {DType::kFloat32, DType::kFloat16, DType::kBFloat16}) {
      if (kShort && dtype != DType::kFloat16) continue;
      PanelCase given(rows, columns);
      check_gradient(given, dtype, true, true);
      if (kShort || dtype == DType::kFloat16) continue;  // scores without a limit overflow float16
      PanelCase bare(rows, columns, true);
      check_gradient(bare, dtype, false, false);
    }
  }
}

void test_multiply() {
  using Shape = std::array<int64_t, 3>;
  const std::vector<Shape> shapes =
      kShort ? std::vector<Shape>{{65, 70, 17}}
             : std::vector<Shape>{{1, 1, 1}, {65, 70, 17}, {3, 130, 40}, {64, 64, 16}, {63, 128, 32}};
  for (const auto& [rows, columns, dim] : shapes) {
    Array<float> left(rows * dim), right(columns * dim), out(rows * columns);
    fill(left, 1.0f);
    fill(right, 1.0f);
    multiply_rows(left.data(), rows, right.data(), columns, dim, out.data(), nullptr);
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t j = 0; j < columns; ++j) {
        double sum = 0;
        for (int64_t k = 0; k < dim; ++k)
          sum += static_cast<double>(left[i * dim + k]) * static_cast<double>(right[j * dim + k]);
        expect_close("multiply", "entry", i * columns + j, static_cast<double>(out[i * columns + j]), sum,
                     1e-5);
      }
    }
  }
}

}  // namespace checks
