"""Mistakes to be sown into the kernels, one at a time, and what must notice each."""

from __future__ import annotations

from typing import NamedTuple

# What the mistakes with fences take out and put elsewhere.
FENCE = "  __threadfence();\n"
RELEASE = "  __threadfence();  // the partials of this block are seen by whoever sees its ticket\n"
BARRIER_AND_TICKET = """\
  __syncthreads();
  if (thread == 0) ticket[0] = atomicAdd(&out.row_tickets[blockIdx.y], 1u);
"""
OTHERS_RETURN = """\
  __syncthreads();
  if (ticket[0] != gridDim.x - 1) return;
"""
READS = """\
  LogSumExp<double> total;
  for (unsigned at = static_cast<unsigned>(part); at < gridDim.x; at += kRowThreads)
    if (first_row + row < panel.rows) total.merge(wide(out.row_partials[at * panel.rows + first_row + row]));
"""


WRITES = """\
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

"""


class Mistake(NamedTuple):
    """``old`` occurs once in ``file`` and is replaced; ``scenario`` of main.cpp must then fail under ``sanitizer``."""

    name: str
    file: str
    old: str
    new: str
    scenario: str
    sanitizer: str


MISTAKES = (
    Mistake(
        "the tile is read before all have written it",
        "contrastive.cu",
        "    tile[row][column] = score;\n  }\n  __syncthreads();",
        "    tile[row][column] = score;\n  }",
        "logsumexp",
        "thread",
    ),
    Mistake(
        "no guard of rows",
        "contrastive.cu",
        "if (first_row + row < panel.rows && first_column + column < panel.columns) {",
        "if (first_column + column < panel.columns) {",
        "logsumexp",
        "address",
    ),
    *(
        Mistake(name, "contrastive.cu", old, new, "logsumexp", "thread")
        for name, old, new in (
            ("no fence before the ticket", RELEASE, ""),
            ("no barrier before the ticket", RELEASE + "  __syncthreads();\n", RELEASE),
            ("the first fence stands before the writes", WRITES + RELEASE, FENCE + WRITES),
            ("no fence after the ticket", OTHERS_RETURN + FENCE, OTHERS_RETURN),
            (
                "the first fence stands after the ticket",
                RELEASE + BARRIER_AND_TICKET,
                BARRIER_AND_TICKET + FENCE,
            ),
            (
                "the second fence stands before the ticket",
                RELEASE + BARRIER_AND_TICKET + OTHERS_RETURN + FENCE,
                RELEASE + FENCE + BARRIER_AND_TICKET + OTHERS_RETURN,
            ),
            ("the second fence stands after the reads", FENCE + READS, READS + FENCE),
            ("the first fence serves the block only", RELEASE, "  __threadfence_block();\n"),
            ("the second fence serves the block only", FENCE + READS, "  __threadfence_block();\n" + READS),
            (
                "the ticket is put back beside atomics",
                "atomicExch(&out.row_tickets[blockIdx.y], 0u)",
                "out.row_tickets[blockIdx.y] = 0u",
            ),
        )
    ),
    Mistake(
        "the ticket is left as it is",
        "contrastive.cu",
        "if (thread == 0) atomicExch(&out.row_tickets[blockIdx.y], 0u);",
        "",
        "logsumexp",
        "none",
    ),
    Mistake(
        "halves of a column are merged too early",
        "contrastive.cu",
        "    if (half == 1) halves[column] = float2{down.max, down.sum};\n    __syncthreads();",
        "    if (half == 1) halves[column] = float2{down.max, down.sum};",
        "logsumexp",
        "thread",
    ),
    Mistake(
        "no guard of columns in the merge",
        "contrastive.cu",
        "  if (column >= columns) return;\n  LogSumExp",
        "  LogSumExp",
        "logsumexp",
        "address",
    ),
    Mistake(
        "no guard of columns in the gradient",
        "contrastive.cu",
        "  if (column >= panel.columns) return;\n",
        "",
        "gradient",
        "address",
    ),
    Mistake(
        "the gradient forgets the gain",
        "contrastive.cu",
        ": gradient.gain[0];",
        ": 1.0f;",
        "gradient",
        "none",
    ),
    Mistake(
        "the next slice overwrites tiles in use",
        "contrastive.cu",
        "    __syncthreads();  // before the next slice overwrites the tiles\n",
        "",
        "multiply",
        "thread",
    ),
    Mistake(
        "shared tile written one row too far",
        "contrastive.cu",
        "left_tile[k][line] =",
        "left_tile[k + 1][line] =",
        "multiply",
        "address",
    ),
    Mistake(
        "entries are appended beyond the list",
        "search.cu",
        "if (wanted && place < lists.capacity)",
        "if (wanted)",
        "overflow",
        "address",
    ),
    Mistake(
        "two lanes take one place",
        "search.cu",
        "__popc(chosen & ((1u << lane) - 1))",
        "__popc(chosen & ((2u << lane) - 1))",
        "search",
        "none",
    ),
    Mistake(
        "norms read beyond the last row",
        "search.cu",
        "const int64_t known = row < rows.rows ? row : rows.rows - 1;",
        "const int64_t known = row;",
        "norms",
        "address",
    ),
    Mistake(
        "scores of entries that do not exist",
        "search.cu",
        "const int64_t known = entry < count ? entry : count - 1;",
        "const int64_t known = entry;",
        "search",
        "address",
    ),
    Mistake(
        "the digit is chosen while others still count",
        "search.cu",
        "atomicAdd(&histogram[key >> shift & 255], 1);\n    }\n    __syncthreads();",
        "atomicAdd(&histogram[key >> shift & 255], 1);\n    }",
        "search",
        "thread",
    ),
    Mistake(
        "a lane counts its own digits among those above",
        "search.cu",
        "  above -= mine;\n",
        "",
        "select",
        "none",
    ),
    Mistake(
        "the last queries of a tile are appended to lists that do not exist",
        "search.cu",
        "first_query + kTileQueries < tile.queries ? first_query + kTileQueries : tile.queries",
        "first_query + kTileQueries",
        "append",
        "address",
    ),
    Mistake(
        "rows of one positive are solved by each of their warps",
        "loss_rows.cu",
        "  if (first > 0 && rows.positives[row_at(order, first - 1)] == run.column) return;  // another warp has it\n",
        "",
        "columns",
        "none",
    ),
    Mistake(
        "sums of warps are read before all have added",
        "loss_rows.cu",
        "    __syncthreads();\n    for (int part = 0; thread < half && part < 2;",
        "    for (int part = 0; thread < half && part < 2;",
        "total",
        "thread",
    ),
    Mistake(
        "a positive that is no passage is read",
        "loss_rows.cu",
        "row_of<Number>(passages, known ? positive : 0)",
        "row_of<Number>(passages, positive)",
        "start",
        "address",
    ),
    Mistake(
        "no barrier between the steps of the sort",
        "search.cu",
        "          passages[other] = passage;\n        }\n        __syncthreads();",
        "          passages[other] = passage;\n        }",
        "search",
        "thread",
    ),
    Mistake(
        "the last of several ties is lost",
        "search.cu",
        "(key == least && listed[at] <= last_passage)",
        "(key == least && listed[at] < last_passage)",
        "search",
        "none",
    ),
    Mistake(
        "a passage equal to a target counts as certainly better",
        "search.cu",
        "score.lower > high[certain] * bounds.scale",
        "score.upper >= high[certain] * bounds.scale",
        "ranks",
        "none",
    ),
    Mistake(
        "lanes that beat as many targets count as one",
        "search.cu",
        "number], __popc(same));",
        "number], 1 + 0 * __popc(same));",
        "ranks",
        "none",
    ),
    Mistake(
        "the list is emptied while others read its length",
        "search.cu",
        "  __syncthreads();  // all have read the count\n",
        "",
        "ranks",
        "thread",
    ),
)
