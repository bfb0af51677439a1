// Every kernel of csrc/cuda on the emulator, against plain float64 on the host. Run by run.py in several
// orders of threads, under sanitizers, and with mistakes sown into the kernels.
//   usage: emulation_tests [SCENARIO...]; without one, all
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "../../csrc/tile_math.h"
#include "contrastive.h"
#include "search.h"

namespace {

using namespace pyhbt::cuda;
using pyhbt::DType;
using pyhbt::Embeddings;
using pyhbt::SearchFilter;

int failures = 0;

void expect(bool good, const char* scenario, const char* what, int64_t at, double found, double wanted) {
  if (good) return;
  if (++failures <= 20)
    std::printf("%s: %s[%lld]: found %.17g, expected %.17g\n", scenario, what, static_cast<long long>(at),
                found, wanted);
}

void expect_close(const char* scenario, const char* what, int64_t at, double found, double wanted,
                  double budget) {
  expect(std::abs(found - wanted) <= budget || found == wanted, scenario, what, at, found, wanted);
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

std::mt19937 generator(7);

void fill(Array<float>& x, float scale) {
  std::normal_distribution<float> normal;
  for (int64_t i = 0; i < x.size(); ++i) x[i] = scale * normal(generator);
}

double logsumexp(const std::vector<double>& scores) {
  const double top = scores.empty() ? -INFINITY : *std::max_element(scores.begin(), scores.end());
  if (top == -INFINITY) return top;
  double sum = 0;
  for (const double score : scores) sum += std::exp(score - top);
  return top + std::log(sum);
}

// A panel with everything: factors, rows without a positive, groups, limits.
struct PanelCase {
  int64_t rows, columns;
  Array<float> dots, row_factor, column_factor, limit;
  Array<int64_t> positives, query_groups, passage_groups;

  PanelCase(int64_t rows_, int64_t columns_)
      : rows(rows_),
        columns(columns_),
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
  }

  Panel panel() {
    return {.dots = dots.data(),
            .rows = rows,
            .columns = columns,
            .row_factor = row_factor.data(),
            .column_factor = column_factor.data(),
            .positives = positives.data(),
            .query_groups = query_groups.data(),
            .passage_groups = passage_groups.data(),
            .limit = limit.data()};
  }
  double score(int64_t i, int64_t j) {
    return static_cast<double>(dots[i * columns + j] * (row_factor[i] * column_factor[j]));
  }
  bool negative(int64_t i, int64_t j) {
    return positives[i] >= 0 && positives[i] != j &&
           !(passage_groups[j] >= 0 && passage_groups[j] == query_groups[i]) &&
           !(score(i, j) > static_cast<double>(limit[i]));
  }
};

#if defined(__SANITIZE_THREAD__)  // every thread of every block is a new one to it, which takes its time
constexpr bool kShort = true;
const std::vector<std::pair<int64_t, int64_t>> kPanelShapes = {{33, 130}};
#else
constexpr bool kShort = false;
const std::vector<std::pair<int64_t, int64_t>> kPanelShapes = {{1, 1}, {1, 129}, {33, 128}, {70, 300}};
#endif

void test_logsumexp() {
  for (const auto& [rows, columns] : kPanelShapes) {
    PanelCase given(rows, columns);
    const int64_t row_tiles = (rows + kPanelTileRows - 1) / kPanelTileRows;
    const int64_t column_tiles = (columns + kPanelTileColumns - 1) / kPanelTileColumns;
    Array<float2> row_partials(column_tiles * rows), column_partials(row_tiles * columns);
    Array<unsigned> tickets(row_tiles, 0);
    Array<double> by_row(rows), by_column(columns, -INFINITY);
    std::vector<std::vector<double>> in_columns(static_cast<size_t>(columns));
    for (int round = 0; round < 2; ++round) {  // tickets are ready for the next; columns go on
      panel_logsumexp(given.panel(),
                      {.row_partials = row_partials.data(),
                       .row_tickets = tickets.data(),
                       .row_logsumexp = by_row.data(),
                       .column_partials = column_partials.data()},
                      nullptr);
      merge_columns(column_partials.data(), row_tiles, columns, by_column.data(), nullptr);
      for (int64_t i = 0; i < rows; ++i) {
        std::vector<double> scores;
        for (int64_t j = 0; j < columns; ++j) {
          if (!given.negative(i, j)) continue;
          scores.push_back(given.score(i, j));
          in_columns[static_cast<size_t>(j)].push_back(given.score(i, j));
        }
        expect_close("logsumexp", "row", i, by_row[i], logsumexp(scores), 4e-6);
      }
      for (int64_t j = 0; j < columns; ++j)
        expect_close("logsumexp", "column", j, by_column[j], logsumexp(in_columns[static_cast<size_t>(j)]),
                     4e-6);
      fill(given.dots, 2.0f);
    }
  }
}

double wide(DType dtype, void* out, int64_t at) {
  if (dtype == DType::kFloat32) return static_cast<double>(static_cast<float*>(out)[at]);
  const uint16_t bits = static_cast<uint16_t*>(out)[at];
  return static_cast<double>(dtype == DType::kFloat16 ? from_half_bits(bits) : from_bfloat_bits(bits));
}

void test_gradient() {
  for (const auto& [rows, columns] : kPanelShapes) {
    for (const auto dtype : {DType::kFloat32, DType::kFloat16, DType::kBFloat16}) {
      if (kShort && dtype != DType::kFloat16) continue;
      PanelCase given(rows, columns);
      Array<float> reference(rows), weight(rows), own(rows), column_reference(columns),
          column_weight(columns);
      for (Array<float>* x : {&reference, &weight, &own, &column_reference, &column_weight}) fill(*x, 0.5f);
      Array<float> gain(1, 0.25f), out(rows * columns);
      panel_gradient(given.panel(),
                     {.row_reference = reference.data(),
                      .row_weight = weight.data(),
                      .own = own.data(),
                      .column_reference = column_reference.data(),
                      .column_weight = column_weight.data(),
                      .gain = gain.data(),
                      .out = out.data(),
                      .dtype = dtype},
                     nullptr);
      const double unit = dtype == DType::kFloat32 ? 2e-6 : dtype == DType::kFloat16 ? 1e-3 : 8e-3;
      for (int64_t i = 0; i < rows; ++i) {
        for (int64_t j = 0; j < columns; ++j) {
          const auto value = [](Array<float>& x, int64_t at) { return static_cast<double>(x[at]); };
          double slope = 0, size = 0;
          if (given.positives[i] == j) {
            slope = size = value(own, i);
          } else if (given.negative(i, j)) {
            const double row = value(weight, i) * std::exp(given.score(i, j) - value(reference, i));
            const double column =
                value(column_weight, j) * std::exp(given.score(i, j) - value(column_reference, j));
            slope = row + column;
            size = std::abs(row) + std::abs(column);
          }
          const double factor = 0.25 * value(given.row_factor, i) * value(given.column_factor, j);
          expect_close("gradient", "entry", i * columns + j, wide(dtype, out.data(), i * columns + j),
                       slope * factor, unit * std::abs(size * factor) + 1e-7);
        }
      }
    }
  }
}

void test_multiply() {
  for (const auto& [rows, columns, dim] :
       std::vector<std::array<int64_t, 3>>{{1, 1, 1}, {65, 70, 17}, {3, 130, 40}}) {
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

// The order of summation that defines a score.
double exact_dot(const float* a, const float* b, int64_t dim) {
  double lanes[8] = {};
  for (int64_t i = 0; i < dim; ++i) lanes[i % 8] += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  return ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])) + ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7]));
}

// Queries, passages and what screening says of them: integer-valued, so that ties abound, and given in
// float32 with an error bound that is far too wide, so that the exact kernels decide.
struct SearchCase {
  int64_t queries, passages, dim, capacity;
  Array<float> query_rows, passage_rows, scores, code_error, query_size, passage_size, passage_error, scale;
  Array<uint8_t> allowed;
  Array<int32_t> query_partitions, partitions, listed, counts, scored, lost;
  Array<int64_t> excluded;
  Array<double> exact;

  SearchCase(int64_t queries_, int64_t passages_, int64_t dim_, int64_t capacity_)
      : queries(queries_),
        passages(passages_),
        dim(dim_),
        capacity(capacity_),
        query_rows(queries * dim),
        passage_rows(passages * dim),
        scores(queries * passages),
        code_error(queries, 0.5f),
        query_size(queries, 1.0f),
        passage_size(passages, 1.0f),
        passage_error(passages, 0.25f),
        scale(passages, 1.0f),
        allowed(passages, 1),
        query_partitions(queries * 3, 1),
        partitions(passages),
        listed(queries * capacity),
        counts(queries, 0),
        scored(queries, 0),
        lost(queries, 0),
        excluded(queries * 2, -1),
        exact(queries * capacity) {
    std::uniform_int_distribution<int> integer(-2, 2);
    for (Array<float>* rows : {&query_rows, &passage_rows})
      for (int64_t i = 0; i < rows->size(); ++i) (*rows)[i] = static_cast<float>(integer(generator));
    for (int64_t j = 0; j < passages; ++j) {
      allowed[j] = j % 13 != 5;
      partitions[j] = static_cast<int32_t>(j % 3);
    }
    for (int64_t i = 0; i < queries; ++i) {
      for (int64_t p = 0, place = 1; p < 3; ++p)
        if (p != i % 3) query_partitions[i * 3 + place++] = static_cast<int32_t>(p);
      query_partitions[i * 3] = -1;
      excluded[i * 2 + 1] = i % passages;
      for (int64_t j = 0; j < passages; ++j)
        scores[i * passages + j] =
            static_cast<float>(score(i, j)) + 0.25f * static_cast<float>((i + j) % 3 - 1);
    }
  }

  double score(int64_t i, int64_t j) {
    return exact_dot(query_rows.data() + i * dim, passage_rows.data() + j * dim, dim);
  }
  bool accepts(int64_t i, int64_t j) {
    return allowed[j] != 0 && partitions[j] != i % 3 && excluded[i * 2] != j && excluded[i * 2 + 1] != j;
  }
  SearchFilter filter() {
    return {.allowed = allowed.data(),
            .passage_partitions = partitions.data(),
            .num_partitions = 3,
            .query_partitions = query_partitions.data(),
            .partitions_per_query = 3,
            .excluded = excluded.data(),
            .excluded_per_query = 2};
  }
  // A tile of its own memory: columns first..last.
  ScoreTile tile(int64_t first, int64_t last, std::vector<float>& memory) {
    memory.clear();
    for (int64_t i = 0; i < queries; ++i)
      for (int64_t j = first; j < last; ++j) memory.push_back(scores[i * passages + j]);
    memory.shrink_to_fit();
    return {.scores = memory.data(),
            .queries = queries,
            .first = first,
            .columns = last - first,
            .code_error = code_error.data(),
            .query_size = query_size.data(),
            .passage_size = passage_size.data(),
            .passage_error = passage_error.data(),
            .passage_scale = scale.data()};
  }
  Lists lists() {
    return {.passages = listed.data(),
            .scores = exact.data(),
            .counts = counts.data(),
            .scored = scored.data(),
            .lost = lost.data(),
            .queries = queries,
            .capacity = capacity};
  }
  Embeddings rows_of(Array<float>& rows) {
    return {rows.data(), DType::kFloat32, rows.size() / dim, dim, dim};
  }
  std::vector<pyhbt::Candidate> ordered(int64_t i) {
    std::vector<pyhbt::Candidate> all;
    for (int64_t j = 0; j < passages; ++j)
      if (accepts(i, j)) all.push_back({score(i, j), j});
    std::sort(all.begin(), all.end(), pyhbt::ranks_before);
    return all;
  }
};

void search_in_tiles(SearchCase& given, int64_t k, int64_t tile_passages) {
  Array<float> threshold(given.queries, -INFINITY);
  Array<double> scale(given.queries, 1.0);
  std::vector<float> memory;
  for (int64_t first = 0; first < given.passages; first += tile_passages) {
    const int64_t last = std::min(given.passages, first + tile_passages);
    append_open(given.tile(first, last, memory), threshold.data(), given.filter(), given.lists(), nullptr);
    score_lists(given.rows_of(given.query_rows), given.rows_of(given.passage_rows), nullptr, given.lists(),
                nullptr);
    select_best(given.lists(), k, scale.data(), last == given.passages, threshold.data(), nullptr);
  }
  for (int64_t i = 0; i < given.queries; ++i) {
    const auto wanted = given.ordered(i);
    const int64_t kept = std::min<int64_t>(k, static_cast<int64_t>(wanted.size()));
    expect(given.counts[i] == kept, "search", "count", i, given.counts[i], static_cast<double>(kept));
    for (int64_t r = 0; r < std::min<int64_t>(kept, given.counts[i]); ++r) {
      const int64_t at = i * given.capacity + r;
      const auto& best = wanted[static_cast<size_t>(r)];
      expect(given.listed[at] == best.index, "search", "passage", at, given.listed[at],
             static_cast<double>(best.index));
      expect(given.exact[at] == best.score, "search", "score", at, given.exact[at], best.score);
    }
    const double last = kept < k ? -INFINITY : wanted[static_cast<size_t>(k - 1)].score;
    expect(static_cast<double>(threshold[i]) == last, "search", "threshold", i,
           static_cast<double>(threshold[i]), last);
    expect(given.lost[i] == 0, "search", "lost", i, given.lost[i], 0);
  }
}

void test_search() {
  for (const int64_t k : kShort ? std::vector<int64_t>{7} : std::vector<int64_t>{1, 7, 33}) {
    SearchCase given(kShort ? 1 : 3, 530, 19, k + 300);
    search_in_tiles(given, k, 300);
  }
  if (kShort) return;
  SearchCase few(2, 40, 3, 100);  // fewer than k, and thousands of ties among those
  search_in_tiles(few, 60, 17);
  SearchCase large(1, 900, 2, 900);
  search_in_tiles(large, 600, 900);
}

void test_overflow() {
  SearchCase given(2, 700, 5, 100);
  Array<float> threshold(given.queries, -INFINITY);
  Array<double> scale(given.queries, 1.0);
  std::vector<float> memory;
  append_open(given.tile(0, 700, memory), threshold.data(), given.filter(), given.lists(), nullptr);
  score_lists(given.rows_of(given.query_rows), given.rows_of(given.passage_rows), nullptr, given.lists(),
              nullptr);
  select_best(given.lists(), 10, scale.data(), true, threshold.data(), nullptr);
  for (int64_t i = 0; i < given.queries; ++i) {
    expect(given.lost[i] == 1, "overflow", "lost", i, given.lost[i], 1);
    expect(given.counts[i] == 10, "overflow", "count", i, given.counts[i], 10);
  }
}

void test_norms() {
  SearchCase given(2, 77, 19, 10);
  Array<double> norms(given.passages);
  exact_norms(given.rows_of(given.passage_rows), norms.data(), nullptr);
  for (int64_t j = 0; j < given.passages; ++j) {
    const float* row = given.passage_rows.data() + j * given.dim;
    const double wanted = std::sqrt(exact_dot(row, row, given.dim));
    expect(norms[j] == wanted, "norms", "row", j, norms[j], wanted);
  }
}

void test_ranks() {
  constexpr int64_t kTargets = 5, kTile = 230;
  SearchCase given(kShort ? 1 : 3, 530, 7, 300);
  Array<double> target_scores(given.queries * kTargets);
  Array<int32_t> target_passages(given.queries * kTargets), beaten(given.queries * (kTargets + 1), 0);
  Array<float> low(given.queries * kTargets), high(given.queries * kTargets);
  for (int64_t i = 0; i < given.queries; ++i) {
    std::vector<pyhbt::Candidate> targets;
    for (int64_t t = 0; t + 1 < kTargets; ++t) {
      const int64_t passage = (i * 101 + t * 37) % given.passages;
      targets.push_back({given.score(i, passage), passage});
    }
    std::sort(targets.begin(), targets.end(),
              [](const auto& a, const auto& b) { return pyhbt::ranks_before(b, a); });
    targets.push_back({INFINITY, 0});  // absent
    for (int64_t t = 0; t < kTargets; ++t) {
      const auto& target = targets[static_cast<size_t>(t)];
      target_scores[i * kTargets + t] = target.score;
      target_passages[i * kTargets + t] = static_cast<int32_t>(target.index);
      low[i * kTargets + t] = high[i * kTargets + t] = static_cast<float>(target.score);
    }
  }
  const Targets targets{.scores = target_scores.data(),
                        .passages = target_passages.data(),
                        .low = low.data(),
                        .high = high.data(),
                        .count = kTargets,
                        .beaten = beaten.data()};
  std::vector<float> memory;
  for (int64_t first = 0; first < given.passages; first += kTile) {
    const int64_t last = std::min(given.passages, first + kTile);
    count_beaten(given.tile(first, last, memory), targets, given.filter(), given.lists(), nullptr);
    score_lists(given.rows_of(given.query_rows), given.rows_of(given.passage_rows), nullptr, given.lists(),
                nullptr);
    settle_beaten(targets, given.lists(), nullptr);
  }
  for (int64_t i = 0; i < given.queries; ++i) {
    for (int64_t number = 1; number <= kTargets; ++number) {
      int32_t wanted = 0;
      for (int64_t j = 0; j < given.passages; ++j) {
        if (!given.accepts(i, j)) continue;
        int64_t beats = 0;
        while (beats < kTargets &&
               pyhbt::ranks_before({given.score(i, j), j}, {target_scores[i * kTargets + beats],
                                                            target_passages[i * kTargets + beats]}))
          ++beats;
        wanted += beats == number;
      }
      const int64_t at = i * (kTargets + 1) + number;
      expect(beaten[at] == wanted, "ranks", "beaten", at, beaten[at], wanted);
    }
    expect(given.lost[i] == 0, "ranks", "lost", i, given.lost[i], 0);
  }
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::pair<std::string, std::function<void()>>> scenarios = {
      {"logsumexp", test_logsumexp}, {"gradient", test_gradient}, {"multiply", test_multiply},
      {"search", test_search},       {"overflow", test_overflow}, {"norms", test_norms},
      {"ranks", test_ranks}};
  for (const auto& [name, run] : scenarios) {
    bool wanted = argc == 1;
    for (int i = 1; i < argc; ++i) wanted = wanted || name == argv[i];
    if (wanted) run();
  }
  if (failures > 0) std::printf("%d failures\n", failures);
  return failures > 0 ? 1 : 0;
}
