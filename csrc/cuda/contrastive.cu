// Kernels of the contrastive loss: contrastive.h.
#include "contrastive.h"

#include <cmath>

#include "../tile_math.h"

namespace pyhbt::cuda {
namespace {

__device__ inline float score_of(const Panel& panel, int64_t row, int64_t column) {
  const float column_factor = panel.column_factor == nullptr ? 1.0f : panel.column_factor[column];
  return panel.dots[row * panel.columns + column] * (panel.row_factor[row] * column_factor);
}

__device__ inline bool is_negative(const Panel& panel, int64_t row, int64_t column, float score) {
  const int64_t positive = panel.positives[row];
  if (positive < 0 || positive == column) return false;
  if (panel.passage_groups != nullptr) {
    const int64_t group = panel.passage_groups[column];
    if (group >= 0 && group == panel.query_groups[row]) return false;
  }
  return panel.limit == nullptr || !(score > panel.limit[row]);  // a NaN stays, and spreads
}

// The logsumexp of some scores by one thread, minus infinity among them.
struct Running {
  float max = -INFINITY, sum = 0;

  __device__ void see(float score) { max = score > max || score != score ? score : max; }
  __device__ void add(float score) {
    if (score != -INFINITY) sum += __expf(score - max);
  }
  __device__ void merge(Running other) {
    const float top = max < other.max || other.max != other.max ? other.max : max;
    if (top == -INFINITY) return;
    sum = sum * __expf(max - top) + other.sum * __expf(other.max - top);
    max = top;
  }
};

__device__ inline LogSumExp<double> wide(float2 partial) {
  LogSumExp<double> result;
  result.max = static_cast<double>(partial.x);
  result.sum = static_cast<double>(partial.y);
  return result;
}

// Eight lanes of a warp share a row; the first has the result.
__device__ inline LogSumExp<double> merge_eight(LogSumExp<double> mine) {
  for (int distance = 1; distance < 8; distance *= 2) {
    LogSumExp<double> other;
    other.max = __shfl_xor_sync(kAllLanes, mine.max, distance, 8);
    other.sum = __shfl_xor_sync(kAllLanes, mine.sum, distance, 8);
    mine.merge(other);
  }
  return mine;
}

constexpr int kThreads = 256, kRowThreads = 8;
constexpr int kTileStride = kPanelTileColumns + 8;  // neither rows nor columns of a tile collide in banks
static_assert(kThreads == kPanelTileRows * kRowThreads && kThreads == 2 * kPanelTileColumns);

// One tile of the panel a block; the last block of a row tile merges the partials of its rows.
__global__ void __launch_bounds__(kThreads) logsumexp_kernel(Panel panel, PanelSums out) {
  PYHBT_SHARED(float, tile, [kPanelTileRows][kTileStride]);
  PYHBT_SHARED(float2, halves, [kPanelTileColumns]);
  PYHBT_SHARED(unsigned, ticket, [1]);
  const int thread = static_cast<int>(threadIdx.x);
  const int64_t first_row = static_cast<int64_t>(blockIdx.y) * kPanelTileRows;
  const int64_t first_column = static_cast<int64_t>(blockIdx.x) * kPanelTileColumns;
  const int column = thread % kPanelTileColumns, half = thread / kPanelTileColumns;
  for (int row = half; row < kPanelTileRows; row += 2) {
    float score = -INFINITY;
    if (first_row + row < panel.rows && first_column + column < panel.columns) {
      score = score_of(panel, first_row + row, first_column + column);
      if (!is_negative(panel, first_row + row, first_column + column, score)) score = -INFINITY;
    }
    tile[row][column] = score;
  }
  __syncthreads();

  const int row = thread / kRowThreads, part = thread % kRowThreads;
  Running mine;
  for (int at = part; at < kPanelTileColumns; at += kRowThreads) mine.see(tile[row][at]);
  for (int at = part; at < kPanelTileColumns; at += kRowThreads) mine.add(tile[row][at]);
  for (int distance = 1; distance < kRowThreads; distance *= 2) {
    Running other;
    other.max = __shfl_xor_sync(kAllLanes, mine.max, distance, kRowThreads);
    other.sum = __shfl_xor_sync(kAllLanes, mine.sum, distance, kRowThreads);
    mine.merge(other);
  }
  if (part == 0 && first_row + row < panel.rows)
    out.row_partials[blockIdx.x * panel.rows + first_row + row] = float2{mine.max, mine.sum};

  if (out.column_partials != nullptr) {
    Running down;
    const int first = half * (kPanelTileRows / 2), last = first + kPanelTileRows / 2;
    for (int at = first; at < last; ++at) down.see(tile[at][column]);
    for (int at = first; at < last; ++at) down.add(tile[at][column]);
    if (half == 1) halves[column] = float2{down.max, down.sum};
    __syncthreads();
    if (half == 0 && first_column + column < panel.columns) {
      Running below;
      below.max = halves[column].x;
      below.sum = halves[column].y;
      down.merge(below);
      out.column_partials[blockIdx.y * panel.columns + first_column + column] = float2{down.max, down.sum};
    }
  }

  __threadfence();  // the partials of this block are seen by whoever sees its ticket
  __syncthreads();
  if (thread == 0) ticket[0] = atomicAdd(&out.row_tickets[blockIdx.y], 1u);
  __syncthreads();
  if (ticket[0] != gridDim.x - 1) return;
  __threadfence();
  LogSumExp<double> total;
  for (unsigned at = static_cast<unsigned>(part); at < gridDim.x; at += kRowThreads)
    if (first_row + row < panel.rows) total.merge(wide(out.row_partials[at * panel.rows + first_row + row]));
  total = merge_eight(total);
  if (part == 0 && first_row + row < panel.rows) out.row_logsumexp[first_row + row] = total.value();
  if (thread == 0) atomicExch(&out.row_tickets[blockIdx.y], 0u);
}

__global__ void merge_columns_kernel(const float2* partials, int64_t row_tiles, int64_t columns, bool first,
                                     double* logsumexp) {
  const int64_t column = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (column >= columns) return;
  LogSumExp<double> total;
  if (!first) total.max = logsumexp[column];
  total.sum = 1.0;  // of minus infinity too: the first merge takes it to zero
  for (int64_t tile = 0; tile < row_tiles; ++tile) total.merge(wide(partials[tile * columns + column]));
  logsumexp[column] = total.value();
}

template <typename Number>
__device__ void write(void* out, int64_t at, float gradient);
template <>
__device__ inline void write<float>(void* out, int64_t at, float gradient) {
  static_cast<float*>(out)[at] = gradient;
}
struct Half {};
template <>
__device__ inline void write<Half>(void* out, int64_t at, float gradient) {
  static_cast<uint16_t*>(out)[at] = half_bits(gradient);
}
struct BFloat {};
template <>
__device__ inline void write<BFloat>(void* out, int64_t at, float gradient) {
  static_cast<uint16_t*>(out)[at] = bfloat_bits(gradient);
}

// Each thread has its columns in some rows, so that what belongs to a column is read once.
constexpr int kGradientRows = 8;

template <typename Number>
__global__ void __launch_bounds__(kThreads) gradient_kernel(Panel panel, PanelGradient gradient) {
  const int64_t column = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (column >= panel.columns) return;
  const bool both = gradient.column_logsumexp != nullptr;
  const float column_reference = both ? static_cast<float>(gradient.column_logsumexp[column]) : 0.0f;
  const float column_weight = both ? gradient.column_weight[column] : 0.0f;
  const float gain = gradient.gain == nullptr ? 1.0f : gradient.gain[0];
  const float column_factor = (panel.column_factor == nullptr ? 1.0f : panel.column_factor[column]) * gain;
  const int64_t first = static_cast<int64_t>(blockIdx.y) * kGradientRows;
  const int64_t last = first + kGradientRows < panel.rows ? first + kGradientRows : panel.rows;
  for (int64_t row = first; row < last; ++row) {
    const float score = score_of(panel, row, column);
    float slope = 0.0f;
    if (panel.positives[row] == column) {
      slope = gradient.own[row];
    } else if (is_negative(panel, row, column, score)) {
      slope = gradient.row_weight[row] * __expf(score - gradient.row_reference[row]);
      if (column_weight != 0) slope += column_weight * __expf(score - column_reference);
    }
    write<Number>(gradient.out, row * panel.columns + column,
                  slope * (panel.row_factor[row] * column_factor));
  }
}

constexpr int kProductTile = 64, kProductDepth = 16, kProductEach = 4;

__global__ void __launch_bounds__(kThreads)
    multiply_kernel(const float* left, int64_t rows, const float* right, int64_t columns, int64_t dim,
                    float* out) {
  PYHBT_SHARED(float, left_tile, [kProductDepth][kProductTile + 4]);
  PYHBT_SHARED(float, right_tile, [kProductDepth][kProductTile + 4]);
  const int thread = static_cast<int>(threadIdx.x), x = thread % 16, y = thread / 16;
  const int64_t first_row = static_cast<int64_t>(blockIdx.y) * kProductTile;
  const int64_t first_column = static_cast<int64_t>(blockIdx.x) * kProductTile;
  float sums[kProductEach][kProductEach] = {};
  for (int64_t depth = 0; depth < dim; depth += kProductDepth) {
    for (int at = thread; at < kProductTile * kProductDepth; at += kThreads) {
      const int k = at % kProductDepth, line = at / kProductDepth;
      const bool deep = depth + k < dim;
      left_tile[k][line] =
          deep && first_row + line < rows ? left[(first_row + line) * dim + depth + k] : 0.0f;
      right_tile[k][line] =
          deep && first_column + line < columns ? right[(first_column + line) * dim + depth + k] : 0.0f;
    }
    __syncthreads();
#pragma unroll
    for (int k = 0; k < kProductDepth; ++k) {
#pragma unroll
      for (int i = 0; i < kProductEach; ++i) {
#pragma unroll
        for (int j = 0; j < kProductEach; ++j)
          sums[i][j] =
              fmaf(left_tile[k][y * kProductEach + i], right_tile[k][x * kProductEach + j], sums[i][j]);
      }
    }
    __syncthreads();  // before the next slice overwrites the tiles
  }
  for (int i = 0; i < kProductEach; ++i) {
    for (int j = 0; j < kProductEach; ++j) {
      const int64_t row = first_row + y * kProductEach + i, column = first_column + x * kProductEach + j;
      if (row < rows && column < columns) out[row * columns + column] = sums[i][j];
    }
  }
}

unsigned blocks(int64_t count, int64_t each) { return static_cast<unsigned>((count + each - 1) / each); }

}  // namespace

void panel_logsumexp(const Panel& panel, const PanelSums& out, cudaStream_t stream) {
  const dim3 grid(blocks(panel.columns, kPanelTileColumns), blocks(panel.rows, kPanelTileRows));
  PYHBT_LAUNCH(logsumexp_kernel, grid, dim3(kThreads), stream, panel, out);
}

void merge_columns(const float2* partials, int64_t row_tiles, int64_t columns, bool first, double* logsumexp,
                   cudaStream_t stream) {
  PYHBT_LAUNCH(merge_columns_kernel, dim3(blocks(columns, 128)), dim3(128), stream, partials, row_tiles,
               columns, first, logsumexp);
}

void panel_gradient(const Panel& panel, const PanelGradient& gradient, cudaStream_t stream) {
  const dim3 grid(blocks(panel.columns, kThreads), blocks(panel.rows, kGradientRows));
  switch (gradient.dtype) {
    case DType::kFloat32:
      PYHBT_LAUNCH(gradient_kernel<float>, grid, dim3(kThreads), stream, panel, gradient);
      break;
    case DType::kFloat16:
      PYHBT_LAUNCH(gradient_kernel<Half>, grid, dim3(kThreads), stream, panel, gradient);
      break;
    case DType::kBFloat16:
      PYHBT_LAUNCH(gradient_kernel<BFloat>, grid, dim3(kThreads), stream, panel, gradient);
      break;
    default:  // of one byte: refused at the border
      break;
  }
}

void multiply_rows(const float* left, int64_t rows, const float* right, int64_t columns, int64_t dim,
                   float* out, cudaStream_t stream) {
  const dim3 grid(blocks(columns, kProductTile), blocks(rows, kProductTile));
  PYHBT_LAUNCH(multiply_kernel, grid, dim3(kThreads), stream, left, rows, right, columns, dim, out);
}

}  // namespace pyhbt::cuda
