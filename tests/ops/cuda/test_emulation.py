"""The CUDA kernels on the emulator: in many orders of threads, under sanitizers, and with mistakes sown into them.

tests/cuda_emulation/README.md says what this shows and what it cannot.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.cuda_emulation import build, mutations
from tests.cuda_emulation.mistakes import MISTAKES, Mistake
from tests.cuda_emulation.mutants import all_mutants

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(build.compiler() is None, reason="no C++ compiler on PATH"),
]

# What must notice each case of misuse.cpp: the emulator itself, a wrong result, or a sanitizer.
MISUSES = {
    "barrier_in_one_branch": ("none", "wait in __syncthreads of lines"),
    "barrier_after_some_return": ("none", "after 1 threads of the block had returned"),
    "lane_missing_from_a_shuffle": ("none", "deadlock"),
    "lane_not_in_its_mask": ("none", "is not in its own mask"),
    "reads_a_lane_outside_the_mask": ("none", "which takes no part"),
    "shuffles_in_a_width_that_is_no_power_of_two": ("none", "expected a power of two"),
    "reads_shared_memory_never_written": ("none", "nobody wrote"),
    "writes_beyond_a_shared_array": ("address", "heap-buffer-overflow"),
    "warp_reads_what_another_lane_wrote": ("thread", "data race"),
    "flag_without_fence": ("thread", "data race"),
    "blocks_write_the_same": ("thread", "data race"),
    "blocks_write_the_same_after_barriers": ("thread", "data race"),
    "fence_before_the_write": ("thread", "data race"),
    "fence_after_the_ticket": ("thread", "data race"),
    "read_before_the_fence": ("thread", "data race"),
    "block_wide_fence_before_the_ticket": ("thread", "data race"),
    "block_wide_fence_before_the_read": ("thread", "data race"),
    "fences_of_a_block": ("thread", "data race"),
    "atomics_of_two_addresses": ("thread", "data race"),
    "one_thread_fences_before_a_barrier": ("thread", "data race"),
    "plain_store_beside_atomics": ("thread", "data race"),
    "third_reads_past_an_atomic_without_fence": ("thread", "data race"),
}


def run(program: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(program), *arguments],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


class Built:
    """Object files and the native tests made of them, by sanitizer, compiled when first asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def object(self, name: str, sanitizer: str) -> Path:
        target = self.folder / sanitizer / f"{name}.o"
        source = (build.SOURCES / "cuda" if name in build.KERNELS else build.HERE) / name
        return target if target.exists() else build.compiled(source, target, sanitizer)

    def objects(self, sanitizer: str, without: str = "") -> list[Path]:
        names = (*build.KERNELS, *build.CHECKS)
        return [self.object(name, sanitizer) for name in names if name != without]

    def program(self, sanitizer: str) -> Path:
        target = self.folder / sanitizer / "program"
        return target if target.exists() else build.linked(self.objects(sanitizer), target, sanitizer)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return Built(tmp_path_factory.mktemp("emulation"))


@pytest.mark.parametrize("order", ["forward", "reverse", "random"])
def test_orders_of_threads(order: str, built: Built) -> None:
    for seed in "12345" if order == "random" else "0":
        done = run(built.program("none"), EMULATOR_ORDER=order, EMULATOR_SEED=seed)
        assert done.returncode == 0, f"seed {seed}\n{done.stdout}{done.stderr}"


@pytest.mark.parametrize("sanitizer", ["address", "thread"])
def test_sanitizers_find_nothing(sanitizer: str, built: Built) -> None:
    done = run(built.program(sanitizer))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name.replace(" ", "_"))
def test_a_sown_mistake_is_found(mistake: Mistake, built: Built, tmp_path: Path) -> None:
    text = (build.SOURCES / "cuda" / mistake.file).read_text(encoding="utf-8")
    assert text.count(mistake.old) == 1, "the kernel has changed: sow the mistake elsewhere"
    shutil.copytree(build.SOURCES, tmp_path / "csrc")
    file = tmp_path / "csrc" / "cuda" / mistake.file
    file.write_text(text.replace(mistake.old, mistake.new), encoding="utf-8")
    objects = built.objects(mistake.sanitizer, without=mistake.file)
    objects.append(build.compiled(file, tmp_path / "mistaken.o", mistake.sanitizer))
    program = build.linked(objects, tmp_path / "program", mistake.sanitizer)
    seeds = "12345" if mistake.sanitizer == "none" else "1"
    assert any(run(program, mistake.scenario, EMULATOR_SEED=seed).returncode for seed in seeds)


@pytest.mark.parametrize("case", MISUSES)
def test_the_emulator_notices_misuse(case: str, tmp_path: Path) -> None:
    sanitizer, report = MISUSES[case]
    for wrong in (False, True):
        more = ["-DWRONG"] if wrong else []
        made = build.compiled(build.HERE / "misuse.cpp", tmp_path / f"{wrong}.o", sanitizer, *more)
        done = run(build.linked([made], tmp_path / f"misuse-{wrong}", sanitizer), case)
        if wrong:
            assert done.returncode != 0
            assert report in done.stdout + done.stderr
        else:
            assert done.returncode == 0, done.stdout + done.stderr


def test_a_sample_of_mutants_is_noticed() -> None:
    """Those that are explained are left out: nothing would end their checks early."""
    reasons = mutations.explained()
    mutants = [mutant for mutant in all_mutants() if mutant.key not in reasons]
    sample = random.Random(1).sample(mutants, 25)
    assert mutations.faults(dict(mutations.noticed(sample)), reasons) == []


def test_every_explanation_is_of_a_mutant() -> None:
    reasons = mutations.explained()
    assert set(reasons) <= {mutant.key for mutant in all_mutants()}
    assert all(len(reason) > 20 for reason in reasons.values())
