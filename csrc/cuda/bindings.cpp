// The Python face of the CUDA module: addresses and sizes in, launches on the stream given; nothing waits.
//   The same file makes the emulated module of tests/cuda_emulation.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <stdexcept>
#include <string>
#include <tuple>

#include "contrastive.h"
#include "search.h"

namespace py = pybind11;

namespace {

using namespace pyhbt::cuda;
using Address = std::uintptr_t;
using Where = std::tuple<int, Address>;  // device, stream

template <typename T>
T* at(Address address) {
  return reinterpret_cast<T*>(address);
}

#if defined(PYHBT_CUDA_EMULATED)

struct DeviceGuard {
  explicit DeviceGuard(int) {}
};
void check_launch(const char*) {}
py::dict status() {
  py::dict found;
  found["devices"] = 1;
  found["driver"] = 0;
  found["runtime"] = 0;
  found["reason"] = "emulated on the CPU";
  return found;
}

#else

void check(cudaError_t error, const char* what) {
  if (error != cudaSuccess)
    throw std::runtime_error(std::string(what) + ": " + cudaGetErrorName(error) + ", " +
                             cudaGetErrorString(error));
}

// Makes a device current, and the former again at the end.
class DeviceGuard {
 public:
  explicit DeviceGuard(int device) {
    check(cudaGetDevice(&former_), "cudaGetDevice");
    if (device != former_) check(cudaSetDevice(device), "cudaSetDevice");
  }
  ~DeviceGuard() { cudaSetDevice(former_); }
  DeviceGuard(const DeviceGuard&) = delete;
  DeviceGuard& operator=(const DeviceGuard&) = delete;

 private:
  int former_ = 0;
};

void check_launch(const char* kernel) { check(cudaGetLastError(), kernel); }

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

template <typename Launch>
void launch(const Where& where, const char* kernel, const Launch& run) {
  const py::gil_scoped_release release;
  const DeviceGuard guard(std::get<0>(where));
  run(at<std::remove_pointer_t<cudaStream_t>>(std::get<1>(where)));
  check_launch(kernel);
}

void check_positive(const char* name, int64_t value) {
  if (value < 1)
    throw std::invalid_argument(std::string(name) + ": found " + std::to_string(value) + ", expected >= 1");
}

// dots, rows, columns, row_factor, column_factor, positives, query_groups, passage_groups, limit
using PanelParts =
    std::tuple<Address, int64_t, int64_t, Address, Address, Address, Address, Address, Address>;

Panel panel_of(const PanelParts& parts) {
  const auto& [dots, rows, columns, row_factor, column_factor, positives, query_groups, passage_groups,
               limit] = parts;
  check_positive("rows", rows);
  check_positive("columns", columns);
  return {at<const float>(dots),
          rows,
          columns,
          at<const float>(row_factor),
          at<const float>(column_factor),
          at<const int64_t>(positives),
          at<const int64_t>(query_groups),
          at<const int64_t>(passage_groups),
          at<const float>(limit)};
}

void bind_panel_logsumexp(const Where& where, const PanelParts& panel, Address row_partials,
                          Address row_tickets, Address row_logsumexp, Address column_partials) {
  const Panel checked = panel_of(panel);
  const PanelSums sums{at<float2>(row_partials), at<unsigned>(row_tickets), at<double>(row_logsumexp),
                       at<float2>(column_partials)};
  launch(where, "panel_logsumexp", [&](cudaStream_t stream) { panel_logsumexp(checked, sums, stream); });
}

void bind_merge_columns(const Where& where, Address partials, int64_t row_tiles, int64_t columns,
                        Address logsumexp) {
  check_positive("columns", columns);
  launch(where, "merge_columns", [&](cudaStream_t stream) {
    merge_columns(at<const float2>(partials), row_tiles, columns, at<double>(logsumexp), stream);
  });
}

// row_reference, row_weight, own, column_reference, column_weight, gain, out, type
using GradientParts = std::tuple<Address, Address, Address, Address, Address, Address, Address, int>;

void bind_panel_gradient(const Where& where, const PanelParts& panel, const GradientParts& parts) {
  const Panel checked = panel_of(panel);
  const auto& [reference, weight, own, column_reference, column_weight, gain, out, type] = parts;
  const PanelGradient gradient{at<const float>(reference),
                               at<const float>(weight),
                               at<const float>(own),
                               at<const float>(column_reference),
                               at<const float>(column_weight),
                               at<const float>(gain),
                               at<void>(out),
                               static_cast<GradientType>(type)};
  launch(where, "panel_gradient", [&](cudaStream_t stream) { panel_gradient(checked, gradient, stream); });
}

void bind_multiply_rows(const Where& where, Address left, int64_t rows, Address right, int64_t columns,
                        int64_t dim, Address out) {
  check_positive("rows", rows);
  check_positive("columns", columns);
  launch(where, "multiply_rows", [&](cudaStream_t stream) {
    multiply_rows(at<const float>(left), rows, at<const float>(right), columns, dim, at<float>(out), stream);
  });
}

using RowParts = std::tuple<Address, int, int64_t, int64_t, int64_t>;  // as in csrc/bindings.cpp
Rows rows_of(const RowParts& parts) {
  const auto& [address, type, rows, dim, stride] = parts;
  return {at<const void>(address), static_cast<RowType>(type), rows, dim, stride};
}

using FilterParts = std::tuple<Address, Address, Address, int64_t, Address, int64_t>;
Filter filter_of(const FilterParts& parts) {
  const auto& [allowed, passage_groups, pools, num_groups, excluded, per_query] = parts;
  return {at<const uint8_t>(allowed),  at<const int32_t>(passage_groups),
          at<const uint8_t>(pools),    num_groups,
          at<const int64_t>(excluded), per_query};
}

// scores, queries, first, columns, code_error, query_size, passage_size, passage_error, passage_scale
using TileParts = std::tuple<Address, int64_t, int64_t, int64_t, Address, Address, Address, Address, Address>;
ScoreTile tile_of(const TileParts& parts) {
  const auto& [scores, queries, first, columns, code_error, query_size, passage_size, passage_error, scale] =
      parts;
  check_positive("queries", queries);
  check_positive("columns", columns);
  return {at<const float>(scores),
          queries,
          first,
          columns,
          at<const float>(code_error),
          at<const float>(query_size),
          at<const float>(passage_size),
          at<const float>(passage_error),
          at<const float>(scale)};
}

// passages, scores, counts, scored, lost, queries, capacity
using ListParts = std::tuple<Address, Address, Address, Address, Address, int64_t, int64_t>;
Lists lists_of(const ListParts& parts) {
  const auto& [passages, scores, counts, scored, lost, queries, capacity] = parts;
  check_positive("queries", queries);
  check_positive("capacity", capacity);
  return {at<int32_t>(passages),
          at<double>(scores),
          at<int32_t>(counts),
          at<int32_t>(scored),
          at<int32_t>(lost),
          queries,
          capacity};
}

// scores, passages, low, high, count, beaten
using TargetParts = std::tuple<Address, Address, Address, Address, int64_t, Address>;
Targets targets_of(const TargetParts& parts) {
  const auto& [scores, passages, low, high, count, beaten] = parts;
  check_positive("targets", count);
  return {at<const double>(scores),
          at<const int32_t>(passages),
          at<const float>(low),
          at<const float>(high),
          count,
          at<int32_t>(beaten)};
}

void bind_append_open(const Where& where, const TileParts& tile, Address threshold, const FilterParts& filter,
                      const ListParts& lists) {
  const ScoreTile scores = tile_of(tile);
  const Lists found = lists_of(lists);
  launch(where, "append_open", [&](cudaStream_t stream) {
    append_open(scores, at<const float>(threshold), filter_of(filter), found, stream);
  });
}

void bind_exact_norms(const Where& where, const RowParts& rows, Address norms) {
  const Rows checked = rows_of(rows);
  check_positive("rows", checked.count);
  launch(where, "exact_norms", [&](cudaStream_t stream) { exact_norms(checked, at<double>(norms), stream); });
}

void bind_score_lists(const Where& where, const RowParts& queries, const RowParts& corpus, Address norms,
                      const ListParts& lists) {
  const Lists found = lists_of(lists);
  const Rows left = rows_of(queries);
  if (left.type != RowType::kFloat32) throw std::invalid_argument("queries: expected float32");
  launch(where, "score_lists", [&](cudaStream_t stream) {
    score_lists(left, rows_of(corpus), at<const double>(norms), found, stream);
  });
}

void bind_select_best(const Where& where, const ListParts& lists, int64_t k, Address scale, bool sorted,
                      Address threshold) {
  const Lists found = lists_of(lists);
  if (k < 1 || k > kMostSelected)
    throw std::invalid_argument("k: found " + std::to_string(k) + ", expected 1 to " +
                                std::to_string(kMostSelected));
  launch(where, "select_best", [&](cudaStream_t stream) {
    select_best(found, k, at<const double>(scale), sorted, at<float>(threshold), stream);
  });
}

void bind_count_beaten(const Where& where, const TileParts& tile, const TargetParts& targets,
                       const FilterParts& filter, const ListParts& lists) {
  const ScoreTile scores = tile_of(tile);
  const Targets wanted = targets_of(targets);
  const Lists open = lists_of(lists);
  launch(where, "count_beaten",
         [&](cudaStream_t stream) { count_beaten(scores, wanted, filter_of(filter), open, stream); });
}

void bind_settle_beaten(const Where& where, const TargetParts& targets, const ListParts& lists) {
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
  m.attr("PANEL_TILE_ROWS") = kPanelTileRows;
  m.attr("PANEL_TILE_COLUMNS") = kPanelTileColumns;
  m.attr("MOST_SELECTED") = kMostSelected;
  m.def("status", &status, "Devices, driver and runtime versions, and why there is no device.");
  m.def("panel_logsumexp", &bind_panel_logsumexp);
  m.def("merge_columns", &bind_merge_columns);
  m.def("panel_gradient", &bind_panel_gradient);
  m.def("multiply_rows", &bind_multiply_rows);
  m.def("append_open", &bind_append_open);
  m.def("exact_norms", &bind_exact_norms);
  m.def("score_lists", &bind_score_lists);
  m.def("select_best", &bind_select_best);
  m.def("count_beaten", &bind_count_beaten);
  m.def("settle_beaten", &bind_settle_beaten);
}
