// The inner loops for 64-bit ARM with SDOT (an option of ARMv8.2): those of neon, but for int8.
// Compiled with -march=armv8.2-a+dotprod (CMakeLists.txt).
#define PYHBT_ISA dotprod
#define PYHBT_CODES_SDOT
#include "kernels_neon.cpp"
