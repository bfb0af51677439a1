// Picks the table of inner loops, once, by what the processor says or by the environment variable PYHBT_SIMD.
#if defined(PYHBT_HAVE_X86)
#include <cpuid.h>
#elif defined(PYHBT_HAVE_ARM) && defined(__linux__)
#include <sys/auxv.h>
#elif defined(PYHBT_HAVE_ARM) && defined(__APPLE__)
#include <sys/sysctl.h>
#endif

#include <cstdlib>
#include <stdexcept>

#include "dispatch.h"

namespace pyhbt::cpu {

#define PYHBT_TABLE_OF(isa)           \
  namespace isa {                     \
  CpuKernels table(const char* name); \
  }
PYHBT_TABLE_OF(portable)
#if defined(PYHBT_HAVE_X86)
PYHBT_TABLE_OF(avx2)
PYHBT_TABLE_OF(avxvnni)
PYHBT_TABLE_OF(avx512)
PYHBT_TABLE_OF(avx512vnni)
#endif
#if defined(PYHBT_HAVE_ARM)
PYHBT_TABLE_OF(neon)
PYHBT_TABLE_OF(dotprod)
PYHBT_TABLE_OF(i8mm)
#endif
#if defined(PYHBT_HAVE_WIDE)  // native tests: the source of avx512 in AVX2 instructions
PYHBT_TABLE_OF(wide)
#endif
#undef PYHBT_TABLE_OF

namespace {

struct Level {
  const char* name;
  CpuKernels (*table)(const char* name);
  bool (*supported)();
};

#if defined(PYHBT_HAVE_X86)
bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
bool has_avxvnni() {
  unsigned a = 0, b = 0, c = 0, d = 0;  // not every compiler knows the name
  return has_avx2() && __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && (a >> 4 & 1) != 0;
}
bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw");
}
bool has_vnni() { return has_avx512() && __builtin_cpu_supports("avx512vnni"); }
#endif

#if defined(PYHBT_HAVE_ARM)
#if defined(__linux__)
// The bits of Linux's ABI; headers older than the processor lack their names.
bool has_dotprod() { return (getauxval(AT_HWCAP) >> 20 & 1) != 0; }                 // HWCAP_ASIMDDP
bool has_i8mm() { return has_dotprod() && (getauxval(AT_HWCAP2) >> 13 & 1) != 0; }  // HWCAP2_I8MM
#elif defined(__APPLE__)
bool has_feature(const char* name) {
  int found = 0;
  size_t size = sizeof found;
  return sysctlbyname(name, &found, &size, nullptr, 0) == 0 && found != 0;
}
bool has_dotprod() { return has_feature("hw.optional.arm.FEAT_DotProd"); }
bool has_i8mm() { return has_dotprod() && has_feature("hw.optional.arm.FEAT_I8MM"); }
#else
bool has_dotprod() { return false; }
bool has_i8mm() { return false; }
#endif
#endif

const Level kLevels[] = {
    {"portable", portable::table, [] { return true; }},
#if defined(PYHBT_HAVE_WIDE)
    {"wide", wide::table, has_avx2},
#endif
#if defined(PYHBT_HAVE_X86)
    {"avx2", avx2::table, has_avx2},
    {"avxvnni", avxvnni::table, has_avxvnni},
    {"avx512", avx512::table, has_avx512},
    {"avx512vnni", avx512vnni::table, has_vnni},
#endif
#if defined(PYHBT_HAVE_ARM)
    {"neon", neon::table, [] { return true; }},
    {"dotprod", dotprod::table, has_dotprod},
    {"i8mm", i8mm::table, has_i8mm},
#endif
};

CpuKernels choose() {
  const char* wanted = std::getenv("PYHBT_SIMD");
  if (wanted == nullptr || *wanted == '\0') {
    const Level* best = &kLevels[0];
    for (const Level& level : kLevels)
      if (level.supported()) best = &level;
    return best->table(best->name);
  }
  std::string names;
  for (const Level& level : kLevels) {
    if (std::string(wanted) == level.name) {
      if (level.supported()) return level.table(level.name);
      throw std::runtime_error("PYHBT_SIMD: found '" + std::string(wanted) +
                               "', expected a level that this processor runs");
    }
    names += (names.empty() ? "" : ", ") + std::string(level.name);
  }
  throw std::runtime_error("PYHBT_SIMD: found '" + std::string(wanted) + "', expected one of " + names);
}

}  // namespace

std::vector<std::string> compiled_levels() {
  std::vector<std::string> names;
  for (const Level& level : kLevels) names.emplace_back(level.name);
  return names;
}

std::vector<std::string> supported_levels() {
  std::vector<std::string> names;
  for (const Level& level : kLevels)
    if (level.supported()) names.emplace_back(level.name);
  return names;
}

const CpuKernels& kernels() {
  static const CpuKernels chosen = choose();
  return chosen;
}

}  // namespace pyhbt::cpu
