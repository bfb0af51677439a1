// Products of codes against plain sums: codes and queries at their limits, dims that fill no vector or chunk, and
// buffers that end where the kernels must stop reading.
#include <algorithm>
#include <cstdint>

#include "checks.h"
#include "codes.h"
#include "cpu/dispatch.h"

namespace {

using pyhbt::cpu::CodedStrip;
using pyhbt::cpu::CodedTile;

enum Pattern { kHighest, kLowest, kAlternating, kRandom };
constexpr Pattern kPatterns[] = {kHighest, kLowest, kAlternating, kRandom};

std::vector<int> numbers(Pattern pattern, int64_t size, int limit, unsigned seed) {
  std::vector<int> values(static_cast<size_t>(size), pattern == kLowest ? -limit : limit);
  if (pattern == kAlternating)
    for (size_t i = 0; i < values.size(); ++i) values[i] = i % 3 == 0 ? limit : -limit;
  if (pattern == kRandom) {
    const std::vector<int64_t> random = integers(size, -limit, limit, seed);
    std::transform(random.begin(), random.end(), values.begin(),
                   [](int64_t x) { return static_cast<int>(x); });
  }
  return values;
}

int64_t plain_product(const std::vector<int>& a, const std::vector<int>& b) {
  int64_t sum = 0;
  for (size_t k = 0; k < a.size(); ++k) sum += int64_t{a[k]} * b[k];
  return sum;
}

// Passages first..first+rows, of every pattern, with what stands beside the codes chosen so that only they count.
struct Passages {
  static constexpr int64_t kFirst = 1;
  int64_t dim, rows, stride;
  std::vector<std::vector<int>> plain;
  std::vector<int8_t> codes, copy;
  std::vector<float> ones, zeros, along;
  std::vector<int32_t> code_sum;
  pyhbt::CorpusCodes view{};

  Passages(int64_t d, int64_t n) : dim(d), rows(n), stride(pyhbt::code_stride(d)) {
    const size_t all = static_cast<size_t>(kFirst + rows);
    codes.assign(all * static_cast<size_t>(stride), 0);
    ones.assign(all, 1.0f);
    zeros.assign(all, 0.0f);
    along.assign(all, 0.0f);
    code_sum.assign(all, 0);
    for (size_t i = 0; i < all; ++i) {
      plain.push_back(numbers(kPatterns[i % 4], dim, 127, static_cast<unsigned>(i)));
      for (int64_t k = 0; k < dim; ++k) {
        const int code = plain[i][static_cast<size_t>(k)];
        codes[i * static_cast<size_t>(stride) + static_cast<size_t>(k)] = static_cast<int8_t>(code);
        code_sum[i] += code;
      }
    }
    view.codes = codes.data();
    view.inverse_scale = ones.data();
    view.code_norm = view.residual_norm = zeros.data();
    view.along = along.data();
    view.code_sum = code_sum.data();
    if (pyhbt::cpu::kernels().chunked_sums) {
      copy.resize(static_cast<size_t>(rows * stride));
      pyhbt::cpu::kernels().begin_tile(view, dim, kFirst, rows, copy.data());
    }
  }
  CodedTile tile(bool copied) const {
    return {view, dim, kFirst, rows, copied && !copy.empty() ? copy.data() : nullptr};
  }
  const std::vector<int>& row(int64_t r) const { return plain[static_cast<size_t>(kFirst + r)]; }
};

// A strip of queries in the layout that the table of kernels asks for.
struct Queries {
  std::vector<std::vector<int>> plain;
  std::vector<uint8_t> bytes, rows;
  std::vector<uint16_t> starts;
  CodedStrip strip{};

  Queries(int64_t dim, int64_t lanes, unsigned seed) {
    const pyhbt::cpu::CpuKernels& k = pyhbt::cpu::kernels();
    const int64_t group = k.query_group, groups = (dim + group - 1) / group, stride = pyhbt::code_stride(dim);
    const int64_t chunk_numbers = 4 * pyhbt::cpu::kChunkQuads,
                  chunks = (dim + chunk_numbers - 1) / chunk_numbers;
    bytes.assign(static_cast<size_t>(groups * k.strip * group), 0);
    rows.assign(static_cast<size_t>(lanes * stride), 0);
    starts.assign(static_cast<size_t>(k.chunked_sums ? chunks * k.strip * 2 : 0), 0);
    for (int64_t lane = 0; lane < lanes; ++lane) {
      plain.push_back(numbers(kPatterns[(static_cast<unsigned>(lane) + seed) % 4], dim, k.query_limit,
                              100 * seed + static_cast<unsigned>(lane)));
      std::vector<int>& query = plain.back();
      std::vector<int64_t> left(static_cast<size_t>(2 * chunks), pyhbt::cpu::kMostLaneSum);
      for (int64_t i = 0; i < dim; ++i) {
        int& t = query[static_cast<size_t>(i)];
        const int64_t chunk = i / chunk_numbers, half = i % 4 / 2;
        if (k.chunked_sums) {
          int64_t& room = left[static_cast<size_t>(2 * chunk + half)];
          t = static_cast<int>(std::clamp<int64_t>(t, -room, room));
          room -= std::abs(t);
          uint16_t& start = starts[static_cast<size_t>((chunk * k.strip + lane) * 2 + half)];
          start = static_cast<uint16_t>(start - 128 * t);
        }
        bytes[static_cast<size_t>(((i / group) * k.strip + lane) * group + i % group)] =
            static_cast<uint8_t>(t + k.query_offset);
        rows[static_cast<size_t>(lane * stride + i)] = static_cast<uint8_t>(t + k.row_offset);
      }
    }
    strip.bytes = bytes.data();
    strip.rows = rows.data();
    strip.starts = starts.data();
    strip.lanes = lanes;
    std::fill_n(strip.threshold, pyhbt::cpu::kMaxStrip, 1e30f);
  }
};

using Kernel = int64_t (*)(const CodedTile& tile, const CodedStrip& strip, int32_t* hits);

// Query lane hits every passage whose product it must reach, and none where one more is asked for.
void check_hits(Kernel kernel, bool copied, Passages& passages, Queries& queries, int64_t lane,
                const std::string& name) {
  CodedStrip& strip = queries.strip;
  strip.threshold[lane] = 0;
  strip.along[lane] = -1;  // the least product is what stands as the passage's part along the direction
  std::vector<int32_t> hits(static_cast<size_t>(passages.rows * pyhbt::cpu::kMaxStrip));
  for (const int64_t more : {0, 1}) {
    for (int64_t r = 0; r < passages.rows; ++r)
      passages.along[static_cast<size_t>(Passages::kFirst + r)] =
          static_cast<float>(plain_product(passages.row(r), queries.plain[static_cast<size_t>(lane)]) + more);
    const int64_t found = kernel(passages.tile(copied), strip, hits.data());
    expect(found == (more == 0 ? passages.rows : 0), name + ": number of hits");
    for (int64_t r = 0; r < found; ++r)
      expect(std::count(hits.begin(), hits.begin() + found,
                        static_cast<int32_t>(r * pyhbt::cpu::kernels().strip + lane)) == 1,
             name + ": a hit");
  }
  std::fill(passages.along.begin(), passages.along.end(), 0.0f);
  strip.threshold[lane] = 1e30f;
  strip.along[lane] = 0;
}

void check_strip(Passages& passages, int64_t lanes, unsigned seed) {
  const pyhbt::cpu::CpuKernels& kernels = pyhbt::cpu::kernels();
  const std::string name = "products of " + std::to_string(lanes) + " queries and " +
                           std::to_string(passages.rows) + " passages of dim " +
                           std::to_string(passages.dim) + ", seed " + std::to_string(seed);
  Queries queries(passages.dim, lanes, seed);
  std::vector<float> out(static_cast<size_t>(passages.rows * kernels.strip), -1e30f);
  kernels.estimate_codes(passages.tile(true), queries.strip, out.data());
  for (int64_t r = 0; r < passages.rows; ++r)
    for (int64_t lane = 0; lane < lanes; ++lane)
      expect(out[static_cast<size_t>(r * kernels.strip + lane)] ==
                 static_cast<float>(plain_product(passages.row(r), queries.plain[static_cast<size_t>(lane)])),
             name + ": row " + std::to_string(r) + ", lane " + std::to_string(lane));
  for (const int64_t lane : {int64_t{0}, lanes - 1}) {
    check_hits(kernels.screen_codes, true, passages, queries, lane, name + ", screened");
    if (lanes <= pyhbt::cpu::kFewQueries)
      check_hits(kernels.scan_codes, false, passages, queries, lane, name + ", scanned");
  }
}

// Of a query of 14 bits with the codes of a passage, where the sum just fits.
void check_dot_codes(int64_t dim) {
  const int64_t stride = pyhbt::code_stride(dim);
  const int limit = static_cast<int>(std::min<int64_t>(8191, 2147483647 / (127 * dim)));
  for (const Pattern left : kPatterns) {
    for (const Pattern right : kPatterns) {
      const std::vector<int> query = numbers(left, dim, limit, 1), codes = numbers(right, dim, 127, 2);
      std::vector<int16_t> wide(static_cast<size_t>(stride));
      std::vector<int8_t> bytes(static_cast<size_t>(stride));
      std::copy(query.begin(), query.end(), wide.begin());
      std::copy(codes.begin(), codes.end(), bytes.begin());
      expect(
          pyhbt::cpu::kernels().dot_codes(wide.data(), bytes.data(), stride) == plain_product(query, codes),
          "product of a long query, dim " + std::to_string(dim));
    }
  }
}

}  // namespace

void check_products() {
  const int64_t strip = pyhbt::cpu::kernels().strip;
  for (const int64_t dim :
       {1, 3, 4, 5, 8, 9, 12, 15, 16, 17, 20, 21, 31, 39, 44, 63, 64, 65, 130, 384, 999}) {
    for (const int64_t rows : {1, 2, 3, 5, 13}) {
      Passages passages(dim, rows);
      for (const int64_t lanes :
           {int64_t{1}, int64_t{2}, int64_t{3}, int64_t{4}, strip / 2, strip / 2 + 1, strip - 1, strip})
        for (const unsigned seed : {0, 1, 2, 3}) check_strip(passages, lanes, seed);
    }
    check_dot_codes(dim);
  }
  check_dot_codes(2064);  // 8191 in every place
  check_dot_codes(2100);
}
