"""Mutants of the kernels: every barrier, fence, guard, index, atomic, shuffle and constant, changed one at a time."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from .build import SOURCES

FILES = ("contrastive.cu", "loss_rows.cu", "search.cu", "language.h")

# A read-modify-write that others may come between, in place of an atomic.
PLAIN = """
template <typename T>
T plainly_added(T* place, T value) {
  const T old = *place;
  *place = static_cast<T>(old + value);
  return old;
}
template <typename T>
T plainly_exchanged(T* place, T value) {
  const T old = *place;
  *place = value;
  return old;
}
"""


class Mutant(NamedTuple):
    """One change of one line; ``number`` counts the same change in the same line, from 1."""

    file: str
    line: int
    rule: str
    change: str
    number: int
    before: str
    after: str
    text: str  # of the whole file

    @property
    def key(self) -> tuple[str, str, str, str, int]:
        """What stays when lines are added elsewhere."""
        return self.file, self.before, self.rule, self.change, self.number


class Change(NamedTuple):
    rule: str
    start: int
    end: int
    new: str


def blanked(text: str) -> str:
    """The text with what no rule is to touch replaced by spaces, place by place."""

    def blank(match: re.Match[str]) -> str:
        return re.sub(r"[^\n]", " ", match[0])

    text = re.sub(r'//[^\n]*|"[^"\n]*"', blank, text)
    return re.sub(r"(?m)^\s*(#.*|template <.*|static_assert.*)$", blank, text)


SWAPS: tuple[
    tuple[str, str, tuple[str, ...]], ...
] = (  # rule, what is found between spaces, what comes instead
    ("comparison", "<", ("<=", ">")),
    ("comparison", "<=", ("<",)),
    ("comparison", ">", (">=", "<")),
    ("comparison", ">=", (">",)),
    ("comparison", "==", ("!=",)),
    ("comparison", "!=", ("==",)),
    ("logic", "&&", ("||",)),
    ("logic", r"\|\|", ("&&",)),
    ("arithmetic", r"\+", ("-",)),
    ("arithmetic", "-", ("+",)),
    ("arithmetic", r"\*", ("+",)),
    ("arithmetic", "/", ("*",)),
    ("arithmetic", "%", ("/",)),
    ("arithmetic", r"\+=", ("-=",)),
    ("bits", "&", ("|",)),
    ("bits", r"\|", ("&",)),
    ("bits", r"\^", ("|",)),
    ("bits", "<<", (">>",)),
    ("bits", ">>", ("<<",)),
    ("bits", r"\|=", ("&=",)),
    ("bits", "&=", ("|=",)),
)

WORDS: tuple[tuple[str, str, tuple[str, ...]], ...] = (  # rule, pattern, what comes instead
    ("barrier", r"__sync(?:threads|warp)\(\);", (";",)),
    ("fence", r"__threadfence\(\);", (";", "__threadfence_block();")),
    ("atomic", r"\batomicAdd\b", ("plainly_added",)),
    ("atomic", r"\batomicExch\b", ("plainly_exchanged",)),
    ("shuffle", r"(?<=sync\()kAllLanes", ("0x7fffffffu", "0xfffffffeu")),
    ("shuffle", r"__shfl_xor_sync", ("__shfl_sync",)),
    ("shuffle", r"\bdistance(?=, \w+\))", ("distance * 2", "0")),
    ("shuffle", r"\bleader(?=\);)", ("0",)),
    ("shuffle", r"(?<=, )(?:kRowThreads|kLanes|8)(?=\);)", ("4",)),  # a wider one does the same
    ("index", r"\bblockIdx\.x\b", ("blockIdx.y",)),
    ("index", r"\bblockIdx\.y\b", ("blockIdx.x",)),
    ("index", r"\bfirst_row\b(?= \+)", ("first_column",)),
    ("index", r"\bfirst_column\b(?= \+)", ("first_row",)),
    ("index", r"\bpanel\.rows\b", ("panel.columns",)),
    ("index", r"\bpanel\.columns\b", ("panel.rows",)),
    ("index", r"\brow(?=[,\]])", ("column",)),
    ("index", r"\bcolumn(?=[,\]])", ("row",)),
    ("member", r"\.max\b", (".sum",)),
    ("member", r"\.sum\b", (".max",)),
    ("member", r"\.lower\b", (".upper",)),
    ("member", r"\.upper\b", (".lower",)),
    ("member", r"\blow\[", ("high[",)),
    ("member", r"\bhigh\[", ("low[",)),
    ("increment", r"\+\+(?=\w)", ("--",)),
    ("increment", r"(?<=\w)--", ("++",)),
    ("negation", r"(?<=[(= ])!(?=[(\w])", ("",)),
    ("negation", r"(?<=[(= ])~(?=[(\w])", ("",)),
    ("start", r"(?<!\w)-INFINITY", ("0.0f", "INFINITY")),
    ("start", r"(?<![\w-])INFINITY", ("0.0f",)),
    ("start", r"\bINT32_MAX\b", ("0",)),
    ("start", r"\btrue\b", ("false",)),
    ("start", r"\bfalse\b", ("true",)),
)

NUMBER = re.compile(r"(?<![\w.])(0x[0-9a-f]+|\d+)(u?)(?![\w.]|\.\d)")
DECIMAL = re.compile(r"(?<![\w.])(\d+\.\d+)(f?)\b")


def _swaps(code: str) -> Iterator[Change]:
    for rule, found, instead in SWAPS:
        for match in re.finditer(rf"(?<= ){found}(?=[ \n])", code):
            if found == "<" and re.search(r"template $", code[: match.start()]):
                continue
            yield from (Change(rule, match.start(), match.end(), new) for new in instead)


def _words(code: str) -> Iterator[Change]:
    for rule, found, instead in WORDS:
        for match in re.finditer(found, code):
            yield from (Change(rule, match.start(), match.end(), new) for new in instead)


def _numbers(code: str) -> Iterator[Change]:
    for match in NUMBER.finditer(code):
        value = int(match[1], 0)
        shared = "PYHBT_SHARED" in code[code.rfind("\n", 0, match.start()) + 1 : match.start()]
        for step in (-1,) if shared else (1, -1):  # a larger array would be unused memory
            if value + step >= 0 or not match[2]:
                yield Change("constant", match.start(), match.end(), f"{value + step}{match[2]}")
    for match in DECIMAL.finditer(code):
        yield Change("constant", match.start(), match.end(), f"{float(match[1]) + 1.0}{match[2]}")


def _closing(code: str, start: int) -> int:
    """Where the bracket at ``start`` closes."""
    depth = 0
    for at in range(start, len(code)):
        depth += (code[at] in "([{") - (code[at] in ")]}")
        if depth == 0:
            return at
    raise ValueError(f"a bracket at {start} never closes")


def _start_of_operand(code: str, at: int) -> int:
    """Where the condition begins that ends before ``at``."""
    depth = 0
    while at > 0:
        at -= 1
        depth += (code[at] in ")]}") - (code[at] in "([{")
        if depth < 0 or (depth == 0 and code[at] in ",;?:"):
            return at + 1
        if depth == 0 and code[at] == "=" and code[at - 1] not in "=<>!" and code[at + 1] != "=":
            return at + 1
        if depth == 0 and code.startswith("return ", at):
            return at + len("return")
    return 0


def _conditions(code: str) -> Iterator[Change]:
    brackets = [match.end() for match in re.finditer(r"\b(?:if|while) (?=\()", code)]
    found = [(bracket + 1, _closing(code, bracket)) for bracket in brackets]
    for match in re.finditer(r" \? ", code):
        start = _start_of_operand(code, match.start())
        found.append((start + len(code[start:]) - len(code[start:].lstrip()), match.start()))
    for start, end in found:
        yield from (Change("guard", start, end, new) for new in ("true", "false"))
        for match in re.finditer(r" (?:&&|\|\|)\s", code[start:end]):
            left, right = start + match.start(), start + match.end()
            if code[start:left].count("(") == code[start:left].count(")"):  # of the condition itself
                yield Change("guard", start, right, "")
                yield Change("guard", left, end, "")


ACTION = re.compile(
    r"(?m)^ +((?!PYHBT_SHARED|__sync|__threadfence)[\w.>-]+(?:\[[^;=\n]*\])*(?: [+|&*]?= |\()[^;\n]*;) *$"
)


def _statements(code: str) -> Iterator[Change]:
    """An assignment or a call that has a line to itself is left out."""
    for match in ACTION.finditer(code):
        if match[1].count("(") == match[1].count(")"):
            yield Change("statement", match.start(1), match.end(1), ";")


STATEMENT = re.compile(r"^( *)[^\s/{}#].*;$")


def _moves(code: str) -> Iterator[Change]:
    """A barrier or a fence changes places with the statement before or after it."""
    lines = code.splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    for at, line in enumerate(lines):
        if not re.match(r" *__(sync|threadfence)", line):
            continue
        for first in (at - 1, at):
            pair = [lines[first].rstrip(), lines[first + 1].rstrip()]
            places = [STATEMENT.match(one) for one in pair]
            if any(place is None for place in places) or len({place and place[1] for place in places}) > 1:
                continue
            rule = "fence" if "fence" in line else "barrier"
            yield Change(rule, starts[first], starts[first + 2], f"{pair[1]}\n{pair[0]}\n")


def _shortened(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()


def mutants_of(file: str, folder: Path = SOURCES / "cuda") -> list[Mutant]:
    text = (folder / file).read_text(encoding="utf-8")
    code = blanked(text)
    first, last = 0, len(code)
    if file == "language.h":  # the rest of it is the emulator's, or nvcc's
        first, last = text.rindex("#endif"), text.rindex("}  // namespace")
    changes = [
        *_swaps(code),
        *_words(code),
        *_numbers(code),
        *_conditions(code),
        *_moves(code),
        *_statements(code),
    ]
    found: list[Mutant] = []
    seen: set[str] = set()
    numbers: dict[tuple[str, str, str], int] = {}
    for rule, start, end, new in sorted(changes, key=lambda change: (change.start, change.end, change.new)):
        if start < first or end > last:
            continue
        changed = text[:start] + new + text[end:]
        if changed in seen:
            continue
        seen.add(changed)
        head = text.rfind("\n", 0, start) + 1
        tail = text.find("\n", end - 1 if text[end - 1] == "\n" else end)
        before = _shortened(text[head:tail])
        change = f"{_shortened(text[start:end])} -> {_shortened(new)}"
        number = numbers[before, rule, change] = numbers.get((before, rule, change), 0) + 1
        after = _shortened(text[head:start] + new + text[end:tail])
        if rule == "atomic":
            changed = changed.replace("namespace {\n", f"namespace {{\n{PLAIN}", 1)
        found.append(
            Mutant(file, text.count("\n", 0, start) + 1, rule, change, number, before, after, changed)
        )
    return found


def all_mutants(files: Iterable[str] = FILES) -> list[Mutant]:
    return [mutant for file in files for mutant in mutants_of(file)]
