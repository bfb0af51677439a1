// The inner loops for 64-bit ARM with products of int8 matrices (an option of ARMv8.2, part of ARMv8.6): those of neon,
// but for int8. Compiled with -march=armv8.2-a+dotprod+i8mm (CMakeLists.txt).
#define PYHBT_ISA i8mm
#define PYHBT_CODES_SMMLA
#include "kernels_neon.cpp"
