// The nearest neighbours of a corpus among itself: blocks of passages, as queries, walk the passages from their own
// place on, and what a pair scores is offered to both of its passages.
#include <atomic>
#include <memory>
#include <mutex>
#include <numeric>
#include <stdexcept>
#include <string>
#include <utility>

#include "../interrupt.h"
#include "../parallel.h"
#include "../search.h"
#include "coded_queries.h"
#include "sample.h"
#include "screen.h"
#include "topk_buffer.h"

namespace pyhbt::cpu {
namespace {

constexpr int64_t kBlock = 1024;
constexpr size_t kLocks = 4096;

// Room in a buffer beyond k: what does not fit has to be scored exactly early on. Up to a gibibyte in all is spent.
size_t spare_room(int64_t n, int64_t k) {
  const int64_t entries = (int64_t{1} << 30) / (n * static_cast<int64_t>(sizeof(TopkBuffer::Entry)));
  return static_cast<size_t>(std::clamp<int64_t>(entries - k, 32, 96));
}

class Neighbours {
 public:
  Neighbours(const Call& call, int64_t k)
      : call_(call), n_(call.a.corpus.rows), k_(k), least_(count()), wanted_(count()) {
    for (int64_t row = 0; row < n_; ++row) {
      buffers_.emplace_back(k, spare_room(n_, k));
      want(row, kNoThreshold);
    }
    guesses_.assign(count(), kNoThreshold);
  }

  void guess() {
    const Sample sample(call_, k_ + 1, n_);  // a passage finds itself in it
    if (sample.empty()) return;
    const Filter everything{SearchFilter{}};
    parallel_for(call_.a.threads, ceil_div(n_, kBlock), [&](int64_t task) {
      const KeepSubnormals guard;
      interrupt_.poll();
      const std::vector<int64_t> rows = block(task);
      CodeScreen screen(call_, rows);
      const std::vector<double> guessed = sample.guesses(screen, rows, everything, true);
      for (size_t at = 0; at < rows.size(); ++at) {
        guesses_[static_cast<size_t>(rows[at])] = guessed[at];
        want(rows[at], guessed[at]);
      }
    });
  }

  void walk() {
    parallel_for(call_.a.threads, ceil_div(n_, kBlock), [&](int64_t task) {
      const KeepSubnormals guard;
      walk_block(block(task));
    });
  }

  // Writes the rows that are complete; returns the others, whose guess was too high.
  std::vector<int64_t> write(int64_t k, float* scores, int64_t* indices) {
    std::vector<uint8_t> failed(count());
    parallel_for(call_.a.threads, ceil_div(n_, kBlock), [&](int64_t task) {
      const KeepSubnormals guard;
      interrupt_.poll();
      for (const int64_t row : block(task)) {
        const size_t at = static_cast<size_t>(row);
        ExactScore exact(call_, row);
        const std::vector<Candidate> best = std::exchange(buffers_[at], TopkBuffer(k_)).finish(exact);
        const bool full = static_cast<int64_t>(best.size()) == k_;
        failed[at] = guesses_[at] > kNoThreshold && !(full && best.back().score >= guesses_[at]);
        const double norm = call_.a.cosine ? call_.query_norms[at] : 1.0;
        for (int64_t r = 0; r < k; ++r) {
          const bool real = r < static_cast<int64_t>(best.size());
          const double score = real ? best[static_cast<size_t>(r)].score : 0;
          scores[row * k + r] = !real ? -kInfinity : norm > 0 ? static_cast<float>(score / norm) : 0.0f;
          indices[row * k + r] = real ? best[static_cast<size_t>(r)].index : -1;
        }
      }
    });
    std::vector<int64_t> again;
    for (int64_t row = 0; row < n_; ++row)
      if (failed[static_cast<size_t>(row)] != 0) again.push_back(row);
    return again;
  }

 private:
  size_t count() const { return static_cast<size_t>(n_); }

  std::vector<int64_t> block(int64_t number) const {
    std::vector<int64_t> rows;
    for (int64_t row = number * kBlock; row < std::min(n_, (number + 1) * kBlock); ++row) rows.push_back(row);
    return rows;
  }

  void want(int64_t row, double least) {
    least_[static_cast<size_t>(row)].store(least, std::memory_order_relaxed);
    wanted_[static_cast<size_t>(row)].store(CodeScreen::wanted(call_, row, least), std::memory_order_relaxed);
  }
  double least(int64_t row) const { return least_[static_cast<size_t>(row)].load(std::memory_order_relaxed); }

  void walk_block(const std::vector<int64_t>& rows) {
    const int64_t width = kernels().strip, start = rows.front(), size = static_cast<int64_t>(rows.size());
    CodeScreen screen(call_, rows);
    std::vector<ExactScore> exact;
    for (const int64_t row : rows) exact.emplace_back(call_, row);
    std::vector<int32_t> hits(static_cast<size_t>(kTilePassages * width));
    float wanted[kTilePassages];
    std::vector<double> set(rows.size(), kNoThreshold);  // in the screen
    for (int64_t passage = start; passage < n_; passage += kTilePassages) {
      interrupt_.poll();
      const int64_t tile = std::min(kTilePassages, n_ - passage);
      for (size_t at = 0; at < rows.size(); ++at) {
        const double now = least(rows[at]);
        if (now != set[at]) screen.set_threshold(static_cast<int64_t>(at), set[at] = now);
      }
      for (int64_t r = 0; r < tile; ++r)
        wanted[r] = wanted_[static_cast<size_t>(passage + r)].load(std::memory_order_relaxed);
      for (int64_t strip = 0; strip < screen.strips(); ++strip) {
        const int64_t found = screen.open_pairs(strip, passage, tile, wanted, hits.data());
        for (int64_t h = 0; h < found; ++h) {
          const int64_t position = hits[static_cast<size_t>(h)], at = strip * width + position % width;
          const int64_t other = passage + position / width;
          if (at < size && other > start + at)
            take(screen, exact[static_cast<size_t>(at)], at, start + at, other);
        }
      }
    }
  }

  void take(const CodeScreen& screen, ExactScore& exact, int64_t at, int64_t row, int64_t other) {
    Interval score = screen.interval(at, other, 0);
    if (!std::isfinite(score.lower) || !std::isfinite(score.upper)) {
      score.lower = score.upper = exact(other);
      ExactScore back(call_, other);
      const double reverse = call_.a.cosine ? back(row) : score.lower;  // products commute, quotients round
      offer(row, {score.lower, score.upper, other});
      offer(other, {reverse, reverse, row});
      return;
    }
    offer(row, {score.lower, score.upper, other});
    if (call_.a.cosine) score = reversed(score, row, other);
    offer(other, {score.lower, score.upper, row});
  }

  // Bounds of q . c / |q| from those of q . c / |c|.
  Interval reversed(const Interval& score, int64_t row, int64_t other) const {
    const double norm = call_.passage_norms[row];
    if (!(norm > 0)) return {0, 0};
    const double factor = call_.passage_norms[other] / norm;
    const double lower = score.lower * factor, upper = score.upper * factor;
    if (!(call_.passage_norms[other] > 0) || !std::isfinite(lower) || !std::isfinite(upper))
      return {kNoThreshold, -kNoThreshold};
    return {lower - 0x1p-50 * std::abs(lower) - 0x1p-1000, upper + 0x1p-50 * std::abs(upper) + 0x1p-1000};
  }

  void offer(int64_t row, TopkBuffer::Entry entry) {
    if (entry.upper < least(row)) return;
    const size_t at = static_cast<size_t>(row);
    const std::lock_guard<std::mutex> lock(locks_[at % kLocks]);
    ExactScore exact(call_, row);
    if (!std::isfinite(entry.lower) || !std::isfinite(entry.upper))
      entry.lower = entry.upper = exact(entry.index);
    if (buffers_[at].push(entry, exact)) want(row, std::max(buffers_[at].floor(), guesses_[at]));
  }

  const Call& call_;
  const int64_t n_, k_;
  std::vector<TopkBuffer> buffers_;
  std::vector<std::atomic<double>> least_;  // what a pair must score at least to be of use to the passage
  std::vector<std::atomic<float>> wanted_;  // the same, as screening takes it
  std::vector<double> guesses_;
  std::unique_ptr<std::mutex[]> locks_{new std::mutex[kLocks]};
  Interrupt interrupt_{};
};

// Searches for some of the passages, each without itself.
void search_again(const SearchArguments& arguments, const std::vector<int64_t>& rows, int64_t k,
                  float* scores, int64_t* indices) {
  const Embeddings& corpus = arguments.corpus;
  const size_t size = static_cast<size_t>(corpus.dim * bytes_of(corpus.dtype)), count = rows.size();
  std::vector<char> copies(count * size);
  for (size_t at = 0; at < count; ++at)
    std::copy_n(static_cast<const char*>(corpus.data) + rows[at] * corpus.stride * bytes_of(corpus.dtype),
                size, copies.data() + at * size);
  SearchArguments some = arguments;
  some.queries = {copies.data(), corpus.dtype, static_cast<int64_t>(count), corpus.dim, corpus.dim};
  some.filter.excluded = rows.data();
  some.filter.excluded_per_query = 1;
  std::vector<float> found_scores(count * static_cast<size_t>(k));
  std::vector<int64_t> found(found_scores.size());
  search(some, k, found_scores.data(), found.data());
  for (size_t at = 0; at < count; ++at) {
    std::copy_n(found_scores.data() + at * static_cast<size_t>(k), k, scores + rows[at] * k);
    std::copy_n(found.data() + at * static_cast<size_t>(k), k, indices + rows[at] * k);
  }
}

}  // namespace
}  // namespace pyhbt::cpu

namespace pyhbt {

void neighbours(const SearchArguments& arguments, int64_t k, float* scores, int64_t* indices) {
  using namespace cpu;
  const KeepSubnormals guard;
  if (k < 1) throw std::invalid_argument("k: found " + std::to_string(k) + ", expected at least 1");
  const bool itself =
      arguments.queries.data == arguments.corpus.data && arguments.queries.rows == arguments.corpus.rows;
  if (!itself || !arguments.codes || Filter(arguments.filter).active())
    throw std::invalid_argument("neighbours: expected a corpus with codes as its own queries, and no filter");
  const Call call(arguments);
  const int64_t n = call.a.corpus.rows;
  if (n < 2 || !call.by_codes()) {  // so few, or so many dims: by search, where each excludes itself
    std::vector<int64_t> own(static_cast<size_t>(n));
    std::iota(own.begin(), own.end(), int64_t{0});
    return search_again(arguments, own, k, scores, indices);
  }
  std::vector<int64_t> again;
  {
    Neighbours neighbours(call, std::min(k, n - 1));
    neighbours.guess();
    neighbours.walk();
    again = neighbours.write(k, scores, indices);
  }
  if (!again.empty()) search_again(arguments, again, k, scores, indices);
}

}  // namespace pyhbt
