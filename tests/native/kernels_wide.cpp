// The level "wide": the 16-lane inner loops of AVX-512 compiled to AVX2 instructions (CMakeLists.txt), so
// that their logic is tested on processors without AVX-512.
#define PYHBT_ISA wide
#include "cpu/kernels_avx512.cpp"
