// Kernels of the rows and columns of the contrastive loss: loss_rows.h.
#include "loss_rows.h"

#include <cmath>

#include "../tile_math.h"
#include "numbers.h"

namespace pyhbt::cuda {
namespace {

constexpr int kThreads = 256, kTotalThreads = 1024;
constexpr double kTiny = 1e-12;  // the least norm that divides

// All lanes of a warp get the sum.
__device__ inline double warp_sum(double mine) {
  for (int distance = 1; distance < kWarp; distance *= 2) mine += __shfl_xor_sync(kAllLanes, mine, distance);
  return mine;
}

__device__ inline double larger(double a, double b) { return b > a || b != b ? b : a; }  // a NaN spreads

__device__ inline double warp_max(double mine) {
  for (int distance = 1; distance < kWarp; distance *= 2)
    mine = larger(mine, __shfl_xor_sync(kAllLanes, mine, distance));
  return mine;
}

// Which row, column or position the warp has.
__device__ inline int64_t warp_number() {
  return (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) / kWarp;
}
__device__ inline int64_t lane_number() { return threadIdx.x % kWarp; }

__device__ inline double divisor(double square) {
  const double norm = sqrt(square);
  return norm < kTiny ? kTiny : norm;  // a NaN stays
}

__device__ inline double temperature_of(const LossRows& rows) {
  const double given = rows.temperature_at == nullptr ? rows.temperature : rows.temperature_at[0];
  return given > 0 && given < INFINITY ? given : NAN;
}

// By one warp.
template <typename Number>
__device__ void invert_norm(const Embeddings& rows, int64_t row, float* factor) {
  const Number* numbers = row_of<Number>(rows, row);
  double square = 0;
  for (int64_t at = lane_number(); at < rows.dim; at += kWarp)
    square += number(numbers, at) * number(numbers, at);
  square = warp_sum(square);
  if (lane_number() == 0) factor[row] = static_cast<float>(1 / divisor(square));
}

// A warp has a query, or one of the passages, which come behind.
template <typename Number>
__global__ void __launch_bounds__(kThreads)
    start_kernel(Embeddings queries, Embeddings passages, LossRows rows) {
  const int64_t row = warp_number();
  const bool cosine = rows.column_factor != nullptr;
  if (row >= rows.rows) {
    if (cosine && row < rows.rows + rows.columns)
      invert_norm<Number>(passages, row - rows.rows, rows.column_factor);
    return;
  }
  const int64_t positive = rows.positives[row];
  const double temperature = temperature_of(rows);
  if (lane_number() == 0) {
    if (positive < -1 || positive >= rows.columns) atomicExch(&rows.refused[0], 1u);
    if (temperature != temperature) atomicExch(&rows.refused[1], 1u);
  }
  if (positive < 0) {
    if (lane_number() == 0) {
      rows.scores[row] = 0;
      rows.row_factor[row] = 0;
      if (rows.limit != nullptr) rows.limit[row] = 0;
    }
    return;
  }
  const bool known = positive < rows.columns;
  const Number* query = row_of<Number>(queries, row);
  const Number* passage = row_of<Number>(passages, known ? positive : 0);
  double dot = 0, query_square = 0, passage_square = 0;
  for (int64_t at = lane_number(); at < queries.dim; at += kWarp) {
    const double left = number(query, at), right = number(passage, at);
    dot += left * right;
    query_square += left * left;
    passage_square += right * right;
  }
  const double size = cosine ? divisor(warp_sum(query_square)) : 1.0;
  const double passage_size = cosine ? divisor(warp_sum(passage_square)) : 1.0;
  const double similarity = known ? warp_sum(dot) / size / passage_size : NAN;
  if (lane_number() == 0) {
    rows.scores[row] = similarity / temperature;
    rows.row_factor[row] = static_cast<float>(1 / (size * temperature));
    if (rows.limit != nullptr) rows.limit[row] = static_cast<float>((similarity + rows.margin) / temperature);
  }
}

// By how much the negatives outweigh the positive; NaN for an infinite one, as in torch's cross-entropy.
__device__ inline double row_delta(const LossRows& rows, int64_t row) {
  return rows.scores[row] == INFINITY ? NAN : rows.logsumexp[row] - rows.scores[row];
}

__global__ void __launch_bounds__(kThreads) solve_kernel(LossRows rows, int64_t first, int64_t last) {
  const int64_t row = first + static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (row >= last) return;
  double loss = 0, weight = 0, reference = 0;
  if (rows.positives[row] >= 0) {
    const double delta = row_delta(rows, row);
    loss = rows.share * softplus(delta);
    weight = rows.share * static_cast<double>(rows.row_weights[row]) * sigmoid(delta);
    if (rows.logsumexp[row] != -INFINITY) reference = rows.logsumexp[row];
  }
  rows.losses[row] = loss;
  rows.reference[row] = static_cast<float>(reference);
  rows.weight[row] = static_cast<float>(weight);
  rows.own[row] = static_cast<float>(-weight);
}

// A warp has the rows of one positive: positions first..first+length of the order.
struct Run {
  int64_t first, length, column;
};

// Of a row in its column.
struct InColumn {
  double own, delta, loss, pull;  // pull exp(s - top) is the gradient of a candidate of score s
};

__device__ inline int64_t row_at(const int64_t* order, int64_t position) {
  return order == nullptr ? position : order[position];
}

__device__ inline double own_share(const LossRows& rows, int64_t row, int64_t column, double top) {
  bool candidate = true;
  if (rows.passage_groups != nullptr) {
    const int64_t group = rows.passage_groups[column];
    candidate = !(group >= 0 && group == rows.query_groups[row]);
  }
  return (candidate ? 1.0 : 0.0) * exp(rows.scores[row] - top);
}

__device__ inline InColumn in_column(const LossRows& rows, int64_t row, const Run& run, double base,
                                     double top, double all) {
  InColumn result;
  result.own = own_share(rows, row, run.column, top);
  double others = exp(base - top);
  if (run.length > 1) others += all - result.own > 0 || all != all ? all - result.own : 0.0;
  result.delta = log(others) + top - rows.scores[row];
  result.loss = softplus(result.delta);
  result.pull = 0.5 * static_cast<double>(rows.row_weights[row]) * exp(top - rows.scores[row] - result.loss);
  return result;
}

__global__ void __launch_bounds__(kThreads)
    solve_columns_kernel(LossRows rows, const double* base, const int64_t* order, float* column_weight) {
  const int64_t first = warp_number();
  if (first >= rows.rows) return;
  Run run{first, 0, rows.positives[row_at(order, first)]};
  if (run.column < 0 || run.column >= rows.columns) return;
  if (first > 0 && rows.positives[row_at(order, first - 1)] == run.column) return;  // another warp has it
  for (unsigned same = kAllLanes; same == kAllLanes; run.length += __popc(same)) {
    const int64_t at = first + run.length + lane_number();
    same = __ballot_sync(kAllLanes, at < rows.rows && rows.positives[row_at(order, at)] == run.column);
  }
  const int64_t begin = first + lane_number(), end = first + run.length;
  const double below = base[run.column];
  double top = below, all = 0, pulls = 0;
  for (int64_t at = begin; at < end; at += kWarp) top = larger(top, rows.scores[row_at(order, at)]);
  top = warp_max(top);
  for (int64_t at = begin; at < end; at += kWarp) all += own_share(rows, row_at(order, at), run.column, top);
  all = warp_sum(all);
  for (int64_t at = begin; at < end; at += kWarp) {
    const int64_t row = row_at(order, at);
    const InColumn part = in_column(rows, row, run, below, top, all);
    rows.losses[row] += 0.5 * part.loss;
    pulls += part.pull;
  }
  pulls = warp_sum(pulls);
  for (int64_t at = begin; at < end; at += kWarp) {
    const int64_t row = row_at(order, at);
    const InColumn part = in_column(rows, row, run, below, top, all);
    const double weight = static_cast<double>(rows.row_weights[row]);
    double own = -rows.share * weight * sigmoid(row_delta(rows, row)) - 0.5 * weight * sigmoid(part.delta);
    if (run.length > 1) own += part.own * (pulls - part.pull);
    rows.own[row] = static_cast<float>(own);
  }
  if (lane_number() == 0) column_weight[run.column] = static_cast<float>(pulls * exp(below - top));
}

__global__ void __launch_bounds__(kTotalThreads) gain_kernel(LossRows rows, float* gain) {
  PYHBT_SHARED(double, parts, [3][kTotalThreads]);
  const int thread = static_cast<int>(threadIdx.x);
  double weight = 0, row_factor = 0, factor = rows.column_factor == nullptr ? 1.0 : 0.0;
  for (int64_t row = thread; row < rows.rows; row += kTotalThreads) {
    if (rows.positives[row] < 0) continue;
    weight = larger(weight, fabs(static_cast<double>(rows.row_weights[row])));
    row_factor = larger(row_factor, static_cast<double>(rows.row_factor[row]));
  }
  for (int64_t column = thread; rows.column_factor != nullptr && column < rows.columns;
       column += kTotalThreads)
    factor = larger(factor, static_cast<double>(rows.column_factor[column]));
  parts[0][thread] = weight;
  parts[1][thread] = row_factor;
  parts[2][thread] = factor;
  for (int half = kTotalThreads / 2; half > 0; half /= 2) {
    __syncthreads();
    for (int part = 0; thread < half && part < 3; ++part)
      parts[part][thread] = larger(parts[part][thread], parts[part][thread + half]);
  }
  if (thread > 0) return;
  const double found = exp2(floor(log2(64.0 / (parts[0][0] * parts[1][0] * parts[2][0]))));
  const float rounded = static_cast<float>(found);
  gain[0] = rounded > 0 && rounded < INFINITY ? rounded : 1.0f;
}

template <typename Number>
__global__ void __launch_bounds__(kThreads)
    end_kernel(Embeddings embeddings, bool cosine, const float* gain, float* gradient, double* moments) {
  const int64_t row = warp_number();
  if (row >= embeddings.rows) return;
  const Number* numbers = row_of<Number>(embeddings, row);
  float* mine = gradient + row * embeddings.dim;
  double dot = 0, square = 0;
  for (int64_t at = lane_number(); at < embeddings.dim; at += kWarp) {
    const double x = number(numbers, at);
    dot += x * static_cast<double>(mine[at]);
    square += x * x;
  }
  dot = warp_sum(dot);
  square = warp_sum(square);
  const double scale = gain == nullptr ? 1.0 : 1.0 / static_cast<double>(gain[0]);
  if (moments != nullptr && lane_number() == 0) moments[row] = dot * scale;
  if (!cosine && gain == nullptr) return;
  const double along = cosine && !(sqrt(square) < kTiny) ? dot / square : 0.0;
  for (int64_t at = lane_number(); at < embeddings.dim; at += kWarp) {
    const double raw = static_cast<double>(mine[at]);
    mine[at] = static_cast<float>((along == 0 ? raw : raw - number(numbers, at) * along) * scale);
  }
}

__global__ void __launch_bounds__(kTotalThreads) total_kernel(LossRows rows, LossTotals totals) {
  PYHBT_SHARED(double, parts, [2][kTotalThreads]);
  const int thread = static_cast<int>(threadIdx.x);
  double loss = 0, moment = 0;
  for (int64_t row = thread; row < rows.rows; row += kTotalThreads) {
    totals.loss_rows[row] = static_cast<float>(rows.losses[row]);
    if (rows.positives[row] >= 0) loss += rows.losses[row] * static_cast<double>(rows.row_weights[row]);
    if (totals.moments != nullptr) moment += totals.moments[row];
  }
  parts[0][thread] = loss;
  parts[1][thread] = moment;
  for (int half = kTotalThreads / 2; half > 0; half /= 2) {
    __syncthreads();
    for (int part = 0; thread < half && part < 2; ++part) parts[part][thread] += parts[part][thread + half];
  }
  if (thread > 0) return;
  totals.loss[0] = static_cast<float>(parts[0][0]);
  totals.temperature[0] = totals.moments == nullptr ? 0.0 : -parts[1][0] / temperature_of(rows);
}

unsigned blocks(int64_t count, int64_t each) { return static_cast<unsigned>((count + each - 1) / each); }
dim3 warps(int64_t count) { return dim3(blocks(count, kThreads / kWarp)); }

// Launches the kernel for embeddings of one dtype; those of one byte are refused at the border.
#define PYHBT_BY_DTYPE(embeddings, kernel, grid, stream, ...)                      \
  switch ((embeddings).dtype) {                                                    \
    case DType::kFloat32:                                                          \
      PYHBT_LAUNCH(kernel<float>, grid, dim3(kThreads), stream, __VA_ARGS__);      \
      break;                                                                       \
    case DType::kFloat16:                                                          \
      PYHBT_LAUNCH(kernel<HalfBits>, grid, dim3(kThreads), stream, __VA_ARGS__);   \
      break;                                                                       \
    case DType::kBFloat16:                                                         \
      PYHBT_LAUNCH(kernel<BFloatBits>, grid, dim3(kThreads), stream, __VA_ARGS__); \
      break;                                                                       \
    default:                                                                       \
      break;                                                                       \
  }

}  // namespace

void start_rows(const Embeddings& queries, const Embeddings& passages, const LossRows& rows,
                cudaStream_t stream) {
  const int64_t passages_read = rows.column_factor == nullptr ? 0 : rows.columns;
  PYHBT_BY_DTYPE(queries, start_kernel, warps(rows.rows + passages_read), stream, queries, passages, rows)
}

void solve_rows(const LossRows& rows, int64_t first, int64_t last, cudaStream_t stream) {
  PYHBT_LAUNCH(solve_kernel, dim3(blocks(last - first, kThreads)), dim3(kThreads), stream, rows, first, last);
}

void solve_columns(const LossRows& rows, const double* base, const int64_t* order, float* column_weight,
                   cudaStream_t stream) {
  PYHBT_LAUNCH(solve_columns_kernel, warps(rows.rows), dim3(kThreads), stream, rows, base, order,
               column_weight);
}

void choose_gain(const LossRows& rows, float* gain, cudaStream_t stream) {
  PYHBT_LAUNCH(gain_kernel, dim3(1), dim3(kTotalThreads), stream, rows, gain);
}

void end_gradient(const Embeddings& embeddings, bool cosine, const float* gain, float* gradient,
                  double* moments, cudaStream_t stream) {
  PYHBT_BY_DTYPE(embeddings, end_kernel, warps(embeddings.rows), stream, embeddings, cosine, gain, gradient,
                 moments)
}

void total_rows(const LossRows& rows, const LossTotals& totals, cudaStream_t stream) {
  PYHBT_LAUNCH(total_kernel, dim3(1), dim3(kTotalThreads), stream, rows, totals);
}

}  // namespace pyhbt::cuda
