// Kernels of exact search and rank counting: search.h.
#include "search.h"

#include <algorithm>
#include <cmath>

#include "../tile_math.h"
#include "numbers.h"

namespace pyhbt::cuda {
namespace {

constexpr int kThreads = 256;

constexpr int kLanes = 8;  // of one exact sum

// The dot product in the order that defines the score: lane l sums the products l, l + 8, ..., which are
// exact in float64; then ((0+1)+(2+3))+((4+5)+(6+7)).
//   Called by the eight neighbouring threads of one pair, all of which get it.
template <typename Left, typename Right>
__device__ inline double exact_dot(const Left* left, const Right* right, int64_t dim) {
  double sum = 0;
  for (int64_t at = threadIdx.x % kLanes; at < dim; at += kLanes) sum += number(left, at) * number(right, at);
  for (int distance = 1; distance < kLanes; distance *= 2)
    sum += __shfl_xor_sync(kAllLanes, sum, distance, kLanes);
  return sum;
}

// Whether an ascending row of length numbers holds x.
template <typename Number>
__device__ inline bool holds(const Number* row, int64_t length, Number x) {
  int64_t first = 0, last = length;
  while (first < last) {
    const int64_t middle = (first + last) / 2;
    if (row[middle] < x)
      first = middle + 1;
    else
      last = middle;
  }
  return first < length && row[first] == x;
}

__device__ inline bool accepts(const SearchFilter& filter, int64_t query, int64_t passage) {
  if (filter.allowed != nullptr && filter.allowed[passage] == 0) return false;
  if (filter.passage_partitions != nullptr) {
    const int32_t partition = filter.passage_partitions[passage];
    if (partition < 0) return false;
    const int64_t length = filter.partitions_per_query;
    if (!holds(filter.query_partitions + query * length, length, partition)) return false;
  }
  const int64_t length = filter.excluded_per_query;
  return !holds(filter.excluded + query * length, length, passage);
}

// All lanes of a warp call it for one list; entries of lanes with `wanted` are appended.
__device__ inline void append(const Lists& lists, int64_t list, bool wanted, int64_t passage) {
  const unsigned lane = threadIdx.x % kWarp, chosen = __ballot_sync(kAllLanes, wanted);
  if (chosen == 0) return;
  const int leader = __ffs(static_cast<int>(chosen)) - 1;
  int32_t start = 0;
  if (static_cast<int>(lane) == leader) start = atomicAdd(&lists.counts[list], __popc(chosen));
  start = __shfl_sync(kAllLanes, start, leader);
  const int64_t place = start + __popc(chosen & ((1u << lane) - 1));
  if (wanted && place < lists.capacity)
    lists.passages[list * lists.capacity + place] = static_cast<int32_t>(passage);
}

struct Bounded {
  float lower, upper;
};

// What belongs to a passage, in registers.
struct PassageBounds {
  float size, error, scale;
};

__device__ inline PassageBounds passage_bounds(const ScoreTile& tile, int64_t passage) {
  return {tile.passage_size[passage], tile.passage_error[passage], tile.passage_scale[passage]};
}

__device__ inline Bounded bounds_of(const ScoreTile& tile, int64_t query, int64_t column,
                                    const PassageBounds& passage) {
  const float score = tile.scores[query * tile.columns + column];
  const float error = tile.code_error[query] * passage.size + tile.query_size[query] * passage.error;
  return {score - error, score + error};
}

constexpr int kTileEach = 4;     // columns of one thread
constexpr int kTileQueries = 8;  // of one block, which reads 12 bytes of a passage once for all

__global__ void __launch_bounds__(kThreads)
    append_kernel(ScoreTile tile, const float* threshold, SearchFilter filter, Lists lists) {
  const int64_t first_query = static_cast<int64_t>(blockIdx.y) * kTileQueries;
  const int64_t last_query =
      first_query + kTileQueries < tile.queries ? first_query + kTileQueries : tile.queries;
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kThreads * kTileEach + threadIdx.x;
  for (int each = 0; each < kTileEach; ++each) {
    const int64_t column = first + each * kThreads, passage = tile.first + column;
    const bool there = column < tile.columns;
    const PassageBounds bounds = passage_bounds(tile, there ? passage : tile.first);
    for (int64_t query = first_query; query < last_query; ++query) {
      const bool open = there &&
                        !(bounds_of(tile, query, column, bounds).upper < threshold[query] * bounds.scale) &&
                        accepts(filter, query, passage);
      append(lists, query, open, passage);
    }
  }
}

template <typename Number>
__global__ void __launch_bounds__(kThreads) norms_kernel(Embeddings rows, double* norms) {
  const int64_t row = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) / kLanes;
  const int64_t known = row < rows.rows ? row : rows.rows - 1;  // all lanes of a warp sum
  const Number* numbers = row_of<Number>(rows, known);
  const double square = exact_dot(numbers, numbers, rows.dim);
  if (row < rows.rows && threadIdx.x % kLanes == 0) norms[row] = sqrt(square);
}

__device__ inline int32_t in_list(const Lists& lists, int64_t query) {
  return lists.counts[query] < lists.capacity ? lists.counts[query] : static_cast<int32_t>(lists.capacity);
}

template <typename Number>
__global__ void __launch_bounds__(kThreads)
    score_kernel(Embeddings queries, Embeddings corpus, const double* norms, Lists lists) {
  const int64_t query = blockIdx.y;
  const int32_t count = in_list(lists, query), scored = lists.scored[query];
  const int64_t step = static_cast<int64_t>(gridDim.x) * kThreads / kLanes;
  const int64_t warp_first =
      (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x / kWarp * kWarp) / kLanes;
  // All lanes of a warp go round together: it has four entries at a time.
  for (int64_t at = scored + warp_first; at < count; at += step) {
    const int64_t entry = at + threadIdx.x % kWarp / kLanes;
    const int64_t known = entry < count ? entry : count - 1;
    const int64_t passage = lists.passages[query * lists.capacity + known];
    double score = exact_dot(row_of<float>(queries, query), row_of<Number>(corpus, passage), corpus.dim);
    if (norms != nullptr) score = norms[passage] > 0 ? score / norms[passage] : 0.0;
    if (entry < count && threadIdx.x % kLanes == 0) lists.scores[query * lists.capacity + entry] = score;
  }
}

// Scores as integers in the same order.
__device__ inline uint64_t ordered(double score) {
  const uint64_t bits = static_cast<uint64_t>(__double_as_longlong(score + 0.0));  // one zero, not two
  return (bits >> 63) != 0 ? ~bits : bits | (uint64_t{1} << 63);
}
__device__ inline double unordered(uint64_t key) {
  const uint64_t bits = (key >> 63) != 0 ? key & ~(uint64_t{1} << 63) : ~key;
  return __longlong_as_double(static_cast<long long>(bits));
}

// The largest float32 not above x.
__device__ inline float round_down(double x) {
  const float rounded = static_cast<float>(x);
  return static_cast<double>(rounded) <= x ? rounded : nextafterf(rounded, -INFINITY);
}

struct Nth {
  uint64_t key;
  int32_t ahead;  // how many are larger
};

// By one warp: the digit of the wanted-th largest entry, and how many lie above it, beside those of `larger`.
//   Lane l has the eight digits from 255 - 8 l down.
__device__ inline void choose_digit(const int32_t* histogram, int32_t wanted, int32_t larger,
                                    int32_t* choice) {
  const int lane = static_cast<int>(threadIdx.x);
  const int top = 255 - 8 * lane;
  int32_t mine = 0;
  for (int digit = top; digit > top - 8; --digit) mine += histogram[digit];
  int32_t above = mine;  // with those of the lanes before, and in the end without its own
  for (int distance = 1; distance < kWarp; distance *= 2) {
    const int32_t other = __shfl_sync(kAllLanes, above, lane - distance);
    if (lane >= distance) above += other;
  }
  above -= mine;
  if (above >= wanted || above + mine < wanted) return;
  int digit = top;
  while (above + histogram[digit] < wanted) above += histogram[digit--];
  choice[0] = digit;
  choice[1] = larger + above;
}

// By one block: the wanted-th largest (from 1) of the keys that matter.
//   Radix select, eight bits at a time from the top.
template <typename KeyOf>
__device__ Nth nth_largest(int32_t count, int32_t wanted, int32_t bits, KeyOf key_of, int32_t* histogram,
                           int32_t* shared_choice) {
  uint64_t prefix = 0, known = 0;
  int32_t larger = 0;
  for (int32_t shift = bits - 8; shift >= 0; shift -= 8) {
    for (int at = static_cast<int>(threadIdx.x); at < 256; at += kThreads) histogram[at] = 0;
    __syncthreads();
    for (int32_t at = static_cast<int32_t>(threadIdx.x); at < count; at += kThreads) {
      uint64_t key = 0;
      if (key_of(at, &key) && (key & known) == prefix) atomicAdd(&histogram[key >> shift & 255], 1);
    }
    __syncthreads();
    if (threadIdx.x < kWarp) choose_digit(histogram, wanted - larger, larger, shared_choice);
    __syncthreads();
    prefix |= static_cast<uint64_t>(shared_choice[0]) << shift;
    known |= uint64_t{255} << shift;
    larger = shared_choice[1];  // not overwritten before all have passed the next barrier
  }
  return {prefix, larger};
}

// One list a block.
__global__ void __launch_bounds__(kThreads)
    select_kernel(Lists lists, int64_t k, const double* scale, bool sorted, float* threshold) {
  PYHBT_SHARED(uint64_t, keys, [kMostSelected]);
  PYHBT_SHARED(int32_t, passages, [kMostSelected]);
  PYHBT_SHARED(int32_t, histogram, [256]);
  PYHBT_SHARED(int32_t, choice, [2]);
  PYHBT_SHARED(int32_t, taken, [1]);
  const int64_t query = blockIdx.x;
  const int thread = static_cast<int>(threadIdx.x);
  const int32_t count = in_list(lists, query);
  const double* scores = lists.scores + query * lists.capacity;
  const int32_t* listed = lists.passages + query * lists.capacity;
  const int32_t wanted = static_cast<int32_t>(k < count ? k : count);
  if (thread == 0) taken[0] = 0;

  uint64_t least = 0;                // of the keys that are kept
  int32_t last_passage = INT32_MAX;  // among those of the least key
  if (count >= k) {
    const Nth nth = nth_largest(
        count, wanted, 64,
        [&](int32_t at, uint64_t* key) {
          *key = ordered(scores[at]);
          return true;
        },
        histogram, choice);
    least = nth.key;
    const Nth inverted = nth_largest(
        count, wanted - nth.ahead, 32,
        [&](int32_t at, uint64_t* key) {
          *key = ~static_cast<uint32_t>(listed[at]);
          return ordered(scores[at]) == least;
        },
        histogram, choice);
    last_passage = static_cast<int32_t>(~static_cast<uint32_t>(inverted.key));
  }
  __syncthreads();
  for (int32_t at = thread; at < count; at += kThreads) {
    const uint64_t key = ordered(scores[at]);
    if (key > least || (key == least && listed[at] <= last_passage)) {
      const int32_t place = atomicAdd(&taken[0], 1);
      keys[place] = key;
      passages[place] = listed[at];
    }
  }
  __syncthreads();
  if (sorted) {
    int32_t width = 1;
    while (width < wanted) width *= 2;
    for (int32_t at = wanted + thread; at < width; at += kThreads) {  // the last of all
      keys[at] = 0;
      passages[at] = INT32_MAX;
    }
    __syncthreads();
    for (int32_t size = 2; size <= width; size *= 2) {  // bitonic sort
      for (int32_t distance = size / 2; distance > 0; distance /= 2) {
        for (int32_t at = thread; at < width; at += kThreads) {
          const int32_t other = at ^ distance;
          if (other < at) continue;
          const bool in_order =
              keys[at] > keys[other] || (keys[at] == keys[other] && passages[at] < passages[other]);
          if (in_order == ((at & size) == 0)) continue;
          const uint64_t key = keys[at];
          const int32_t passage = passages[at];
          keys[at] = keys[other];
          passages[at] = passages[other];
          keys[other] = key;
          passages[other] = passage;
        }
        __syncthreads();
      }
    }
  }
  for (int32_t at = thread; at < wanted; at += kThreads) {
    lists.scores[query * lists.capacity + at] = unordered(keys[at]);
    lists.passages[query * lists.capacity + at] = passages[at];
  }
  if (thread == 0) {
    if (lists.counts[query] > lists.capacity) lists.lost[query] = 1;
    lists.counts[query] = lists.scored[query] = wanted;
    threshold[query] = wanted < k ? -INFINITY : round_down(unordered(least) * scale[query]);
  }
}

__global__ void __launch_bounds__(kThreads)
    count_kernel(ScoreTile tile, Targets targets, SearchFilter filter, Lists lists) {
  const int64_t query = blockIdx.y;
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kThreads * kTileEach + threadIdx.x;
  const float* low = targets.low + query * targets.count;
  const float* high = targets.high + query * targets.count;
  for (int each = 0; each < kTileEach; ++each) {
    const int64_t column = first + each * kThreads, passage = tile.first + column;
    int32_t certain = 0;
    bool open = false;
    if (column < tile.columns && accepts(filter, query, passage)) {
      const PassageBounds bounds = passage_bounds(tile, passage);
      const Bounded score = bounds_of(tile, query, column, bounds);
      while (certain < targets.count && score.lower > high[certain] * bounds.scale) ++certain;
      open = certain < targets.count && !(score.upper < low[certain] * bounds.scale);
    }
    append(lists, query, open, passage);
    unsigned rest = __ballot_sync(kAllLanes, certain > 0 && !open);
    while (rest != 0) {  // once for each number of targets that lanes of this warp have
      const int leader = __ffs(static_cast<int>(rest)) - 1;
      const int32_t number = __shfl_sync(kAllLanes, certain, leader);
      const unsigned same = __ballot_sync(kAllLanes, certain == number && !open) & rest;
      if (static_cast<int>(threadIdx.x % kWarp) == leader)
        atomicAdd(&targets.beaten[query * (targets.count + 1) + number], __popc(same));
      rest &= ~same;
    }
  }
}

__global__ void __launch_bounds__(kThreads) settle_kernel(Targets targets, Lists lists) {
  const int64_t query = blockIdx.x;
  const int32_t count = in_list(lists, query);
  for (int32_t at = static_cast<int32_t>(threadIdx.x); at < count; at += kThreads) {
    const int64_t entry = query * lists.capacity + at;
    const Candidate candidate{lists.scores[entry], lists.passages[entry]};
    int32_t low = 0, high = static_cast<int32_t>(targets.count);  // how many targets it comes before
    while (low < high) {
      const int32_t middle = (low + high) / 2;
      const int64_t target = query * targets.count + middle;
      if (ranks_before(candidate, {targets.scores[target], targets.passages[target]}))
        low = middle + 1;
      else
        high = middle;
    }
    if (low > 0) atomicAdd(&targets.beaten[query * (targets.count + 1) + low], 1);
  }
  __syncthreads();  // all have read the count
  if (threadIdx.x == 0) {
    if (lists.counts[query] > lists.capacity) lists.lost[query] = 1;
    lists.counts[query] = lists.scored[query] = 0;
  }
}

unsigned blocks(int64_t count, int64_t each) { return static_cast<unsigned>((count + each - 1) / each); }

dim3 tile_grid(const ScoreTile& tile, int64_t queries_each) {
  return dim3(blocks(tile.columns, kThreads * kTileEach), blocks(tile.queries, queries_each));
}

}  // namespace

void append_open(const ScoreTile& tile, const float* threshold, const SearchFilter& filter,
                 const Lists& lists, cudaStream_t stream) {
  PYHBT_LAUNCH(append_kernel, tile_grid(tile, kTileQueries), dim3(kThreads), stream, tile, threshold, filter,
               lists);
}

void exact_norms(const Embeddings& rows, double* norms, cudaStream_t stream) {
  const dim3 grid(blocks(rows.rows, kThreads / kLanes));
  switch (rows.dtype) {
    case DType::kFloat32:
      PYHBT_LAUNCH(norms_kernel<float>, grid, dim3(kThreads), stream, rows, norms);
      break;
    case DType::kFloat16:
      PYHBT_LAUNCH(norms_kernel<HalfBits>, grid, dim3(kThreads), stream, rows, norms);
      break;
    case DType::kBFloat16:
      PYHBT_LAUNCH(norms_kernel<BFloatBits>, grid, dim3(kThreads), stream, rows, norms);
      break;
    default:  // of one byte: refused at the border
      break;
  }
}

void score_lists(const Embeddings& queries, const Embeddings& corpus, const double* norms, const Lists& lists,
                 cudaStream_t stream) {
  constexpr unsigned kMostBlocks = 8;  // of one list; longer ones take several turns
  const dim3 grid(std::min(blocks(lists.capacity, kThreads / kLanes), kMostBlocks),
                  static_cast<unsigned>(lists.queries));
  switch (corpus.dtype) {
    case DType::kFloat32:
      PYHBT_LAUNCH(score_kernel<float>, grid, dim3(kThreads), stream, queries, corpus, norms, lists);
      break;
    case DType::kFloat16:
      PYHBT_LAUNCH(score_kernel<HalfBits>, grid, dim3(kThreads), stream, queries, corpus, norms, lists);
      break;
    case DType::kBFloat16:
      PYHBT_LAUNCH(score_kernel<BFloatBits>, grid, dim3(kThreads), stream, queries, corpus, norms, lists);
      break;
    default:  // of one byte: refused at the border
      break;
  }
}

void select_best(const Lists& lists, int64_t k, const double* scale, bool sorted, float* threshold,
                 cudaStream_t stream) {
  PYHBT_LAUNCH(select_kernel, dim3(static_cast<unsigned>(lists.queries)), dim3(kThreads), stream, lists, k,
               scale, sorted, threshold);
}

void count_beaten(const ScoreTile& tile, const Targets& targets, const SearchFilter& filter,
                  const Lists& lists, cudaStream_t stream) {
  PYHBT_LAUNCH(count_kernel, tile_grid(tile, 1), dim3(kThreads), stream, tile, targets, filter, lists);
}

void settle_beaten(const Targets& targets, const Lists& lists, cudaStream_t stream) {
  PYHBT_LAUNCH(settle_kernel, dim3(static_cast<unsigned>(lists.queries)), dim3(kThreads), stream, targets,
               lists);
}

}  // namespace pyhbt::cuda
