// The Python face of the CPU module: addresses and sizes in, nothing out; the only C++ file that knows
// Python.
//   pyhbt/ops checks the arguments and allocates the results; the entry points check sizes and indices once
//   more.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#if defined(_OPENMP)
#include <omp.h>
#endif

#include <chrono>
#include <cstdint>
#include <tuple>
#include <vector>

#include "contrastive.h"
#include "cpu/dispatch.h"
#include "parallel.h"
#include "search.h"

namespace py = pybind11;

namespace {

using Address = std::uintptr_t;

template <typename T>
T* at(Address address) {
  return reinterpret_cast<T*>(address);
}

// (address, dtype, rows, dim, elements from row to row)
using Matrix = std::tuple<Address, int, int64_t, int64_t, int64_t>;

pyhbt::Embeddings embeddings(const Matrix& matrix) {
  const auto& [address, dtype, rows, dim, stride] = matrix;
  return {at<const void>(address), static_cast<pyhbt::DType>(dtype), rows, dim, stride};
}

void bind_contrastive_loss(const Matrix& queries, const Matrix& passages, Address positives,
                           Address row_weights, Address query_groups, Address passage_groups,
                           double temperature, double margin, bool cosine, bool symmetric,
                           int64_t retained_scores, Address loss_rows, Address loss, Address grad_queries,
                           Address grad_passages, Address grad_temperature, int threads) {
  const py::gil_scoped_release release;
  pyhbt::contrastive_loss({embeddings(queries), embeddings(passages), at<const int64_t>(positives),
                           at<const float>(row_weights), at<const int64_t>(query_groups),
                           at<const int64_t>(passage_groups), temperature, margin, cosine, symmetric,
                           retained_scores, at<float>(loss_rows), at<float>(loss), at<float>(grad_queries),
                           at<float>(grad_passages), at<double>(grad_temperature), threads});
}

void bind_search(Address queries, Address corpus, int64_t num_queries, int64_t num_passages, int64_t dim,
                 int64_t k, Address scores, Address indices, int threads) {
  pyhbt::search({at<const float>(queries), at<const float>(corpus), num_queries, num_passages, dim, threads},
                k, at<float>(scores), at<int64_t>(indices));
}

void bind_ranks(Address queries, Address corpus, int64_t num_queries, int64_t num_passages, int64_t dim,
                Address targets, int64_t targets_per_query, Address ranks, int threads) {
  pyhbt::ranks({at<const float>(queries), at<const float>(corpus), num_queries, num_passages, dim, threads},
               at<const int64_t>(targets), targets_per_query, at<int64_t>(ranks));
}

double fma_peak_gflops(int threads) {
  using Clock = std::chrono::steady_clock;
  constexpr int64_t kIterations = 10'000'000;
  std::vector<double> flops(static_cast<size_t>(threads));
  const auto run = [&](int64_t iterations) {
    const auto start = Clock::now();
    pyhbt::parallel_for(threads, threads, [&](int64_t task) {
      float checksum = 1.0f;
      flops[static_cast<size_t>(task)] = pyhbt::cpu::kernels().fma_probe(iterations, &checksum);
    });
    return std::chrono::duration<double>(Clock::now() - start).count();
  };
  run(kIterations / 10);  // wakes the threads
  const double seconds = run(kIterations);
  double total = 0;
  for (const double part : flops) total += part;
  return total / seconds * 1e-9;
}

py::dict build_info() {
  py::dict info;
  info["version"] = PYHBT_VERSION;
  info["compiler"] = PYHBT_COMPILER;
  info["simd_compiled"] = pyhbt::cpu::compiled_levels();
  info["simd_supported"] = pyhbt::cpu::supported_levels();
  info["simd_in_use"] = pyhbt::cpu::kernels().name;
#if defined(_OPENMP) && !defined(PYHBT_THREADS_STD)
  info["openmp"] = true;
  info["openmp_version"] = _OPENMP;
#else
  info["openmp"] = false;
  info["openmp_version"] = py::none();
#endif
  info["cuda"] = PYHBT_CUDA_STATE;
  return info;
}

}  // namespace

PYBIND11_MODULE(_core, m) {
  m.doc() = "Native kernels of PyHBT for the CPU; use them through pyhbt.ops.";
  pyhbt::cpu::kernels();  // choose now: a bad PYHBT_SIMD fails the import
  m.def("contrastive_loss", &bind_contrastive_loss);
  m.def("search", &bind_search, py::call_guard<py::gil_scoped_release>());
  m.def("ranks", &bind_ranks, py::call_guard<py::gil_scoped_release>());
  m.def("fma_peak_gflops", &fma_peak_gflops, py::arg("threads"), py::call_guard<py::gil_scoped_release>());
  m.def("build_info", &build_info);
}
