// A few queries against nibbles, which hold half the bytes of int8 codes: what they leave open is bounded by codes.
#pragma once

#include <cstdint>
#include <vector>

#include "query_codes.h"
#include "screen.h"

namespace pyhbt::cpu {

class FirstLook {
 public:
  // Serves a corpus that has nibbles and is too large for the cache, and no more than kFewQueries.
  FirstLook(const Call& call, int64_t count);

  FirstLook(const FirstLook&) = delete;  // queries_ points into the object
  FirstLook& operator=(const FirstLook&) = delete;

  bool serves() const { return queries_.count > 0; }
  void add(int64_t query, const QueryRest& rest);
  void set_threshold(int64_t query, double least);

  // Whether passages from here on are worth it: where nibbles left much open, the next ones are not, for a while.
  bool pays(int64_t first) const { return serves() && first >= resumes_; }
  // What is open of a tile, as CodeScreen::open. In a walk it looks one tile ahead and asks for what is open there.
  int64_t open(int64_t first, int64_t rows, int32_t* hits);

 private:
  int64_t look(int64_t first, int64_t rows, int32_t* hits) const;
  void look_ahead(int64_t first);
  void decide(int64_t end, int64_t rows, int64_t found);

  const CorpusCodes& codes_;
  const int64_t dim_, passages_;
  NibbleQueries queries_{};
  std::vector<int8_t> rows_;
  double scale_[kFewQueries] = {}, offset_[kFewQueries] = {};
  bool served_[kFewQueries] = {};

  std::vector<int32_t> ahead_;  // hits of the tile that begins at ahead_first_
  int64_t ahead_count_ = 0, ahead_first_ = -1;
  int64_t end_ = -1;              // of the last tile
  int64_t resumes_ = 0;           // the passage from which on nibbles are tried
  int64_t pause_ = 0;             // that went before it
  int64_t seen_ = 0, found_ = 0;  // passages, and pairs left open, since the last decision
};

}  // namespace pyhbt::cpu
