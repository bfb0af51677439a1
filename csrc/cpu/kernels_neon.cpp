// The inner loops for 64-bit ARM: 4-float vectors. 24 accumulators, 4 registers of A and one or two of B, of 32
// (docs/decisions/0046-arm.md).
#ifndef PYHBT_ISA
#define PYHBT_ISA neon
#endif
#define PYHBT_NEON
#define PYHBT_VECTOR_FLOATS 4
#define PYHBT_STRIP_VECTORS 6
#define PYHBT_MICRO_ROWS 4
#include "kernel_table.h"
