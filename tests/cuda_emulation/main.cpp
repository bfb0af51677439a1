// Every kernel of csrc/cuda on the emulator: in several orders of threads, under sanitizers, and with mistakes
// sown into the kernels.
//   usage: main [SCENARIO...]; without one, all
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "checks.h"

int main(int argc, char** argv) {
  using namespace checks;
  const std::vector<std::pair<std::string, std::function<void()>>> scenarios = {
      {"logsumexp", test_logsumexp}, {"gradient", test_gradient}, {"multiply", test_multiply},
      {"start", test_start},         {"solve", test_solve},       {"columns", test_columns},
      {"gain", test_gain},           {"end", test_end},           {"total", test_total},
      {"search", test_search},       {"overflow", test_overflow}, {"ranks", test_ranks},
      {"append", test_append},       {"norms", test_norms},       {"scores", test_scores},
      {"select", test_select},       {"count", test_count},       {"settle", test_settle}};
  for (const auto& [name, run] : scenarios) {
    bool wanted = argc == 1;
    for (int i = 1; i < argc; ++i) wanted = wanted || name == argv[i];
    if (wanted) run();
  }
  if (failures > 0) std::printf("%d failures\n", failures);
  return failures > 0 ? 1 : 0;
}
