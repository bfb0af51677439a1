// Numbers of one byte, int8 and both forms of float8, as float32 by a table of all 256.
#pragma once

#include <cstdint>

#include "../embeddings.h"

namespace pyhbt::cpu {

// The value of every byte; of int8 where the dtype is none of one byte.
const float* byte_values(DType dtype);

inline void widen_bytes(const uint8_t* bytes, int64_t count, const float* values, float* out) {
  for (int64_t i = 0; i < count; ++i) out[i] = values[bytes[i]];
}

}  // namespace pyhbt::cpu
