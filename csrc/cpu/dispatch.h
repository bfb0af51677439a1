// Which table of inner loops is in use.
#pragma once

#include <string>
#include <vector>

#include "kernels.h"

namespace pyhbt::cpu {

// Names of the instruction sets compiled in, slowest first.
std::vector<std::string> compiled_levels();

// Those of them that this processor runs.
std::vector<std::string> supported_levels();

// The table in use. The first call decides: the fastest that this processor runs, or the one that the
// environment variable PYHBT_SIMD names.
// Throws std::runtime_error on a name that is unknown or that this processor lacks.
const CpuKernels& kernels();

}  // namespace pyhbt::cpu
