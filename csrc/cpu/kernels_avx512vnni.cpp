// The inner loops for x86-64 with AVX-512 and VNNI: those of avx512,
// but for int8, which is four times as fast as float32.
#define PYHBT_ISA avx512vnni
#include "kernels_avx512.cpp"
