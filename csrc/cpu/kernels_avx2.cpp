// The inner loops for x86-64 with AVX2 and FMA: 8-float vectors. 12 accumulators, 3 vectors of B and one
// broadcast fill the 16 registers. Compiled with -mavx2 -mfma (CMakeLists.txt).
#ifndef PYHBT_ISA
#define PYHBT_ISA avx2
#endif
#define PYHBT_VECTOR_FLOATS 8
#define PYHBT_STRIP_VECTORS 3
#define PYHBT_MICRO_ROWS 4
#include "kernel_table.h"
