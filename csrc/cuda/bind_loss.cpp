// The loss in the CUDA module's Python face: bindings.cpp has the rest, and the conventions.
#include <pybind11/pybind11.h>

#include <cstdint>
#include <stdexcept>
#include <string>

#include "../border.h"
#include "contrastive.h"
#include "launching.h"
#include "loss_rows.h"

namespace pyhbt::cuda {
namespace {

namespace py = pybind11;
using border::Address;
using border::at;
using border::kDTypes;
using border::matrix;
using border::Members;

const Members<Panel>& panel_members() {
  static const Members<Panel> members = Members<Panel>("Panel")
                                            .address("dots", &Panel::dots)
                                            .value("rows", &Panel::rows)
                                            .value("columns", &Panel::columns)
                                            .address("row_factor", &Panel::row_factor)
                                            .address("column_factor", &Panel::column_factor)
                                            .address("positives", &Panel::positives)
                                            .address("query_groups", &Panel::query_groups)
                                            .address("passage_groups", &Panel::passage_groups)
                                            .address("limit", &Panel::limit);
  return members;
}

const Members<PanelSums>& panel_sums_members() {
  static const Members<PanelSums> members = Members<PanelSums>("PanelSums")
                                                .address("row_partials", &PanelSums::row_partials)
                                                .address("row_tickets", &PanelSums::row_tickets)
                                                .address("row_logsumexp", &PanelSums::row_logsumexp)
                                                .address("column_partials", &PanelSums::column_partials);
  return members;
}

const Members<PanelGradient>& panel_gradient_members() {
  static const Members<PanelGradient> members =
      Members<PanelGradient>("PanelGradient")
          .address("row_reference", &PanelGradient::row_reference)
          .address("row_weight", &PanelGradient::row_weight)
          .address("own", &PanelGradient::own)
          .address("column_logsumexp", &PanelGradient::column_logsumexp)
          .address("column_weight", &PanelGradient::column_weight)
          .address("gain", &PanelGradient::gain)
          .address("out", &PanelGradient::out)
          .choice("dtype", &PanelGradient::dtype, kDTypes);
  return members;
}

const Members<LossRows>& loss_rows_members() {
  static const Members<LossRows> members = Members<LossRows>("LossRows")
                                               .value("rows", &LossRows::rows)
                                               .value("columns", &LossRows::columns)
                                               .address("positives", &LossRows::positives)
                                               .address("query_groups", &LossRows::query_groups)
                                               .address("passage_groups", &LossRows::passage_groups)
                                               .address("row_weights", &LossRows::row_weights)
                                               .value("temperature", &LossRows::temperature)
                                               .address("temperature_at", &LossRows::temperature_at)
                                               .value("margin", &LossRows::margin)
                                               .value("share", &LossRows::share)
                                               .address("refused", &LossRows::refused)
                                               .address("scores", &LossRows::scores)
                                               .address("logsumexp", &LossRows::logsumexp)
                                               .address("losses", &LossRows::losses)
                                               .address("row_factor", &LossRows::row_factor)
                                               .address("column_factor", &LossRows::column_factor)
                                               .address("limit", &LossRows::limit)
                                               .address("reference", &LossRows::reference)
                                               .address("weight", &LossRows::weight)
                                               .address("own", &LossRows::own);
  return members;
}

const Members<LossTotals>& totals_members() {
  static const Members<LossTotals> members = Members<LossTotals>("LossTotals")
                                                 .address("moments", &LossTotals::moments)
                                                 .address("loss_rows", &LossTotals::loss_rows)
                                                 .address("loss", &LossTotals::loss)
                                                 .address("temperature", &LossTotals::temperature);
  return members;
}

Panel panel_of(const py::dict& given) {
  const Panel panel = panel_members().read(given);
  check_positive("rows", panel.rows);
  check_positive("columns", panel.columns);
  return panel;
}

void bind_panel_logsumexp(const py::dict& where, const py::dict& panel, const py::dict& out) {
  const Panel scores = panel_of(panel);
  const PanelSums sums = panel_sums_members().read(out);
  launch(where, "panel_logsumexp", [&](cudaStream_t stream) { panel_logsumexp(scores, sums, stream); });
}

void bind_merge_columns(const py::dict& where, Address partials, int64_t row_tiles, int64_t columns,
                        bool first, Address logsumexp) {
  check_positive("columns", columns);
  launch(where, "merge_columns", [&](cudaStream_t stream) {
    merge_columns(at<const float2>(partials), row_tiles, columns, first, at<double>(logsumexp), stream);
  });
}

void bind_panel_gradient(const py::dict& where, const py::dict& panel, const py::dict& gradient) {
  const Panel scores = panel_of(panel);
  const PanelGradient parts = panel_gradient_members().read(gradient);
  launch(where, "panel_gradient", [&](cudaStream_t stream) { panel_gradient(scores, parts, stream); });
}

void bind_multiply_rows(const py::dict& where, Address left, int64_t rows, Address right, int64_t columns,
                        int64_t dim, Address out) {
  check_positive("rows", rows);
  check_positive("columns", columns);
  launch(where, "multiply_rows", [&](cudaStream_t stream) {
    multiply_rows(at<const float>(left), rows, at<const float>(right), columns, dim, at<float>(out), stream);
  });
}

LossRows rows_of(const py::dict& given) {
  const LossRows rows = loss_rows_members().read(given);
  check_positive("rows", rows.rows);
  check_positive("columns", rows.columns);
  return rows;
}

void bind_start_rows(const py::dict& where, const py::dict& queries, const py::dict& passages,
                     const py::dict& rows) {
  const Embeddings left = matrix().read(queries), right = matrix().read(passages);
  const LossRows loss = rows_of(rows);
  if (left.dtype != right.dtype || left.dim != right.dim)
    throw std::invalid_argument("passages: expected the dtype and the dim of queries");
  if (left.rows != loss.rows || right.rows != loss.columns)
    throw std::invalid_argument("rows: expected as many as queries and passages");
  launch(where, "start_rows", [&](cudaStream_t stream) { start_rows(left, right, loss, stream); });
}

void bind_solve_rows(const py::dict& where, const py::dict& rows, int64_t first, int64_t last) {
  const LossRows loss = rows_of(rows);
  if (first < 0 || last <= first || last > loss.rows)
    throw std::invalid_argument("first, last: found " + std::to_string(first) + ", " + std::to_string(last) +
                                ", expected some of the rows");
  launch(where, "solve_rows", [&](cudaStream_t stream) { solve_rows(loss, first, last, stream); });
}

void bind_solve_columns(const py::dict& where, const py::dict& rows, Address base, Address order,
                        Address column_weight) {
  const LossRows loss = rows_of(rows);
  launch(where, "solve_columns", [&](cudaStream_t stream) {
    solve_columns(loss, at<const double>(base), at<const int64_t>(order), at<float>(column_weight), stream);
  });
}

void bind_choose_gain(const py::dict& where, const py::dict& rows, Address gain) {
  const LossRows loss = rows_of(rows);
  launch(where, "choose_gain", [&](cudaStream_t stream) { choose_gain(loss, at<float>(gain), stream); });
}

void bind_end_gradient(const py::dict& where, const py::dict& embeddings, bool cosine, Address gain,
                       Address gradient, Address moments) {
  const Embeddings given = matrix().read(embeddings);
  check_positive("rows", given.rows);
  launch(where, "end_gradient", [&](cudaStream_t stream) {
    end_gradient(given, cosine, at<const float>(gain), at<float>(gradient), at<double>(moments), stream);
  });
}

void bind_total_rows(const py::dict& where, const py::dict& rows, const py::dict& totals) {
  const LossRows loss = rows_of(rows);
  const LossTotals wanted = totals_members().read(totals);
  launch(where, "total_rows", [&](cudaStream_t stream) { total_rows(loss, wanted, stream); });
}

}  // namespace

void bind_loss(py::module_& m) {
  using namespace pybind11::literals;
  m.attr("PANEL_TILE_ROWS") = kPanelTileRows;
  m.attr("PANEL_TILE_COLUMNS") = kPanelTileColumns;
  py::dict structs = m.attr("STRUCTS");
  panel_members().show_names(structs);
  panel_sums_members().show_names(structs);
  panel_gradient_members().show_names(structs);
  loss_rows_members().show_names(structs);
  totals_members().show_names(structs);
  m.def("panel_logsumexp", &bind_panel_logsumexp, py::kw_only(), "where"_a, "panel"_a, "out"_a);
  m.def("merge_columns", &bind_merge_columns, py::kw_only(), "where"_a, "partials"_a, "row_tiles"_a,
        "columns"_a, "first"_a, "logsumexp"_a);
  m.def("panel_gradient", &bind_panel_gradient, py::kw_only(), "where"_a, "panel"_a, "gradient"_a);
  m.def("multiply_rows", &bind_multiply_rows, py::kw_only(), "where"_a, "left"_a, "rows"_a, "right"_a,
        "columns"_a, "dim"_a, "out"_a);
  m.def("start_rows", &bind_start_rows, py::kw_only(), "where"_a, "queries"_a, "passages"_a, "rows"_a);
  m.def("solve_rows", &bind_solve_rows, py::kw_only(), "where"_a, "rows"_a, "first"_a, "last"_a);
  m.def("solve_columns", &bind_solve_columns, py::kw_only(), "where"_a, "rows"_a, "base"_a, "order"_a,
        "column_weight"_a);
  m.def("choose_gain", &bind_choose_gain, py::kw_only(), "where"_a, "rows"_a, "gain"_a);
  m.def("end_gradient", &bind_end_gradient, py::kw_only(), "where"_a, "embeddings"_a, "cosine"_a, "gain"_a,
        "gradient"_a, "moments"_a);
  m.def("total_rows", &bind_total_rows, py::kw_only(), "where"_a, "rows"_a, "totals"_a);
}

}  // namespace pyhbt::cuda
