// The Python face of the CPU module: addresses and sizes in by name (border.h), nothing out.
//   pyhbt/ops checks the arguments and allocates the results; the entry points check sizes and indices once
//   more. The kernels know nothing of Python.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#if defined(_OPENMP)
#include <omp.h>
#endif

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "border.h"
#include "codes.h"
#include "contrastive.h"
#include "cpu/dispatch.h"
#include "cuda_state.h"  // written by CMake
#include "interrupt.h"
#include "parallel.h"
#include "search.h"

namespace py = pybind11;
using namespace pybind11::literals;

namespace {

using pyhbt::CodesOut;
using pyhbt::ContrastiveArguments;
using pyhbt::CorpusCodes;
using pyhbt::SearchArguments;
using pyhbt::border::Address;
using pyhbt::border::at;
using pyhbt::border::Members;
namespace border = pyhbt::border;

constexpr border::Choice<pyhbt::Screening> kScreenings[] = {{"auto", pyhbt::Screening::kAuto},
                                                            {"int8", pyhbt::Screening::kCodes},
                                                            {"float32", pyhbt::Screening::kFloats}};

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

const Members<ContrastiveArguments>& contrastive_arguments() {
  using Arguments = ContrastiveArguments;
  static const Members<Arguments> members = Members<Arguments>("ContrastiveArguments")
                                                .part("queries", &Arguments::queries, border::matrix())
                                                .part("passages", &Arguments::passages, border::matrix())
                                                .address("positives", &Arguments::positives)
                                                .address("row_weights", &Arguments::row_weights)
                                                .address("query_groups", &Arguments::query_groups)
                                                .address("passage_groups", &Arguments::passage_groups)
                                                .value("temperature", &Arguments::temperature)
                                                .value("margin", &Arguments::margin)
                                                .value("cosine", &Arguments::cosine)
                                                .value("symmetric", &Arguments::symmetric)
                                                .value("retained_scores", &Arguments::retained_scores)
                                                .address("loss_rows", &Arguments::loss_rows)
                                                .address("loss", &Arguments::loss)
                                                .address("grad_queries", &Arguments::grad_queries)
                                                .address("grad_passages", &Arguments::grad_passages)
                                                .address("grad_temperature", &Arguments::grad_temperature)
                                                .value("threads", &Arguments::threads);
  return members;
}

const Members<CorpusCodes>& codes() {
  using Codes = CorpusCodes;
  static const Members<Codes> members = Members<Codes>("Codes")
                                            .address("codes", &Codes::codes)
                                            .address("inverse_scale", &Codes::inverse_scale)
                                            .address("along", &Codes::along)
                                            .address("code_norm", &Codes::code_norm)
                                            .address("residual_norm", &Codes::residual_norm)
                                            .address("code_sum", &Codes::code_sum)
                                            .address("norm", &Codes::norm)
                                            .address("centre", &Codes::centre)
                                            .address("direction", &Codes::direction)
                                            .address("nibbles", &Codes::nibbles)
                                            .address("nibble_residual", &Codes::nibble_residual);
  return members;
}

const Members<CodesOut>& codes_out() {
  static const Members<CodesOut> members = Members<CodesOut>("CodesOut")
                                               .address("codes", &CodesOut::codes)
                                               .address("inverse_scale", &CodesOut::inverse_scale)
                                               .address("along", &CodesOut::along)
                                               .address("code_norm", &CodesOut::code_norm)
                                               .address("residual_norm", &CodesOut::residual_norm)
                                               .address("code_sum", &CodesOut::code_sum)
                                               .address("norm", &CodesOut::norm)
                                               .address("nibbles", &CodesOut::nibbles)
                                               .address("nibble_residual", &CodesOut::nibble_residual);
  return members;
}

const Members<SearchArguments>& search_arguments() {
  using Arguments = SearchArguments;
  static const Members<Arguments> members = Members<Arguments>("SearchArguments")
                                                .part("queries", &Arguments::queries, border::vectors())
                                                .part("corpus", &Arguments::corpus, border::vectors())
                                                .part_or_none("codes", &Arguments::codes, codes())
                                                .value("cosine", &Arguments::cosine)
                                                .part_or_none("filter", &Arguments::filter, border::filter())
                                                .choice("screening", &Arguments::screening, kScreenings)
                                                .value("threads", &Arguments::threads);
  return members;
}

void contrastive_loss(const py::dict& given) {
  const ContrastiveArguments arguments = contrastive_arguments().read(given);
  without_gil([&] { pyhbt::contrastive_loss(arguments); });
}

void encode(const py::dict& rows, bool cosine, Address centre, Address direction, const py::dict& out,
            int64_t first_row, int threads) {
  const pyhbt::Embeddings from = border::vectors().read(rows);
  const CodesOut to = codes_out().read(out);
  without_gil([&] {
    pyhbt::encode(from, cosine, at<const float>(centre), at<const float>(direction), to, first_row, threads);
  });
}

void search(const py::dict& given, int64_t k, Address scores, Address indices, Address exact_scores) {
  const SearchArguments arguments = search_arguments().read(given);
  without_gil([&] {
    pyhbt::search(arguments, k, at<float>(scores), at<int64_t>(indices), at<double>(exact_scores));
  });
}

void neighbours(const py::dict& given, int64_t k, Address scores, Address indices) {
  const SearchArguments arguments = search_arguments().read(given);
  without_gil([&] { pyhbt::neighbours(arguments, k, at<float>(scores), at<int64_t>(indices)); });
}

// Results whose number is known only at the end: Python asks for it, makes room, and has them written there.
class RangeFound {
 public:
  explicit RangeFound(pyhbt::RangeResults found) : found_(std::move(found)) {}

  int64_t total() const {
    int64_t sum = 0;
    for (const auto& row : found_.rows) sum += static_cast<int64_t>(row.size());
    return sum;
  }

  // To ends (nq + 1,), scores, exact_scores and indices (total,).
  void write(Address ends, Address scores, Address exact_scores, Address indices) const {
    int64_t place = 0, *end = at<int64_t>(ends);
    *end = 0;
    for (size_t query = 0; query < found_.rows.size(); ++query) {
      for (const pyhbt::Candidate& candidate : found_.rows[query]) {
        at<float>(scores)[place] = static_cast<float>(found_.returned(query, candidate.score));
        at<double>(exact_scores)[place] = candidate.score;
        at<int64_t>(indices)[place++] = candidate.index;
      }
      *++end = place;
    }
  }

 private:
  pyhbt::RangeResults found_;
};

RangeFound search_range(const py::dict& given, Address least, int64_t most) {
  const SearchArguments arguments = search_arguments().read(given);
  pyhbt::RangeResults found;
  without_gil([&] { found = pyhbt::search_range(arguments, at<const double>(least), most); });
  return RangeFound(std::move(found));
}

void ranks(const py::dict& given, Address targets, int64_t targets_per_query, Address ranks,
           Address group_ends, int64_t num_groups, Address within) {
  const SearchArguments arguments = search_arguments().read(given);
  const pyhbt::Groups groups{at<const int64_t>(group_ends), num_groups};
  without_gil([&] {
    pyhbt::ranks(arguments, at<const int64_t>(targets), targets_per_query, at<int64_t>(ranks), groups,
                 at<int64_t>(within));
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
  pyhbt::interrupt_check = &python_interrupts;
  border::show_dtypes(m);
  m.attr("VECTOR_DTYPES") = py::tuple(py::cast(border::names_of(border::kVectorDTypes)));
  m.attr("SCREENINGS") = py::tuple(py::cast(border::names_of(kScreenings)));
  border::show_structs(m, border::matrix(), border::filter(), codes(), codes_out(), contrastive_arguments(),
                       search_arguments());
  m.def("contrastive_loss", &contrastive_loss, "arguments"_a);
  m.def("code_stride", &pyhbt::code_stride, "dim"_a);
  m.def("nibble_stride", &pyhbt::nibble_stride, "dim"_a);
  m.def("encode", &encode, py::kw_only(), "rows"_a, "cosine"_a, "centre"_a, "direction"_a, "out"_a,
        "first_row"_a, "threads"_a);
  m.def("search", &search, "arguments"_a, py::kw_only(), "k"_a, "scores"_a, "indices"_a, "exact_scores"_a);
  m.def("neighbours", &neighbours, "arguments"_a, py::kw_only(), "k"_a, "scores"_a, "indices"_a);
  py::class_<RangeFound>(m, "RangeFound")
      .def_property_readonly("total", &RangeFound::total)
      .def("write", &RangeFound::write, py::kw_only(), "ends"_a, "scores"_a, "exact_scores"_a, "indices"_a);
  m.def("search_range", &search_range, "arguments"_a, py::kw_only(), "least"_a, "most"_a);
  m.def("ranks", &ranks, "arguments"_a, py::kw_only(), "targets"_a, "targets_per_query"_a, "ranks"_a,
        "group_ends"_a, "num_groups"_a, "within"_a);
  m.def("fma_peak_gflops", &fma_peak_gflops, "threads"_a, py::call_guard<py::gil_scoped_release>());
  m.def("build_info", &build_info);
}
