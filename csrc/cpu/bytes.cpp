// bytes.h. The forms of float8: Micikevicius et al., "FP8 Formats for Deep Learning", arXiv:2209.05433, table 1.
#include "bytes.h"

#include <array>
#include <cmath>

namespace pyhbt::cpu {
namespace {

using Values = std::array<float, 256>;

// A sign, exponent bits with their bias, and the rest mantissa; exponent 0 holds zero and subnormal numbers.
float decoded(unsigned byte, int mantissa_bits, int bias) {
  const int exponent = static_cast<int>(byte & 0x7fu) >> mantissa_bits;
  const int mantissa = static_cast<int>(byte & ((1u << mantissa_bits) - 1));
  const int whole = exponent == 0 ? mantissa : mantissa + (1 << mantissa_bits);
  const float size =
      std::ldexp(static_cast<float>(whole), (exponent == 0 ? 1 : exponent) - bias - mantissa_bits);
  return (byte & 0x80u) != 0 ? -size : size;
}

template <typename Value>
Values filled(const Value& value) {
  Values values{};
  for (unsigned byte = 0; byte < 256; ++byte) values[byte] = value(byte);
  return values;
}

}  // namespace

const float* byte_values(DType dtype) {
  static const Values int8 =
      filled([](unsigned byte) { return static_cast<float>(static_cast<int8_t>(byte)); });
  static const Values e4m3 = filled([](unsigned byte) {  // no infinity, and one NaN of each sign
    return (byte & 0x7fu) == 0x7fu ? std::nanf("") : decoded(byte, 3, 7);
  });
  static const Values e5m2 = filled([](unsigned byte) {
    if ((byte & 0x7fu) < 0x7cu) return decoded(byte, 2, 15);
    if ((byte & 3u) != 0) return std::nanf("");
    return (byte & 0x80u) != 0 ? -INFINITY : INFINITY;
  });
  switch (dtype) {
    case DType::kFloat8E4M3:
      return e4m3.data();
    case DType::kFloat8E5M2:
      return e5m2.data();
    default:
      return int8.data();
  }
}

}  // namespace pyhbt::cpu
