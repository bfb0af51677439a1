// Memory traffic of the kernels of panels and tiles, counted: kernels are compiled for ThreadSanitizer, which calls a
// function at every access, and these functions are ours.
//   Counted are the 32-byte sectors of global memory that a block touches, each once: what a block must fetch or
//   store where nothing is left of other blocks in a cache, and all of its own is.
//   usage: traffic; prints "kernel array bytes_read bytes_written" of panels and tiles of kRows x kColumns.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>
#include <vector>

#include "contrastive.h"
#include "search.h"

namespace {

constexpr int64_t kRows = 64, kColumns = 1024, kSector = 32;

struct Memory {
  std::string name;
  uintptr_t first;
  std::vector<uint64_t> read, written;  // by sector: the block that last touched it
  int64_t sectors_read = 0, sectors_written = 0;
};
std::vector<Memory> memories;
uint64_t block_number = 0;
uint3 block_seen{};
bool counting = false;

void touch(const void* place, size_t size, bool writes) {
  if (!counting) return;
  const auto at = reinterpret_cast<uintptr_t>(place);
  if (blockIdx.x != block_seen.x || blockIdx.y != block_seen.y) {
    block_seen = blockIdx;
    ++block_number;
  }
  for (Memory& memory : memories) {
    const int64_t sectors = static_cast<int64_t>(memory.read.size());
    for (uintptr_t sector = at / kSector; sector <= (at + size - 1) / kSector; ++sector) {
      const int64_t own = static_cast<int64_t>(sector) - static_cast<int64_t>(memory.first);
      if (own < 0 || own >= sectors) continue;
      uint64_t& last = (writes ? memory.written : memory.read)[static_cast<size_t>(own)];
      if (last == block_number) continue;
      last = block_number;
      ++(writes ? memory.sectors_written : memory.sectors_read);
    }
  }
}

template <typename T>
T* array(const char* name, int64_t count, T value = T()) {
  const size_t bytes = (static_cast<size_t>(count) * sizeof(T) + kSector - 1) / kSector * kSector;
  T* data = static_cast<T*>(std::aligned_alloc(kSector, bytes));
  for (int64_t at = 0; at < count; ++at) data[at] = value;
  const std::vector<uint64_t> untouched(bytes / kSector, 0);
  memories.push_back({name, reinterpret_cast<uintptr_t>(data) / kSector, untouched, untouched});
  return data;
}

template <typename Launch>
void count(const char* kernel, const Launch& launch) {
  ++block_number;
  block_seen = {~0u, ~0u, ~0u};
  counting = true;
  launch();
  counting = false;
  for (Memory& memory : memories) {
    if (memory.sectors_read + memory.sectors_written > 0)
      std::printf("%s %s %lld %lld\n", kernel, memory.name.c_str(),
                  static_cast<long long>(memory.sectors_read * kSector),
                  static_cast<long long>(memory.sectors_written * kSector));
    memory.sectors_read = memory.sectors_written = 0;
  }
}

}  // namespace

extern "C" {
#define PYHBT_ACCESS(size)                                                     \
  void __tsan_read##size(void* place) { touch(place, size, false); }           \
  void __tsan_write##size(void* place) { touch(place, size, true); }           \
  void __tsan_unaligned_read##size(void* place) { touch(place, size, false); } \
  void __tsan_unaligned_write##size(void* place) { touch(place, size, true); }
PYHBT_ACCESS(1)
PYHBT_ACCESS(2)
PYHBT_ACCESS(4)
PYHBT_ACCESS(8)
PYHBT_ACCESS(16)
void __tsan_read_range(void* place, size_t size) { touch(place, size, false); }
void __tsan_write_range(void* place, size_t size) { touch(place, size, true); }
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
int __tsan_atomic32_load(const volatile int* place, int order) { return __atomic_load_n(place, order); }
int __tsan_atomic32_compare_exchange_strong(volatile int* place, int* old, int value, int, int) {
  return __atomic_compare_exchange_n(place, old, value, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}
int __tsan_atomic32_compare_exchange_weak(volatile int* place, int* old, int value, int a, int b) {
  return __tsan_atomic32_compare_exchange_strong(place, old, value, a, b);
}
char __tsan_atomic8_load(const volatile char* place, int order) { return __atomic_load_n(place, order); }
}

int main() {
  using namespace pyhbt::cuda;
  using pyhbt::DType;
  const int64_t row_tiles = kRows / kPanelTileRows, column_tiles = kColumns / kPanelTileColumns;
  auto* dots = array<float>("dots", kRows * kColumns, 0.5f);
  auto* factors = array<float>("row_factor", kRows, 1.0f);
  auto* column_factors = array<float>("column_factor", kColumns, 1.0f);
  auto* positives = array<int64_t>("positives", kRows);
  for (int64_t row = 0; row < kRows; ++row) positives[row] = row;
  const Panel panel{.dots = dots,
                    .rows = kRows,
                    .columns = kColumns,
                    .row_factor = factors,
                    .column_factor = column_factors,
                    .positives = positives,
                    .query_groups = nullptr,
                    .passage_groups = nullptr,
                    .limit = nullptr};
  auto* row_partials = array<float2>("row_partials", column_tiles * kRows);
  auto* column_partials = array<float2>("column_partials", row_tiles * kColumns);
  auto* tickets = array<unsigned>("row_tickets", row_tiles, 0u);
  auto* row_logsumexp = array<double>("row_logsumexp", kRows);
  auto* logsumexp = array<double>("logsumexp", kColumns);
  const PanelSums one{row_partials, tickets, row_logsumexp, nullptr};
  const PanelSums both{row_partials, tickets, row_logsumexp, column_partials};
  count("panel_logsumexp", [&] { panel_logsumexp(panel, one, nullptr); });
  count("panel_logsumexp_symmetric", [&] { panel_logsumexp(panel, both, nullptr); });
  count("merge_columns",
        [&] { merge_columns(column_partials, row_tiles, kColumns, true, logsumexp, nullptr); });
  auto* slopes = array<float>("slopes", 3 * kRows, 0.5f);
  auto* column_weight = array<float>("column_weight", kColumns, 0.5f);
  auto* out = array<uint16_t>("out", kRows * kColumns);
  PanelGradient gradient{.row_reference = slopes,
                         .row_weight = slopes + kRows,
                         .own = slopes + 2 * kRows,
                         .column_logsumexp = nullptr,
                         .column_weight = nullptr,
                         .gain = nullptr,
                         .out = dots,
                         .dtype = DType::kFloat32};
  count("panel_gradient_float32", [&] { panel_gradient(panel, gradient, nullptr); });
  gradient.out = out;
  gradient.dtype = DType::kBFloat16;
  count("panel_gradient_bfloat16", [&] { panel_gradient(panel, gradient, nullptr); });
  gradient.column_logsumexp = logsumexp;
  gradient.column_weight = column_weight;
  count("panel_gradient_symmetric", [&] { panel_gradient(panel, gradient, nullptr); });

  auto* query = array<float>("queries", 3 * kRows, 0.25f);
  auto* passage = array<float>("passages", 3 * kColumns, 1.0f);
  auto* listed = array<int32_t>("lists", kRows * 8);
  auto* exact = array<double>("exact", kRows * 8);
  auto* counts = array<int32_t>("counts", 3 * kRows, 0);
  const ScoreTile tile{.scores = dots,
                       .queries = kRows,
                       .first = 0,
                       .columns = kColumns,
                       .code_error = query,
                       .query_size = query + kRows,
                       .passage_size = passage,
                       .passage_error = passage + kColumns,
                       .passage_scale = passage + 2 * kColumns};
  for (int64_t at = 0; at < kRows; ++at) query[2 * kRows + at] = 1e9f;  // thresholds that nothing reaches
  const Lists lists{.passages = listed,
                    .scores = exact,
                    .counts = counts,
                    .scored = counts + kRows,
                    .lost = counts + 2 * kRows,
                    .queries = kRows,
                    .capacity = 8};
  count("append_open", [&] { append_open(tile, query + 2 * kRows, {}, lists, nullptr); });
  return 0;
}
