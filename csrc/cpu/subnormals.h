// The processor's switch for subnormal numbers, of one thread: the proofs of search need them kept.
#pragma once

#include <cstdint>

#if defined(__SSE__)
#include <xmmintrin.h>
#endif

namespace pyhbt::cpu {

#if defined(__SSE__)
constexpr uint64_t kFlushSubnormals = 0x8040;  // flush to zero; subnormals are zeros
inline uint64_t float_control() { return _mm_getcsr(); }
inline void set_float_control(uint64_t control) { _mm_setcsr(static_cast<unsigned>(control)); }
#elif defined(__aarch64__)
constexpr uint64_t kFlushSubnormals = 1u << 24 | 1u << 19 | 1u;  // FPCR: FZ, FZ16; FIZ, of ARMv8.7
inline uint64_t float_control() {
  uint64_t control;
  asm volatile("mrs %0, fpcr" : "=r"(control) : : "memory");
  return control;
}
inline void set_float_control(uint64_t control) { asm volatile("msr fpcr, %0" : : "r"(control) : "memory"); }
#else
constexpr uint64_t kFlushSubnormals = 0;
inline uint64_t float_control() { return 0; }
inline void set_float_control(uint64_t) {}
#endif

// While alive, this thread keeps subnormal numbers, whatever torch.set_flush_denormal or others have set.
class KeepSubnormals {
 public:
  KeepSubnormals() : saved_(float_control()) { set_float_control(saved_ & ~kFlushSubnormals); }
  ~KeepSubnormals() { set_float_control(saved_); }
  KeepSubnormals(const KeepSubnormals&) = delete;
  KeepSubnormals& operator=(const KeepSubnormals&) = delete;

 private:
  uint64_t saved_;
};

}  // namespace pyhbt::cpu
