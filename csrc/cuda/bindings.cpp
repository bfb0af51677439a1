// The Python face of the CUDA module: addresses and sizes in by name (border.h), launches on the stream given;
// nothing waits. The same file makes the emulated module of tests/cuda_emulation. bind_loss.cpp has the loss.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <stdexcept>
#include <string>

#include "../border.h"
#include "launching.h"
#include "search.h"

namespace py = pybind11;
using namespace pybind11::literals;

namespace {

using namespace pyhbt::cuda;
using pyhbt::DType;
using pyhbt::Embeddings;
using pyhbt::SearchFilter;
using pyhbt::border::Address;
using pyhbt::border::at;
using pyhbt::border::filter;
using pyhbt::border::kDTypes;
using pyhbt::border::matrix;
using pyhbt::border::Members;

#if defined(PYHBT_CUDA_EMULATED)

py::dict status() {
  py::dict found;
  found["devices"] = 1;
  found["driver"] = 0;
  found["runtime"] = 0;
  found["reason"] = "emulated on the CPU";
  return found;
}

#else

py::dict status() {
  int devices = 0, driver = 0, runtime = 0;
  const cudaError_t error = cudaGetDeviceCount(&devices);
  cudaGetLastError();  // forgotten: it has been reported
  cudaDriverGetVersion(&driver);
  cudaRuntimeGetVersion(&runtime);
  std::string reason;
  if (driver == 0) {
    reason = "no CUDA driver";
  } else if (error == cudaErrorInsufficientDriver) {
    const auto version = [](int number) {
      return std::to_string(number / 1000) + "." + std::to_string(number % 1000 / 10);
    };
    reason =
        "the driver is for CUDA " + version(driver) + ", expected at least " + version(runtime / 1000 * 1000);
  } else if (error != cudaSuccess) {
    reason = std::string(cudaGetErrorName(error)) + ": " + cudaGetErrorString(error);
  }
  py::dict found;
  found["devices"] = error == cudaSuccess ? devices : 0;
  found["driver"] = driver;
  found["runtime"] = runtime;
  found["reason"] = reason;
  return found;
}

#endif

const Members<ScoreTile>& tile_members() {
  static const Members<ScoreTile> members = Members<ScoreTile>("ScoreTile")
                                                .address("scores", &ScoreTile::scores)
                                                .value("queries", &ScoreTile::queries)
                                                .value("first", &ScoreTile::first)
                                                .value("columns", &ScoreTile::columns)
                                                .address("code_error", &ScoreTile::code_error)
                                                .address("query_size", &ScoreTile::query_size)
                                                .address("passage_size", &ScoreTile::passage_size)
                                                .address("passage_error", &ScoreTile::passage_error)
                                                .address("passage_scale", &ScoreTile::passage_scale);
  return members;
}

const Members<Lists>& list_members() {
  static const Members<Lists> members = Members<Lists>("Lists")
                                            .address("passages", &Lists::passages)
                                            .address("scores", &Lists::scores)
                                            .address("counts", &Lists::counts)
                                            .address("scored", &Lists::scored)
                                            .address("lost", &Lists::lost)
                                            .value("queries", &Lists::queries)
                                            .value("capacity", &Lists::capacity);
  return members;
}

const Members<Targets>& target_members() {
  static const Members<Targets> members = Members<Targets>("Targets")
                                              .address("scores", &Targets::scores)
                                              .address("passages", &Targets::passages)
                                              .address("low", &Targets::low)
                                              .address("high", &Targets::high)
                                              .value("count", &Targets::count)
                                              .address("beaten", &Targets::beaten);
  return members;
}

ScoreTile tile_of(const py::dict& given) {
  const ScoreTile tile = tile_members().read(given);
  check_positive("queries", tile.queries);
  check_positive("columns", tile.columns);
  return tile;
}

Lists lists_of(const py::dict& given) {
  const Lists lists = list_members().read(given);
  check_positive("queries", lists.queries);
  check_positive("capacity", lists.capacity);
  return lists;
}

Targets targets_of(const py::dict& given) {
  const Targets targets = target_members().read(given);
  check_positive("targets", targets.count);
  return targets;
}

void bind_append_open(const py::dict& where, const py::dict& tile, Address threshold,
                      const py::dict& filtered, const py::dict& lists) {
  const ScoreTile scores = tile_of(tile);
  const SearchFilter accepted = filter().read(filtered);
  const Lists found = lists_of(lists);
  launch(where, "append_open", [&](cudaStream_t stream) {
    append_open(scores, at<const float>(threshold), accepted, found, stream);
  });
}

void bind_exact_norms(const py::dict& where, const py::dict& rows, Address norms) {
  const Embeddings given = matrix().read(rows);
  check_positive("rows", given.rows);
  launch(where, "exact_norms", [&](cudaStream_t stream) { exact_norms(given, at<double>(norms), stream); });
}

void bind_score_lists(const py::dict& where, const py::dict& queries, const py::dict& corpus, Address norms,
                      const py::dict& lists) {
  const Embeddings left = matrix().read(queries), right = matrix().read(corpus);
  const Lists found = lists_of(lists);
  if (left.dtype != DType::kFloat32) throw std::invalid_argument("queries: expected float32");
  launch(where, "score_lists",
         [&](cudaStream_t stream) { score_lists(left, right, at<const double>(norms), found, stream); });
}

void bind_select_best(const py::dict& where, const py::dict& lists, int64_t k, Address scale, bool sorted,
                      Address threshold) {
  const Lists found = lists_of(lists);
  if (k < 1 || k > kMostSelected)
    throw std::invalid_argument("k: found " + std::to_string(k) + ", expected 1 to " +
                                std::to_string(kMostSelected));
  launch(where, "select_best", [&](cudaStream_t stream) {
    select_best(found, k, at<const double>(scale), sorted, at<float>(threshold), stream);
  });
}

void bind_count_beaten(const py::dict& where, const py::dict& tile, const py::dict& targets,
                       const py::dict& filtered, const py::dict& lists) {
  const ScoreTile scores = tile_of(tile);
  const Targets wanted = targets_of(targets);
  const SearchFilter accepted = filter().read(filtered);
  const Lists open = lists_of(lists);
  launch(where, "count_beaten",
         [&](cudaStream_t stream) { count_beaten(scores, wanted, accepted, open, stream); });
}

void bind_settle_beaten(const py::dict& where, const py::dict& targets, const py::dict& lists) {
  const Targets wanted = targets_of(targets);
  const Lists open = lists_of(lists);
  launch(where, "settle_beaten", [&](cudaStream_t stream) { settle_beaten(wanted, open, stream); });
}

}  // namespace

#if defined(PYHBT_CUDA_EMULATED)
PYBIND11_MODULE(_cuda_emulated, m) {
#else
PYBIND11_MODULE(_cuda, m) {
#endif
  m.attr("MOST_SELECTED") = kMostSelected;
#if defined(PYHBT_CUDA_EMULATED)
  m.def("launches", [] { return emulator::machine.launches(); }, "Kernels launched so far.");
#endif
  m.def("status", &status, "Devices, driver and runtime versions, and why there is no device.");
  pyhbt::border::show_dtypes(m);
  pyhbt::border::show_structs(m, matrix(), filter(), where_members(), tile_members(), list_members(),
                              target_members());
  bind_loss(m);
  m.def("append_open", &bind_append_open, py::kw_only(), "where"_a, "tile"_a, "threshold"_a, "filter"_a,
        "lists"_a);
  m.def("exact_norms", &bind_exact_norms, py::kw_only(), "where"_a, "rows"_a, "norms"_a);
  m.def("score_lists", &bind_score_lists, py::kw_only(), "where"_a, "queries"_a, "corpus"_a, "norms"_a,
        "lists"_a);
  m.def("select_best", &bind_select_best, py::kw_only(), "where"_a, "lists"_a, "k"_a, "scale"_a, "sorted"_a,
        "threshold"_a);
  m.def("count_beaten", &bind_count_beaten, py::kw_only(), "where"_a, "tile"_a, "targets"_a, "filter"_a,
        "lists"_a);
  m.def("settle_beaten", &bind_settle_beaten, py::kw_only(), "where"_a, "targets"_a, "lists"_a);
}
