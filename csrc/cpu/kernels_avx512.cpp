// The inner loops for x86-64 with AVX-512: 16-float vectors. Compiled with -mavx512f (CMakeLists.txt), or
// with -mavx2 -mfma as the level "wide" of the native tests.
#ifndef PYHBT_ISA
#define PYHBT_ISA avx512
#endif
#define PYHBT_VECTOR_FLOATS 16
#define PYHBT_STRIP_VECTORS 2
#define PYHBT_MICRO_ROWS 8
#include "kernel_table.h"
