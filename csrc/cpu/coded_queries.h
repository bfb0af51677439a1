// A block of queries against int8 codes: the counterpart of FloatScreen.
#pragma once

#include <cstdint>
#include <vector>

#include "first_look.h"
#include "gathered_codes.h"
#include "screen.h"

namespace pyhbt::cpu {

class CodeScreen {
 public:
  CodeScreen(const Call& call, const std::vector<int64_t>& queries);

  CodeScreen(const CodeScreen&) = delete;  // strips point into the object
  CodeScreen& operator=(const CodeScreen&) = delete;

  int64_t strips() const { return static_cast<int64_t>(strips_.size()); }
  int64_t dim() const { return dim_; }
  void set_threshold(int64_t query, double least);
  void begin(const PassageTile& tile);
  int64_t open(int64_t strip, int32_t* hits);
  int64_t open_in(const CorpusCodes& codes, int64_t strip, int64_t first, int64_t rows, int32_t* hits);
  // Where the queries are passages of the corpus: also what a passage may find among them, of whose score it wants
  // wanted() at least.
  int64_t open_pairs(int64_t strip, int64_t first, int64_t rows, const float* wanted, int32_t* hits);
  static float wanted(const Call& call, int64_t passage, double least);
  // From codes and a finer form of the query: half as wide as what open() goes by, or less.
  Interval interval(int64_t query, int64_t passage, int64_t position) const;
  void estimates_in(const CorpusCodes& codes, int64_t strip, int64_t first, int64_t rows, float* out);
  double score_of(int64_t query, float estimate) const;

  int64_t count(int64_t strip, const RankCounting& counting, RankHit* hits);
  void bound(int64_t query, double score, float& low, float& high) const;

 private:
  struct Query {
    double scale;       // J: codes are J q' rounded
    double fine_scale;  // of the int16 codes
    double fine_along;  // fine scale times the part along the direction
    double fine_code_factor, fine_residual_factor;
    double shift;  // q . m
    double slack;  // float64 rounding of shift and score
    bool served;
  };
  void encode_query(int64_t at, int64_t query, std::vector<float>& scratch, std::vector<double>& rest);
  CodedTile tile(const CorpusCodes& codes, int64_t first, int64_t rows);

  const Call& call_;
  int64_t width_, dim_, stride_, count_;
  int64_t chunks_ = 0;  // of sums in int16; 0: there are none
  std::vector<uint8_t> bytes_, rows_;
  std::vector<uint16_t> starts_;  // (strips, chunks, width, 2)
  std::vector<int16_t> fine_;     // (count, stride)
  std::vector<Query> queries_;
  std::vector<CodedStrip> strips_;
  const CorpusCodes* begun_ = nullptr;  // of the tile begun last
  int64_t begun_first_ = 0, begun_rows_ = 0;
  GatheredCodes gathered_;  // of a tile of listed passages
  FirstLook first_look_;
  std::vector<int8_t> copy_;  // of the tile that strips follow one another on, where sums are in int16
  const int8_t* copied_ = nullptr;
  int64_t copied_first_ = 0, copied_rows_ = 0;
};

}  // namespace pyhbt::cpu
