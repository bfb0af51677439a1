// The inner loops for x86-64 with AVX2 and FMA: 8-float vectors. Compiled with -mavx2 -mfma (CMakeLists.txt).
#define PYHBT_ISA avx2
#define PYHBT_VECTOR_FLOATS 8
#include "tile_kernels.h"
