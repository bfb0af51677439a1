// Encoding of a corpus: codes.h.
#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>
#include <vector>

#include "../interrupt.h"
#include "../parallel.h"
#include "rows.h"
#include "screen.h"

namespace pyhbt {

namespace {

constexpr int64_t kRowsOfTask = 256;
constexpr double kLeastNorm = 0x1p-60, kMostNorm = 0x1p60;  // cosine: norms that codes serve

bool finite(const float* row, int64_t dim) {
  return std::all_of(row, row + dim, [](float x) { return std::isfinite(x); });
}

}  // namespace

void encode(const Embeddings& rows, bool cosine, const float* centre, const float* direction,
            const CodesOut& out, int64_t first_row, int threads) {
  using namespace cpu;
  const int64_t dim = rows.dim, stride = code_stride(dim);
  const int64_t nibbles = nibble_stride(dim);
  const double gamma = static_cast<double>(dim + 8) * 0x1p-24;
  const double tiny = 0x1p-50 * std::sqrt(static_cast<double>(dim));
  std::atomic<int64_t> bad{rows.rows};
  Interrupt interrupt;
  parallel_for(threads, ceil_div(rows.rows, kRowsOfTask), [&](int64_t task) {
    const KeepSubnormals guard;
    interrupt.poll();
    std::vector<float> scratch, x(static_cast<size_t>(dim));
    std::vector<uint8_t> places(static_cast<size_t>(2 * nibbles));
    for (int64_t i = task * kRowsOfTask; i < std::min(rows.rows, (task + 1) * kRowsOfTask); ++i) {
      const float* row = float_row(rows, i, scratch);
      int8_t* codes = out.codes + i * stride;
      const double norm = std::sqrt(kernels().dot(row, row, dim));
      const bool divisible = norm == 0 || (norm >= kLeastNorm && norm <= kMostNorm);
      const double factor = cosine && norm > 0 ? 1 / norm : 1.0;
      EncodedRow e{};
      if (!cosine || divisible)
        e = kernels().encode_row(row, factor, centre, direction, dim, x.data(), codes);
      if (!e.served && !finite(row, dim)) {
        int64_t least = bad.load();
        while (i < least && !bad.compare_exchange_weak(least, i)) {
        }
        return;
      }
      out.norm[i] = norm;
      if (!e.served) {
        std::fill_n(codes, stride, int8_t{0});
        out.inverse_scale[i] = 1;
        out.along[i] = out.residual_norm[i] = 0;
        out.code_norm[i] = kInfinity;
        out.code_sum[i] = 0;
        if (out.nibbles != nullptr) {
          std::fill_n(out.nibbles + i * nibbles, nibbles, uint8_t{0});
          out.nibble_residual[i] = 0;
        }
        continue;
      }
      std::fill_n(codes + dim, stride - dim, int8_t{0});
      const double code_norm = std::sqrt(static_cast<double>(e.code_square)) * (1 + gamma);
      const double residual = std::sqrt(static_cast<double>(e.residual_square)) * (1 + gamma);
      // The last term is what squares of tiny numbers lose where they underflow.
      const double rounding = 0x1p-22 * (code_norm + residual) + tiny;
      out.inverse_scale[i] = e.inverse_scale;
      out.along[i] = e.along;
      out.code_norm[i] = float_up(code_norm);
      out.residual_norm[i] = float_up(residual + rounding);
      out.code_sum[i] = e.code_sum;
      if (out.nibbles == nullptr) continue;
      const float step = out.code_norm[i] * nibble_step(dim);
      const EncodedNibbles coarse = kernels().encode_nibbles(x.data(), e.inverse_scale, step, dim,
                                                             places.data(), out.nibbles + i * nibbles);
      const double levels =
          std::sqrt(static_cast<double>(coarse.level_square)) * (1 + gamma) * static_cast<double>(step);
      const double rest = std::sqrt(static_cast<double>(coarse.residual_square)) * (1 + gamma);
      // No less than |r|, and with what levels are longer than codes: the bound of codes holds with it.
      out.nibble_residual[i] = float_up(
          std::max(static_cast<double>(out.residual_norm[i]), rest + 0x1p-22 * (levels + rest) + tiny) +
          std::max(0.0, levels - static_cast<double>(out.code_norm[i])));
    }
  });
  if (bad.load() < rows.rows)
    throw std::invalid_argument("corpus: row " + std::to_string(first_row + bad.load()) +
                                " holds a NaN or an infinity, expected finite numbers");
}

}  // namespace pyhbt
