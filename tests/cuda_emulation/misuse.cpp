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

void shuffles_in_a_width_that_is_no_power_of_two(int* out) {
  out[threadIdx.x] = __shfl_xor_sync(kAllLanes, 1, 1, kWrong ? 6 : 8);
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

// Every thread of a block knows all of its block at the barrier, and nothing of the other.
void blocks_write_the_same_after_barriers(int* out, unsigned*) {
  __syncthreads();
  if (threadIdx.x == blockIdx.x) out[kWrong ? 0 : blockIdx.x] = 1;
  __syncthreads();
}

enum Fence { kNone, kBlockWide, kDeviceWide };

void pass(Fence fence) {
  if (fence == kBlockWide) __threadfence_block();
  if (fence == kDeviceWide) __threadfence();
}

// One thread in each of two blocks writes; the one that draws the second ticket reads what the other wrote.
template <Fence kBeforeWrite, Fence kBeforeTicket, Fence kBeforeRead, Fence kAfterRead>
void hand_over(int* out, unsigned* ticket) {
  if (threadIdx.x != 0) return;
  pass(kWrong ? kBeforeWrite : kNone);
  out[blockIdx.x] = 1;
  pass(kWrong ? kBeforeTicket : kDeviceWide);
  const unsigned drawn = atomicAdd(ticket, 1u);
  pass(kWrong ? kBeforeRead : kDeviceWide);
  if (drawn == 0) return;
  out[2] = out[1 - blockIdx.x];
  pass(kWrong ? kAfterRead : kNone);
}

// The first half of each block hands over to whoever of the same block draws the second ticket.
void fences_of_a_block(int* out, unsigned* ticket) {
  if (threadIdx.x % kWarp != 0) return;
  const unsigned warp = threadIdx.x / kWarp, first = 2 * blockIdx.x;
  out[first + warp] = 1;
  if (!kWrong) __threadfence_block();
  const unsigned drawn = atomicAdd(&ticket[blockIdx.x], 1u);
  __threadfence_block();
  if (drawn == 1) out[4 + blockIdx.x] = out[first + 1 - warp];
}

void atomics_of_two_addresses(int* out, unsigned* ticket) {
  if (threadIdx.x != 0) return;
  out[blockIdx.x] = 1;
  __threadfence();
  const unsigned drawn = atomicAdd(&ticket[kWrong ? blockIdx.x : 0], 1u);
  __threadfence();
  if (kWrong ? blockIdx.x == 1 : drawn == 1) out[2] = out[1 - blockIdx.x];
}

// A fence before a barrier is as good as one after it, but only for the writes of the thread that passes it.
void one_thread_fences_before_a_barrier(int* out, unsigned* ticket) {
  PYHBT_SHARED(unsigned, drawn, [1]);
  out[blockIdx.x * kThreads + threadIdx.x] = 1;
  if (kWrong && threadIdx.x == 0) __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) {
    if (!kWrong) __threadfence();
    drawn[0] = atomicAdd(ticket, 1u);
    __threadfence();
  }
  __syncthreads();
  if (drawn[0] == 1)
    out[blockIdx.x * kThreads + threadIdx.x] = out[(1 - blockIdx.x) * kThreads + threadIdx.x];
}

void plain_store_beside_atomics(int*, unsigned* ticket) {
  if (threadIdx.x != 0) return;
  __threadfence();
  const unsigned drawn = atomicAdd(ticket, 1u);
  __threadfence();
  if (drawn == 0) return;
  if (kWrong)
    ticket[0] = 0;
  else
    atomicExch(ticket, 0u);
}

// An atomic without a fence passes on what others published at its address, and nothing of its own thread.
void third_reads_past_an_atomic_without_fence(int* out, unsigned* ticket) {
  if (threadIdx.x != 0) return;
  out[blockIdx.x] = 1;
  if (blockIdx.x != 1) __threadfence();
  const unsigned drawn = atomicAdd(ticket, blockIdx.x == 1 ? 100u : 1u);
  if (blockIdx.x == 1 || drawn % 100 != 1) return;
  __threadfence();
  out[3] = out[2 - blockIdx.x];
  if (kWrong) out[4] = out[1];
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::pair<const char*, void (*)(int*)>> one_block = {
      {"barrier_in_one_branch", barrier_in_one_branch},
      {"barrier_after_some_return", barrier_after_some_return},
      {"lane_missing_from_a_shuffle", lane_missing_from_a_shuffle},
      {"lane_not_in_its_mask", lane_not_in_its_mask},
      {"reads_a_lane_outside_the_mask", reads_a_lane_outside_the_mask},
      {"shuffles_in_a_width_that_is_no_power_of_two", shuffles_in_a_width_that_is_no_power_of_two},
      {"reads_shared_memory_never_written", reads_shared_memory_never_written},
      {"writes_beyond_a_shared_array", writes_beyond_a_shared_array},
      {"warp_reads_what_another_lane_wrote", warp_reads_what_another_lane_wrote}};
  struct Case {
    const char* name;
    void (*kernel)(int*, unsigned*);
    unsigned blocks = 2;
  };
  const std::vector<Case> several_blocks = {
      {"flag_without_fence", flag_without_fence},
      {"blocks_write_the_same", blocks_write_the_same},
      {"blocks_write_the_same_after_barriers", blocks_write_the_same_after_barriers},
      {"fence_before_the_write", hand_over<kDeviceWide, kNone, kDeviceWide, kNone>},
      {"fence_after_the_ticket", hand_over<kNone, kNone, kDeviceWide, kNone>},
      {"read_before_the_fence", hand_over<kNone, kDeviceWide, kNone, kDeviceWide>},
      {"block_wide_fence_before_the_ticket", hand_over<kNone, kBlockWide, kDeviceWide, kNone>},
      {"block_wide_fence_before_the_read", hand_over<kNone, kDeviceWide, kBlockWide, kNone>},
      {"fences_of_a_block", fences_of_a_block},
      {"atomics_of_two_addresses", atomics_of_two_addresses},
      {"one_thread_fences_before_a_barrier", one_thread_fences_before_a_barrier},
      {"plain_store_beside_atomics", plain_store_beside_atomics},
      {"third_reads_past_an_atomic_without_fence", third_reads_past_an_atomic_without_fence, 3}};
  if (argc != 2) return 2;
  std::vector<int> out(3 * kThreads, 0);
  std::vector<unsigned> tickets(
      2, 0);  // ThreadSanitizer remembers four accesses of eight bytes: none but theirs
  unsigned* place = tickets.data();
  int* data = out.data();
  for (const auto& [name, kernel] : one_block)
    if (std::strcmp(name, argv[1]) == 0) PYHBT_LAUNCH(kernel, dim3(1), dim3(kThreads), nullptr, data);
  for (const auto& [name, kernel, blocks] : several_blocks)
    if (std::strcmp(name, argv[1]) == 0)
      PYHBT_LAUNCH(kernel, dim3(blocks), dim3(kThreads), nullptr, data, place);
  for (const int value : out) {
    if (value != -1) continue;
    std::printf("shared memory that nobody wrote was read\n");
    return 1;
  }
  return 0;
}
