// The emulator on its own: each kernel is right as it stands and wrong where WRONG is defined, and the
// emulator or the sanitizer it runs under must tell the two apart.
//   usage: misuse CASE
#include <cstdio>
#include <cstring>
#include <vector>

#include "language.h"

namespace {

using namespace pyhbt::cuda;

#if defined(WRONG)
constexpr bool kWrong = true;
#else
constexpr bool kWrong = false;
#endif

constexpr int kThreads = 64;

void barrier_in_one_branch(int* out) {
  const bool low = threadIdx.x < 32;
  if (!kWrong) {
    __syncthreads();
  } else if (low) {
    __syncthreads();
  } else {
    __syncthreads();
  }
  out[threadIdx.x] = low;
}

void barrier_after_some_return(int* out) {
  if (kWrong && threadIdx.x == 7) return;
  __syncthreads();
  out[threadIdx.x] = 1;
}

void lane_missing_from_a_shuffle(int* out) {
  const int lane = static_cast<int>(threadIdx.x % kWarp);
  int value = lane;
  if (!kWrong || lane != 3) value = __shfl_xor_sync(kAllLanes, value, 1);
  out[threadIdx.x] = value;
}

void lane_not_in_its_mask(int* out) {
  out[threadIdx.x] = static_cast<int>(__ballot_sync(kWrong ? 0x7fffffffu : kAllLanes, true) & 1u);
}

void reads_a_lane_outside_the_mask(int* out) {
  const unsigned lane = threadIdx.x % kWarp;
  int value = 0;
  if (lane < 16) value = __shfl_sync(0xffffu, static_cast<int>(lane), kWrong ? 20 : 2);
  out[threadIdx.x] = value;
}

void reads_shared_memory_never_written(int* out) {
  PYHBT_SHARED(int, values, [kThreads]);
  if (!kWrong || threadIdx.x != 5) values[threadIdx.x] = 1;
  __syncthreads();
  out[threadIdx.x] = values[threadIdx.x];
}

void writes_beyond_a_shared_array(int* out) {
  PYHBT_SHARED(int, values, [kThreads]);
  PYHBT_SHARED(int, others, [kThreads]);
  others[threadIdx.x] = 1;
  int* first = values;
  first[threadIdx.x + (kWrong ? 1 : 0)] = 1;
  __syncthreads();
  out[threadIdx.x] = others[threadIdx.x];
}

void warp_reads_what_another_lane_wrote(int* out) {
  PYHBT_SHARED(int, values, [kThreads]);
  values[threadIdx.x] = 1;
  if (!kWrong) __syncwarp();
  out[threadIdx.x] = values[threadIdx.x ^ 1];
}

// Two blocks; the one that draws the second ticket reads what the other wrote.
void flag_without_fence(int* out, unsigned* ticket) {
  PYHBT_SHARED(unsigned, mine, [1]);
  out[blockIdx.x * kThreads + threadIdx.x] = 1;
  if (!kWrong) __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) mine[0] = atomicAdd(ticket, 1u);
  __syncthreads();
  if (mine[0] != 1) return;
  __threadfence();
  int sum = 0;
  for (int at = 0; at < 2 * kThreads; ++at) sum += out[at];
  PYHBT_SHARED(int, sums, [kThreads]);
  sums[threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.x == 0) out[0] = sums[1];
}

void blocks_write_the_same(int* out, unsigned*) {
  out[kWrong ? threadIdx.x : blockIdx.x * kThreads + threadIdx.x] = 1;
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::pair<const char*, void (*)(int*)>> one_block = {
      {"barrier_in_one_branch", barrier_in_one_branch},
      {"barrier_after_some_return", barrier_after_some_return},
      {"lane_missing_from_a_shuffle", lane_missing_from_a_shuffle},
      {"lane_not_in_its_mask", lane_not_in_its_mask},
      {"reads_a_lane_outside_the_mask", reads_a_lane_outside_the_mask},
      {"reads_shared_memory_never_written", reads_shared_memory_never_written},
      {"writes_beyond_a_shared_array", writes_beyond_a_shared_array},
      {"warp_reads_what_another_lane_wrote", warp_reads_what_another_lane_wrote}};
  const std::vector<std::pair<const char*, void (*)(int*, unsigned*)>> two_blocks = {
      {"flag_without_fence", flag_without_fence}, {"blocks_write_the_same", blocks_write_the_same}};
  if (argc != 2) return 2;
  std::vector<int> out(2 * kThreads, 0);
  unsigned ticket = 0, *place = &ticket;
  int* data = out.data();
  for (const auto& [name, kernel] : one_block)
    if (std::strcmp(name, argv[1]) == 0) PYHBT_LAUNCH(kernel, dim3(1), dim3(kThreads), nullptr, data);
  for (const auto& [name, kernel] : two_blocks)
    if (std::strcmp(name, argv[1]) == 0) PYHBT_LAUNCH(kernel, dim3(2), dim3(kThreads), nullptr, data, place);
  for (const int value : out) {
    if (value != -1) continue;
    std::printf("shared memory that nobody wrote was read\n");
    return 1;
  }
  return 0;
}
