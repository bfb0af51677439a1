// What codes of a query say about scores, whatever their scale: CodeScreen and FirstLook have it in common.
#pragma once

#include <vector>

#include "screen.h"

namespace pyhbt::cpu {

// A query less its part along the direction of the codes.
struct QueryRest {
  const std::vector<double>& numbers;
  double largest, norm;  // of them; norm is not below theirs
  double query_norm;
  double alpha, direction_norm;
  double offset;  // what is taken off the least score: q . m and float64 rounding
  bool served;    // false: every passage stays open
};

struct ScreenFactors {
  float along, code, residual;  // as those of a CodedStrip
};

// From sums over the numbers: error of (J x - t)^2, code_square of t^2, J being the scale.
inline ScreenFactors screen_factors(const QueryRest& rest, double scale, double error, double code_square) {
  if (!rest.served) return {0.0f, kInfinity, kInfinity};
  // Rounding of the direction's part of a passage, a float32 sum.
  const double gamma = static_cast<double>(rest.numbers.size() / 4 + 16) * 0x1p-24;
  const double part = std::abs(rest.alpha) * rest.direction_norm;
  const double rounding =
      0x1p-18 * (scale * rest.query_norm + std::sqrt(code_square)) + (0x1p-18 + gamma) * scale * part;
  constexpr double kTiny = 1e-30;  // keeps an infinite code_norm infinite for a query of zeros
  return {static_cast<float>(scale * rest.alpha),
          float_up(std::sqrt(error) * (1 + 0x1p-30) + rounding + kTiny),
          float_up(scale * rest.norm + rounding + kTiny)};
}

}  // namespace pyhbt::cpu
