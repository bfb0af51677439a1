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
#include <optional>
#include <tuple>
#include <vector>

#include "codes.h"
#include "contrastive.h"
#include "cpu/dispatch.h"
#include "interrupt.h"
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

// Asks Python whether a signal handler has raised, which only its main thread can answer with yes.
bool python_interrupts() {
  const py::gil_scoped_acquire gil;
  return PyErr_CheckSignals() != 0;
}

template <typename Call>
void without_gil(const Call& call) {
  try {
    const py::gil_scoped_release release;
    call();
  } catch (const pyhbt::Interrupted&) {
    throw py::error_already_set();  // KeyboardInterrupt, or what the handler raised
  }
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

// Addresses in the order of CorpusCodes.
using Codes = std::tuple<Address, Address, Address, Address, Address, Address, Address, Address, Address>;
// allowed, passage_groups, pools, num_groups, excluded, excluded_per_query
using Filter = std::tuple<Address, Address, Address, int64_t, Address, int64_t>;

template <typename Run>
void run_search(const Matrix& queries, const Matrix& corpus, const std::optional<Codes>& codes, bool cosine,
                const Filter& filter, int screening, int threads, const Run& run) {
  pyhbt::CorpusCodes parts{};
  if (codes) {
    const auto& [rows, scale, along, code_norm, residual_norm, sum, norm, centre, direction] = *codes;
    parts = {at<const int8_t>(rows),     at<const float>(scale),         at<const float>(along),
             at<const float>(code_norm), at<const float>(residual_norm), at<const int32_t>(sum),
             at<const double>(norm),     at<const float>(centre),        at<const float>(direction)};
  }
  const auto& [allowed, passage_groups, pools, num_groups, excluded, per_query] = filter;
  without_gil([&] {
    run({embeddings(queries),
         embeddings(corpus),
         codes ? &parts : nullptr,
         cosine,
         {at<const uint8_t>(allowed), at<const int32_t>(passage_groups), at<const uint8_t>(pools), num_groups,
          at<const int64_t>(excluded), per_query},
         static_cast<pyhbt::Screening>(screening),
         threads});
  });
}

void bind_search(const Matrix& queries, const Matrix& corpus, const std::optional<Codes>& codes, bool cosine,
                 const Filter& filter, int screening, int threads, int64_t k, Address scores, Address indices,
                 Address exact_scores) {
  run_search(queries, corpus, codes, cosine, filter, screening, threads,
             [&](const pyhbt::SearchArguments& arguments) {
               pyhbt::search(arguments, k, at<float>(scores), at<int64_t>(indices), at<double>(exact_scores));
             });
}

void bind_ranks(const Matrix& queries, const Matrix& corpus, const std::optional<Codes>& codes, bool cosine,
                const Filter& filter, int screening, int threads, Address targets, int64_t targets_per_query,
                Address ranks) {
  run_search(queries, corpus, codes, cosine, filter, screening, threads,
             [&](const pyhbt::SearchArguments& arguments) {
               pyhbt::ranks(arguments, at<const int64_t>(targets), targets_per_query, at<int64_t>(ranks));
             });
}

void bind_encode(const Matrix& rows, bool cosine, const Codes& out, int64_t first_row, int threads) {
  const auto& [codes, scale, along, code_norm, residual_norm, sum, norm, centre, direction] = out;
  const pyhbt::CodesOut parts{at<int8_t>(codes),    at<float>(scale),         at<float>(along),
                              at<float>(code_norm), at<float>(residual_norm), at<int32_t>(sum),
                              at<double>(norm)};
  without_gil([&] {
    pyhbt::encode(embeddings(rows), cosine, at<const float>(centre), at<const float>(direction), parts,
                  first_row, threads);
  });
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
  pyhbt::interrupt_check = &python_interrupts;
  m.def("encode", &bind_encode);
  m.def("code_stride", &pyhbt::code_stride);
  m.def("search", &bind_search);
  m.def("ranks", &bind_ranks);
  m.def("fma_peak_gflops", &fma_peak_gflops, py::arg("threads"), py::call_guard<py::gil_scoped_release>());
  m.def("build_info", &build_info);
}
