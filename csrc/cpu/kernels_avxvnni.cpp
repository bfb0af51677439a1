// The inner loops for x86-64 with AVX2, FMA and the 256-bit form of VNNI (Intel's processors for laptops from Alder
// Lake on): those of avx2, but for int8. Compiled with -mavx2 -mfma -mavxvnni (CMakeLists.txt).
#define PYHBT_ISA avxvnni
#include "kernels_avx2.cpp"
