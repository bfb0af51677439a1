// The inner loops for the compiler's baseline: 4-float vectors (SSE2 on x86-64, NEON on ARM).
#define PYHBT_ISA portable
#define PYHBT_VECTOR_FLOATS 4
#define PYHBT_STRIP_VECTORS 3
#define PYHBT_MICRO_ROWS 4
#include "kernel_table.h"
