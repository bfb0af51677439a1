// The inner loops for any processor: 4-float vectors (SSE2 on x86-64, NEON on arm64). Baseline compiler
// flags.
#define PYHBT_ISA portable
#define PYHBT_VECTOR_FLOATS 4
#include "tile_kernels.h"
