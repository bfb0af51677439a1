// The inner loops for 64-bit ARM: 4-float vectors. 24 accumulators, 6 vectors of B and one of A fill 31 of the 32
// registers; a taller tile would have to divide the strip (tile_kernels.h), and 5 x 5 is no better.
#ifndef PYHBT_ISA
#define PYHBT_ISA neon
#endif
#define PYHBT_NEON
#define PYHBT_VECTOR_FLOATS 4
#define PYHBT_STRIP_VECTORS 6
#define PYHBT_MICRO_ROWS 4
#include "kernel_table.h"
