// Each kernel of search by itself, with everything that it may be given, against the same step on the host.
#include "search_case.h"

namespace checks {
namespace {

using namespace pyhbt::cuda;

int draw(int first, int last) { return std::uniform_int_distribution<int>(first, last)(generator); }

float quarter(int first, int last) { return 0.25f * static_cast<float>(draw(4 * first, 4 * last)); }

// Bounds in quarters, so that they meet thresholds exactly, and differ by query and by passage.
struct BoundsCase : SearchCase {
  int64_t first, last;
  std::vector<float> memory;

  BoundsCase(int64_t queries_, int64_t columns, int64_t room)
      : SearchCase(queries_, columns + 70, 1, room), first(50), last(50 + columns) {
    for (int64_t at = 0; at < scores.size(); ++at) scores[at] = quarter(-8, 8);
    for (int64_t i = 0; i < queries; ++i) {
      code_error[i] = quarter(0, 2);
      query_size[i] = quarter(0, 2);
      for (int64_t at = i * 2; at < i * 2 + 2; ++at) {
        excluded[at] = first + draw(0, static_cast<int>(columns) - 1);
        scores[i * passages + excluded[at]] = 8.0f;  // but for that, it would be open
      }
      if (excluded[i * 2] > excluded[i * 2 + 1])
        std::swap(excluded[i * 2], excluded[i * 2 + 1]);  // rows rise
    }
    for (int64_t j = 0; j < passages; ++j) {
      passage_size[j] = static_cast<float>(draw(0, 2));
      passage_error[j] = static_cast<float>(draw(0, 2));
      scale[j] = std::ldexp(1.0f, draw(-1, 2));
    }
    passage_size[first] = INFINITY;
    for (int64_t i = 0; i < queries; ++i) code_error[i] += 0.25f;
  }

  float error(int64_t i, int64_t j) {
    return code_error[i] * passage_size[j] + query_size[i] * passage_error[j];
  }
  float lower(int64_t i, int64_t j) { return scores[i * passages + j] - error(i, j); }
  float upper(int64_t i, int64_t j) { return scores[i * passages + j] + error(i, j); }
  ScoreTile open_tile() { return tile(first, last, memory); }

  // The list of a query holds `before`, then these in any order.
  void expect_list(const char* scenario, int64_t i, int32_t before, const std::vector<int32_t>& wanted) {
    const auto found_count = static_cast<int32_t>(wanted.size()) + before;
    expect(counts[i] == found_count, scenario, "count", i, counts[i], found_count);
    if (counts[i] != found_count || counts[i] > capacity) return;
    std::vector<int32_t> found(listed.data() + i * capacity + before,
                               listed.data() + i * capacity + counts[i]);
    std::sort(found.begin(), found.end());
    for (size_t at = 0; at < wanted.size(); ++at)
      expect(found[at] == wanted[at], scenario, "passage", i, found[at], wanted[at]);
    for (int64_t at = counts[i]; at < capacity; ++at)
      expect(listed[i * capacity + at] == -1, scenario, "room", at, listed[i * capacity + at], -1);
  }
};

void check_append(int64_t queries, int64_t columns, const char* parts) {
  BoundsCase given(queries, columns, columns + 5);
  Array<float> threshold(queries);
  for (int64_t i = 0; i < queries; ++i) {
    threshold[i] = i == 1 ? -INFINITY : quarter(-2, 2);           // of the second query all are open
    for (int64_t j = given.first; i == 2 && j < given.last; ++j)  // of the third one in each warp, any lane
      given.scores[i * given.passages + j] = j % 33 == 0 ? 30.0f : -30.0f;
    given.counts[i] = static_cast<int32_t>(i);
    for (int64_t at = 0; at < i; ++at) given.listed[i * given.capacity + at] = 7;
  }
  const auto has = [&](char part) { return std::strchr(parts, part) != nullptr; };
  SearchFilter filter = given.filter();
  if (!has('a')) filter.allowed = nullptr;
  if (!has('p')) filter.passage_partitions = filter.query_partitions = nullptr, filter.num_partitions = 0;
  if (!has('e')) filter.excluded = nullptr, filter.excluded_per_query = 0;
  append_open(given.open_tile(), threshold.data(), filter, given.lists(), nullptr);
  for (int64_t i = 0; i < queries; ++i) {
    std::vector<int32_t> wanted;
    for (int64_t j = given.first; j < given.last; ++j) {
      if (given.upper(i, j) < threshold[i] * given.scale[j]) continue;
      if (has('a') && given.allowed[j] == 0) continue;
      if (has('p') && given.partitions[j] == i % 3) continue;
      if (has('e') && (given.excluded[i * 2] == j || given.excluded[i * 2 + 1] == j)) continue;
      wanted.push_back(static_cast<int32_t>(j));
    }
    given.expect_list("append", i, static_cast<int32_t>(i), wanted);
  }
}

// Rows of any dtype, with room between them.
struct RowsCase {
  int64_t rows, dim, stride;
  DType dtype;
  Array<float> wide;
  Array<uint16_t> halves;

  RowsCase(int64_t rows_, int64_t dim_, DType dtype_)
      : rows(rows_), dim(dim_), stride(dim_ + 3), dtype(dtype_), wide(rows * stride), halves(rows * stride) {
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t k = 0; k < dim; ++k) {
        int number = draw(-5, 5);
        if (i == 4) number = 0;
        if (i == 5) number = k == 3;  // its norm is 1
        const bool half = dtype == DType::kFloat16;
        wide[i * stride + k] = static_cast<float>(number);
        const float x = wide[i * stride + k];
        uint32_t bits;
        std::memcpy(&bits, &x, sizeof bits);
        halves[i * stride + k] = half ? half_bits(x) : static_cast<uint16_t>(bits >> 16);
      }
    }
  }
  Embeddings embeddings() {
    const void* data = dtype == DType::kFloat32 ? static_cast<void*>(wide.data()) : halves.data();
    return {data, dtype, rows, dim, stride};
  }
  const float* row(int64_t at) { return wide.data() + at * stride; }
};

constexpr DType kDTypes[] = {DType::kFloat32, DType::kFloat16, DType::kBFloat16};

void check_scores(DType dtype, bool cosine, int64_t capacity) {
  constexpr int64_t kQueries = kShort ? 2 : 4;
  RowsCase queries(kQueries, 11, DType::kFloat32), corpus(77, 11, dtype);
  Array<int32_t> listed(kQueries * capacity), counts(kQueries), scored(kQueries), lost(kQueries, 0);
  Array<double> scores(kQueries * capacity), norms(corpus.rows);
  exact_norms(corpus.embeddings(), norms.data(), nullptr);
  const int64_t lengths[] = {capacity == 10 ? 1 : 0, capacity - 3, capacity + 300,
                             6};  // the third has overflowed
  const int32_t known[] = {0, 0, 5, 3};
  for (int64_t i = 0; i < kQueries; ++i) {
    counts[i] = static_cast<int32_t>(lengths[i]);
    scored[i] = known[i];
    for (int64_t at = 0; at < std::min<int64_t>(counts[i], capacity); ++at) {
      listed[i * capacity + at] = draw(0, static_cast<int>(corpus.rows) - 1);
      if (at < scored[i]) scores[i * capacity + at] = 1e9;
    }
  }
  const Lists lists{.passages = listed.data(),
                    .scores = scores.data(),
                    .counts = counts.data(),
                    .scored = scored.data(),
                    .lost = lost.data(),
                    .queries = kQueries,
                    .capacity = capacity};
  score_lists(queries.embeddings(), corpus.embeddings(), cosine ? norms.data() : nullptr, lists, nullptr);
  for (int64_t i = 0; i < kQueries; ++i) {
    for (int64_t at = 0; at < capacity; ++at) {
      double wanted = NAN;
      if (at < scored[i]) {
        wanted = 1e9;
      } else if (at < counts[i]) {
        const int64_t passage = listed[i * capacity + at];
        wanted = exact_dot(queries.row(i), corpus.row(passage), corpus.dim);
        if (cosine) wanted = norms[passage] > 0 ? wanted / norms[passage] : 0.0;
      }
      expect_close("scores", "entry", i * capacity + at, scores[i * capacity + at], wanted, 0);
    }
  }
}

enum class Kind { kTies, kFine, kSigns };

double some_score(Kind kind) {
  if (kind == Kind::kTies) return draw(-3, 3);
  if (kind == Kind::kSigns) return draw(0, 1) == 0 ? (draw(0, 1) == 0 ? -0.0 : 0.0) : 0.5 * draw(-1, 1);
  return std::normal_distribution<double>()(generator) * std::ldexp(1.0, draw(-30, 30));
}

void check_select(Kind kind, int64_t count, int64_t capacity, int64_t k, bool sorted) {
  constexpr int64_t kQueries = 2;
  Array<int32_t> listed(kQueries * capacity), counts(kQueries, static_cast<int32_t>(count)),
      scored(kQueries, 0), lost(kQueries, 0);
  Array<double> scores(kQueries * capacity), scale(kQueries);
  Array<float> threshold(kQueries);
  const int64_t held = std::min(count, capacity);
  std::vector<std::vector<pyhbt::Candidate>> wanted(kQueries);
  for (int64_t i = 0; i < kQueries; ++i) {
    scale[i] = i == 0 ? 1.0 : 0.25;
    std::vector<int32_t> passages;
    for (int64_t at = 0; at < held; ++at)
      passages.push_back(static_cast<int32_t>(kind == Kind::kTies ? at : at * 1000003 % 2147483629));
    std::shuffle(passages.begin(), passages.end(), generator);
    for (int64_t at = 0; at < held; ++at) {
      listed[i * capacity + at] = passages[static_cast<size_t>(at)];
      scores[i * capacity + at] = some_score(kind);
      wanted[static_cast<size_t>(i)].push_back({scores[i * capacity + at], listed[i * capacity + at]});
    }
    std::sort(wanted[static_cast<size_t>(i)].begin(), wanted[static_cast<size_t>(i)].end(),
              pyhbt::ranks_before);
  }
  select_best({.passages = listed.data(),
               .scores = scores.data(),
               .counts = counts.data(),
               .scored = scored.data(),
               .lost = lost.data(),
               .queries = kQueries,
               .capacity = capacity},
              k, scale.data(), sorted, threshold.data(), nullptr);
  const int64_t kept = std::min(k, held);
  for (int64_t i = 0; i < kQueries; ++i) {
    const auto& best = wanted[static_cast<size_t>(i)];
    expect(counts[i] == kept, "select", "count", i, counts[i], static_cast<double>(kept));
    expect(scored[i] == kept, "select", "scored", i, scored[i], static_cast<double>(kept));
    expect(lost[i] == (count > capacity), "select", "lost", i, lost[i], count > capacity);
    std::vector<pyhbt::Candidate> found;
    for (int64_t at = 0; at < kept; ++at)
      found.push_back({scores[i * capacity + at], listed[i * capacity + at]});
    if (!sorted) std::sort(found.begin(), found.end(), pyhbt::ranks_before);
    for (int64_t at = 0; at < kept; ++at) {
      const auto& [score, passage] = found[static_cast<size_t>(at)];
      const auto& [right_score, right] = best[static_cast<size_t>(at)];
      expect(score == right_score && passage == right, "select", "entry", at, score, right_score);
    }
    float least = -INFINITY;
    if (held >= k) {
      const double exact = best[static_cast<size_t>(k - 1)].score * scale[i];
      least = static_cast<float>(exact);
      if (static_cast<double>(least) > exact) least = std::nextafter(least, -INFINITY);
    }
    expect(threshold[i] == least, "select", "threshold", i, static_cast<double>(threshold[i]),
           static_cast<double>(least));
  }
}

void check_count(int64_t queries, int64_t columns, int64_t count, int64_t room) {
  BoundsCase given(queries, columns, room);
  Array<double> exact(queries * count, 0.0);
  Array<int32_t> passages(queries * count, 0), beaten(queries * (count + 1), 3);
  Array<float> low(queries * count), high(queries * count);
  for (int64_t i = 0; i < queries; ++i) {
    std::vector<float> middles;
    for (int64_t t = 0; t < count; ++t) middles.push_back(quarter(-6, 6));
    std::sort(middles.begin(), middles.end());
    for (int64_t t = 0; t < count; ++t) {
      low[i * count + t] = middles[static_cast<size_t>(t)] - 0.25f;
      high[i * count + t] = middles[static_cast<size_t>(t)];
    }
    if (count > 1) low[i * count + count - 1] = high[i * count + count - 1] = INFINITY;
  }
  count_beaten(given.open_tile(),
               {.scores = exact.data(),
                .passages = passages.data(),
                .low = low.data(),
                .high = high.data(),
                .count = count,
                .beaten = beaten.data()},
               given.filter(), given.lists(), nullptr);
  for (int64_t i = 0; i < queries; ++i) {
    std::vector<int32_t> open, wanted(static_cast<size_t>(count) + 1, 3);
    for (int64_t j = given.first; j < given.last; ++j) {
      if (!given.accepts(i, j)) continue;
      int64_t certain = 0;
      while (certain < count && given.lower(i, j) > high[i * count + certain] * given.scale[j]) ++certain;
      if (certain < count && !(given.upper(i, j) < low[i * count + certain] * given.scale[j]))
        open.push_back(static_cast<int32_t>(j));
      else if (certain > 0)
        ++wanted[static_cast<size_t>(certain)];
    }
    for (int64_t t = 0; t <= count; ++t) {
      const int64_t at = i * (count + 1) + t;
      expect(beaten[at] == wanted[static_cast<size_t>(t)], "count", "beaten", at, beaten[at],
             wanted[static_cast<size_t>(t)]);
    }
    given.expect_list("count", i, 0, open);
  }
}

void check_settle(int64_t count, int64_t length, int64_t capacity) {
  constexpr int64_t kQueries = 3;
  Array<double> exact(kQueries * count), scores(kQueries * capacity);
  Array<int32_t> passages(kQueries * count), beaten(kQueries * (count + 1), 2), listed(kQueries * capacity);
  Array<int32_t> counts(kQueries, static_cast<int32_t>(length)), scored(kQueries, 1), lost(kQueries, 0);
  std::vector<std::vector<int32_t>> wanted(kQueries);
  for (int64_t i = 0; i < kQueries; ++i) {
    std::vector<pyhbt::Candidate> targets;
    for (int64_t t = 0; t < count; ++t) targets.push_back({static_cast<double>(draw(-3, 3)), draw(0, 9)});
    std::sort(targets.begin(), targets.end(),
              [](const auto& a, const auto& b) { return pyhbt::ranks_before(b, a); });
    for (int64_t t = 0; t < count; ++t) {
      exact[i * count + t] = targets[static_cast<size_t>(t)].score;
      passages[i * count + t] = static_cast<int32_t>(targets[static_cast<size_t>(t)].index);
    }
    auto& totals = wanted[static_cast<size_t>(i)];
    totals.assign(static_cast<size_t>(count) + 1, 2);
    for (int64_t at = 0; at < std::min(length, capacity); ++at) {
      const pyhbt::Candidate candidate{static_cast<double>(draw(-4, 4)), draw(0, 9)};
      scores[i * capacity + at] = candidate.score;
      listed[i * capacity + at] = static_cast<int32_t>(candidate.index);
      size_t beats = 0;
      while (beats < targets.size() && pyhbt::ranks_before(candidate, targets[beats])) ++beats;
      totals[beats] += beats > 0;
    }
  }
  settle_beaten({.scores = exact.data(),
                 .passages = passages.data(),
                 .low = nullptr,
                 .high = nullptr,
                 .count = count,
                 .beaten = beaten.data()},
                {.passages = listed.data(),
                 .scores = scores.data(),
                 .counts = counts.data(),
                 .scored = scored.data(),
                 .lost = lost.data(),
                 .queries = kQueries,
                 .capacity = capacity},
                nullptr);
  for (int64_t i = 0; i < kQueries; ++i) {
    for (int64_t t = 0; t <= count; ++t) {
      const int32_t right = wanted[static_cast<size_t>(i)][static_cast<size_t>(t)];
      expect(beaten[i * (count + 1) + t] == right, "settle", "beaten", t, beaten[i * (count + 1) + t], right);
    }
    expect(counts[i] == 0 && scored[i] == 0, "settle", "count", i, counts[i], 0);
    expect(lost[i] == (length > capacity), "settle", "lost", i, lost[i], length > capacity);
  }
}

}  // namespace

void test_append() {
  check_append(kShort ? 1 : 3, kShort ? 300 : 2300, "ape");
  if (kShort) return;
  for (const char* parts : {"", "a", "p", "e"}) check_append(3, 1024, parts);
  check_append(17, 300, "ape");  // more queries than a block has
  check_append(2, 1025, "");
  check_append(1, 1, "");
}

void test_norms() {
  for (const DType dtype : kDTypes) {
    for (const int64_t rows : {1, 32, 77}) {
      if (kShort && (rows != 77 || dtype != DType::kFloat16)) continue;
      RowsCase given(rows, 19, dtype);
      Array<double> norms(rows);
      exact_norms(given.embeddings(), norms.data(), nullptr);
      for (int64_t j = 0; j < rows; ++j) {
        const double wanted = std::sqrt(exact_dot(given.row(j), given.row(j), given.dim));
        expect(norms[j] == wanted, "norms", "row", j, norms[j], wanted);
      }
    }
  }
}

void test_scores() {
  for (const DType dtype : kDTypes) {
    if (kShort && dtype != DType::kBFloat16) continue;
    check_scores(dtype, dtype != DType::kFloat32,
                 kShort ? 40 : 600);  // 600: more than all blocks take at once
    if (!kShort) check_scores(dtype, dtype != DType::kFloat32, 10);
  }
}

void test_select() {
  check_select(Kind::kTies, kShort ? 70 : 700, 700, 40, true);
  check_select(Kind::kTies, 30, 700, 40, true);
  if (kShort) return;
  for (const bool sorted : {false, true}) {
    for (const Kind kind : {Kind::kTies, Kind::kFine, Kind::kSigns}) {
      check_select(kind, 300, 300, 300, sorted);
      check_select(kind, 300, 310, 301, sorted);
      check_select(kind, 900, 600, 64, sorted);
      check_select(kind, 257, 600, 1, sorted);
      check_select(kind, 0, 5, 3, sorted);
      check_select(kind, 1, 5, 2, sorted);
    }
    check_select(Kind::kTies, 2500, 2600, kMostSelected, sorted);
  }
}

void test_count() {
  check_count(kShort ? 1 : 3, kShort ? 300 : 2300, 7, 2400);
  if (kShort) return;
  check_count(2, 1025, 1, 1100);
  check_count(2, 1024, 40, 1100);
  check_count(2, 600, 3, 20);
}

void test_settle() {
  check_settle(5, kShort ? 40 : 700, 800);
  if (kShort) return;
  check_settle(1, 256, 256);
  check_settle(12, 257, 256);
  check_settle(3, 0, 4);
}

}  // namespace checks
