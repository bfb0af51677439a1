"""Tests the tests of the kernels: each mutant of mutants.py must be noticed, or be explained in explained.csv.

usage: python -m tests.cuda_emulation.mutations [--sample N] [--seed S] [--report FILE] [--after FILE]
       [--stages STAGE ...] [TEXT ...]

With TEXT, only mutants whose file:line:rule contains one. --after a report, only those that it does not have or that
nothing noticed, for checks that have only become stricter since. A run over all writes the counts to mutations.csv.
Checks run from the cheapest on until one fails: results in several orders, AddressSanitizer, ThreadSanitizer, the tests
of the operations; of the mutants that are explained, only the first. What does not end is noticed too; what does not
compile is no mutant.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from queue import Queue

from . import build
from .mutants import Mutant, all_mutants

EXPLAINED, COUNTS = build.HERE / "explained.csv", build.HERE / "mutations.csv"
LEAST = 0.95  # of the mutants are noticed
WORKERS = 2
STAGES = ("results", "memory", "races", "operations")
SURVIVED, NO_MUTANT, ENDLESS = "", "does not compile", "does not end"

SCENARIOS = {
    "contrastive.cu": ("logsumexp", "gradient", "multiply"),
    "loss_rows.cu": ("start", "solve", "columns", "gain", "end", "total"),
    "search.cu": ("append", "norms", "scores", "select", "count", "settle", "search", "overflow", "ranks"),
}
OPERATIONS = {
    "contrastive.cu": ("test_contrastive.py",),
    "loss_rows.cu": ("test_contrastive.py",),
    "search.cu": ("test_search.py", "test_halves.py"),
}
ORDERS = [("forward", "0"), ("reverse", "0"), *(("random", seed) for seed in "12345")]
SANITIZERS = {"results": "none", "memory": "address", "races": "thread"}
OPTIMISED = {"none": "-O0", "address": "-O0", "thread": "-O1"}
SECONDS = {"none": 5, "address": 20, "thread": 90}  # of the CPU, however busy the machine
OPERATION_SECONDS = 300


def explained() -> dict[tuple[str, str, str, str, int], str]:
    """Why a mutant cannot be noticed, by its key."""
    with EXPLAINED.open(encoding="utf-8", newline="") as lines:
        return {
            (row["file"], row["code"], row["rule"], row["change"], int(row["number"])): row["reason"]
            for row in csv.DictReader(lines)
        }


class Workshop:
    """The objects that mutants share, and copies of the sources to put mutants into."""

    def __init__(self, folder: Path, stages: Sequence[str] = STAGES) -> None:
        self.folder, self.stages = folder, stages
        self.reasons = explained()
        self.places: Queue[Path] = Queue()
        for number in range(WORKERS):
            shutil.copytree(build.SOURCES, folder / str(number) / "csrc")
            self.places.put(folder / str(number))
        used = [SANITIZERS[stage] for stage in stages if stage in SANITIZERS]
        self.objects = {sanitizer: self.prepare(sanitizer) for sanitizer in used}
        names = (*build.KERNELS, *build.BINDINGS) if "operations" in stages else ()
        self.module = {
            name: build.module_object(build.SOURCES / "cuda" / name, folder / "module" / f"{name}.o")
            for name in names
        }

    def prepare(self, sanitizer: str) -> dict[str, Path]:
        """The emulator compiled once for kernels to include, and what does not change."""
        header = self.folder / sanitizer / "prelude.h.gch"
        command = [*build.flags(sanitizer), OPTIMISED[sanitizer], "-w", "-x", "c++-header"]
        build.run_compiler([*command, str(build.HERE / "emulator.h")], header)
        shutil.copy(build.HERE / "emulator.h", header.with_suffix(""))
        made = {}
        for name in (*build.KERNELS, *build.CHECKS):
            source = (build.SOURCES / "cuda" if name in build.KERNELS else build.HERE) / name
            made[name] = build.compiled(source, self.folder / sanitizer / f"{name}.o", sanitizer)
        return made

    @contextmanager
    def mutated(self, mutant: Mutant) -> Iterator[Path]:
        place = self.places.get()
        file = place / "csrc" / "cuda" / mutant.file
        try:
            file.write_text(mutant.text, encoding="utf-8")
            yield place
        finally:
            shutil.copy(build.SOURCES / "cuda" / mutant.file, file)
            self.places.put(place)

    def noticed_by(self, mutant: Mutant) -> str:
        """The first check that fails, or SURVIVED or NO_MUTANT."""
        files = [mutant.file] if mutant.file in build.KERNELS else list(build.KERNELS)
        with self.mutated(mutant) as place:
            try:
                for stage in self.stages[:1] if mutant.key in self.reasons else self.stages:
                    if not self.passes(stage, files, place):
                        return stage
            except RuntimeError:
                return NO_MUTANT
            except TimeoutError:
                return ENDLESS
        return SURVIVED

    def passes(self, stage: str, files: Sequence[str], place: Path) -> bool:
        if stage == "operations":
            return self.operations_pass(files, place)
        sanitizer = SANITIZERS[stage]
        prelude = str(self.folder / sanitizer / "prelude.h")
        objects = dict(self.objects[sanitizer])
        for name in files:
            source = place / "csrc" / "cuda" / name
            more = (OPTIMISED[sanitizer], "-w", "-include", prelude)
            objects[name] = build.compiled(source, place / f"{name}.o", sanitizer, *more)
        program = build.linked(list(objects.values()), place / "program", sanitizer)
        scenarios = [scenario for name in files for scenario in SCENARIOS[name]]
        orders = ORDERS if sanitizer == "none" else [("random", "1")]
        for order, seed in orders:
            variables = os.environ | {"EMULATOR_ORDER": order, "EMULATOR_SEED": seed}
            if run([str(program), *scenarios], SECONDS[sanitizer], variables):
                return False
        return True

    def operations_pass(self, files: Sequence[str], place: Path) -> bool:
        objects = dict(self.module)
        for name in files:
            source = place / "csrc" / "cuda" / name
            objects[name] = build.module_object(source, place / f"{name}.module.o", "-w")
        made = build.module_file(list(objects.values()), place)
        tests = [
            str(build.HERE.parent / "ops" / "cuda" / test) for name in files for test in OPERATIONS[name]
        ]
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-m"]
        variables = os.environ | {"EMULATED_MODULE": str(made), "OMP_NUM_THREADS": "1"}
        return run([*command, "not gpu and not slow", *tests], OPERATION_SECONDS, variables) == 0


def run(command: Sequence[str], seconds: int, variables: dict[str, str]) -> int:
    """The exit status.

    Raises:
        TimeoutError: it has had so many seconds of the CPU.
    """
    limited = ["sh", "-c", 'ulimit -S -t "$0" && exec "$@"', str(seconds), *command]
    status = subprocess.run(limited, env=variables, capture_output=True, check=False).returncode
    if status == -signal.SIGXCPU:
        raise TimeoutError(f"{command[0]} ran for more than {seconds} s")
    return status


def noticed(mutants: Sequence[Mutant], stages: Sequence[str] = STAGES) -> Iterator[tuple[Mutant, str]]:
    """What notices each mutant, in their order."""
    with tempfile.TemporaryDirectory(prefix="mutations-") as folder, ThreadPoolExecutor(WORKERS) as pool:
        yield from zip(mutants, pool.map(Workshop(Path(folder), stages).noticed_by, mutants), strict=True)


def faults(found: dict[Mutant, str], reasons: dict[tuple[str, str, str, str, int], str]) -> list[str]:
    """What is wrong with the checks, or with the explanations."""
    wrong = []
    for mutant, by in found.items():
        where = f"{mutant.file}:{mutant.line} {mutant.rule}: {mutant.change}"
        if by == SURVIVED and mutant.key not in reasons:
            wrong.append(f"nothing notices {where}: {mutant.after}")
        elif by != SURVIVED and mutant.key in reasons:
            wrong.append(f"explained, but noticed by {by}: {where}")
    return wrong


def counts(found: dict[Mutant, str]) -> list[list[str | int]]:
    """A row for each rule: mutants, by what they are noticed, and how many are left."""
    columns = (*STAGES, ENDLESS, SURVIVED)
    rows: list[list[str | int]] = []
    for rule in (*sorted({mutant.rule for mutant in found}), "all"):
        by = Counter(by for mutant, by in found.items() if rule in (mutant.rule, "all"))
        rows.append([rule, sum(by.values()), *(by[column] for column in columns)])
    return [["rule", "mutants", *STAGES, ENDLESS, "explained"], *rows]


REPORT = ("file", "line", "rule", "change", "number", "before", "after", "noticed by")


def former(report: Path, mutants: Sequence[Mutant]) -> dict[Mutant, str]:
    """What an earlier report says of each mutant."""
    with report.open(encoding="utf-8", newline="") as lines:
        rows = {
            (row["file"], row["before"], row["rule"], row["change"], int(row["number"])): row["noticed by"]
            for row in csv.DictReader(lines)
        }
    return {mutant: rows[mutant.key] for mutant in mutants if mutant.key in rows}


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("texts", nargs="*", metavar="TEXT")
    parser.add_argument("--sample", type=int, metavar="N")
    parser.add_argument("--seed", type=int, default=0, metavar="S")
    parser.add_argument("--report", type=Path, metavar="FILE")
    parser.add_argument("--after", type=Path, metavar="FILE")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES)
    options = parser.parse_args(arguments)
    mutants = all_mutants()
    if options.texts:
        texts = options.texts
        mutants = [m for m in mutants if any(text in f"{m.file}:{m.line}:{m.rule}" for text in texts)]
    if options.sample is not None:
        mutants = random.Random(options.seed).sample(mutants, options.sample)
    os.nice(10)
    found = former(options.after, mutants) if options.after is not None else {}
    found = {mutant: by for mutant, by in found.items() if by != SURVIVED}
    with (options.report or Path(os.devnull)).open("w", encoding="utf-8", newline="") as lines:
        report = csv.writer(lines, lineterminator="\n")
        report.writerows([REPORT, *([*mutant[:7], by] for mutant, by in found.items())])
        for mutant, by in noticed([mutant for mutant in mutants if mutant not in found], options.stages):
            print(f"{mutant.file}:{mutant.line} {mutant.rule}: {mutant.change}: {by or '-'}", flush=True)
            report.writerow([*mutant[:7], by])
            lines.flush()
            found[mutant] = by
    found = {mutant: by for mutant, by in found.items() if by != NO_MUTANT}
    table = counts(found)
    print("\n".join(",".join(map(str, row)) for row in table))
    wrong = faults(found, explained())
    share = sum(by != SURVIVED for by in found.values()) / max(1, len(found))
    if not options.texts and options.sample is None and tuple(options.stages) == STAGES:
        with COUNTS.open("w", encoding="utf-8", newline="") as lines:
            csv.writer(lines, lineterminator="\n").writerows(table)
        gone = set(explained()) - {mutant.key for mutant in found}
        wrong += [f"explained, but no such mutant: {' | '.join(map(str, key))}" for key in sorted(gone)]
        if share < LEAST:
            wrong.append(f"{share:.1%} are noticed, expected at least {LEAST:.0%}")
    print("\n".join(wrong) or f"{len(found)} mutants, {share:.1%} noticed, the rest explained")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
