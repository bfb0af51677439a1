// What a block of queries walks over: a stretch of the corpus, or the passages of a list, tile by tile.
#pragma once

#include <algorithm>
#include <cstdint>

namespace pyhbt::cpu {

constexpr int64_t kTilePassages = 48;  // screened at once, by one strip of queries after the other

// Passages in ascending order.
struct PassageTile {
  int64_t first, rows;
  const int64_t* listed = nullptr;  // (rows,); null: side by side, from first on

  int64_t passage(int64_t row) const { return listed == nullptr ? first + row : listed[row]; }
};

struct Walk {
  int64_t first, last;              // passages; of a list, places in it
  const int64_t* listed = nullptr;  // ascending; null: all passages

  int64_t size() const { return last - first; }
  int64_t passage(int64_t place) const { return listed == nullptr ? place : listed[place]; }

  // One of so many parts that follow one another.
  Walk part(int64_t number, int64_t parts) const {
    const int64_t length = (size() + parts - 1) / parts;
    const int64_t start = std::min(last, first + number * length);
    return {start, std::min(last, start + length), listed};
  }
};

// What it costs to bring a passage side by side with others, relative to screening it by one strip of queries: some
// cache lines come from anywhere, however few numbers a passage has.
inline double gathering_cost(int64_t dim) { return 0.4 + 96.0 / static_cast<double>(dim); }

// Calls each(tile) for tiles that hold every passage of the walk. Listed passages that lie almost side by side are
// taken where they lie, with what lies between them, if screening that by so many strips costs less than gathering;
// elsewhere a tile holds listed passages alone.
template <typename Each>
void for_tiles(const Walk& walk, int64_t strips, int64_t dim, const Each& each) {
  const double least = static_cast<double>(strips) / (static_cast<double>(strips) + gathering_cost(dim));
  const auto dense = [least](int64_t part, int64_t whole) {
    return static_cast<double>(part) >= least * static_cast<double>(whole);
  };
  for (int64_t at = walk.first; at < walk.last;) {
    const int64_t rows = std::min(kTilePassages, walk.last - at);
    if (walk.listed == nullptr) {
      each(PassageTile{at, rows});
      at += rows;
      continue;
    }
    const int64_t* here = walk.listed + at;
    const int64_t end = here[0] + kTilePassages;
    const int64_t near = here[rows - 1] < end ? rows : std::lower_bound(here, here + rows, end) - here;
    const int64_t span = here[near - 1] - here[0] + 1;
    if (dense(near, rows) && dense(near, span)) {
      each(PassageTile{here[0], span});
      at += near;
    } else {
      each(PassageTile{here[0], rows, here});
      at += rows;
    }
  }
}

}  // namespace pyhbt::cpu
