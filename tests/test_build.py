"""What CMake finds: CUDA compilers that work, fail or hang, none, and no C++ compiler. Nothing is built but trials."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pybind11
import pytest

from tests.cuda_emulation import check_sass

ROOT = Path(__file__).parent.parent
VARIABLES = ("CXX", "CUDACXX", "CUDAHOSTCXX", "CUDAARCHS", "CUDA_HOME", "CUDA_PATH")
REAL = check_sass.nvcc()
WORDS = r'x.h:3:2: error: #error -- "gcc" > 15; \ $HOME @x@ [a) ]] )pyhbt" `b` %d'

pytestmark = pytest.mark.skipif(shutil.which("cmake") is None, reason="no cmake on PATH")
with_nvcc = pytest.mark.skipif(REAL is None, reason="no nvcc on PATH, in CUDA_HOME or /usr/local/cuda")


def configure(
    folder: Path, *options: str, path: str | None = None, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run CMake as pip does; ``path`` goes before PATH."""
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    if path is not None:
        environment["PATH"] = os.pathsep.join((path, environment["PATH"]))
    ninja = ("-G", "Ninja") if shutil.which("ninja") else ()
    given = {
        "SKBUILD": "2",
        "SKBUILD_PROJECT_VERSION": "1.0",
        "Python_EXECUTABLE": sys.executable,
        "pybind11_DIR": pybind11.get_cmake_dir(),
        "PYHBT_THREADS": "std",
    }
    command = ["cmake", "-S", str(ROOT), "-B", str(folder), *ninja, *options]
    command += [f"-D{name}={value}" for name, value in given.items()]
    return subprocess.run(command, env=environment | variables, capture_output=True, text=True, check=False)


def state(done: subprocess.CompletedProcess[str]) -> str:
    """The line on the CUDA module of a configuration that went well."""
    assert done.returncode == 0, done.stdout + done.stderr
    return re.findall(r"^-- pyhbt: CUDA module: (.*)$", done.stdout, re.MULTILINE)[0]


def error(done: subprocess.CompletedProcess[str]) -> str:
    """The one error of a configuration, without CMake's line breaks."""
    assert done.returncode != 0
    (found,) = re.findall(r"CMake Error at .*?:\n(.*?)(?:Call Stack|\n\n\n)", done.stderr, re.DOTALL)
    return " ".join(found.split())


def program(folder: Path, script: str, name: str = "nvcc") -> str:
    """A program of that script; returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    made = folder / name
    made.write_text(f"#!/bin/sh\n{script}\n")
    made.chmod(0o755)
    return str(made)


def says(words: str) -> str:
    quoted = words.replace("'", "'\\''")
    return f"printf '%s\\n' '{quoted}' >&2; exit 1"


def test_off_searches_nothing(tmp_path: Path) -> None:
    program(tmp_path / "bin", f"touch {tmp_path}/called; exit 1")
    done = configure(tmp_path / "build", "-DPYHBT_CUDA=OFF", path=str(tmp_path / "bin"))
    assert state(done) == "not built (PYHBT_CUDA=OFF)"
    assert not (tmp_path / "called").exists()


def test_a_compiler_that_fails_is_left_out_and_its_words_are_kept(tmp_path: Path) -> None:
    nvcc = program(tmp_path / "bin", says(f"In file\n{WORDS}\nmore"))
    done = configure(tmp_path / "build", path=str(tmp_path / "bin"))
    assert state(done) == f"not built ({nvcc}: {WORDS})".replace('"', "'")
    source = tmp_path / "said.cpp"
    source.write_text(
        '#include "cuda_state.h"\n#include <cstdio>\nint main() { std::puts(PYHBT_CUDA_STATE); }\n'
    )
    include = f"-I{tmp_path}/build/generated"
    subprocess.run(["c++", "-std=c++17", include, str(source), "-o", str(tmp_path / "said")], check=True)
    printed = subprocess.run([str(tmp_path / "said")], capture_output=True, text=True, check=True).stdout
    assert printed == state(done) + "\n"


def test_on_fails_with_the_reason(tmp_path: Path) -> None:
    nvcc = program(tmp_path / "bin", says("nvcc fatal   : no licence"))
    done = configure(tmp_path / "build", "-DPYHBT_CUDA=ON", path=str(tmp_path / "bin"))
    assert error(done) == f"PYHBT_CUDA=ON: {nvcc}: nvcc fatal : no licence"


def test_a_compiler_that_says_nothing(tmp_path: Path) -> None:
    nvcc = program(tmp_path / "bin", "exit 3")
    done = configure(tmp_path / "build", path=str(tmp_path / "bin"))
    assert state(done) == f"not built ({nvcc}: ended with 3 and said nothing)"


def test_a_compiler_that_hangs_is_ended(tmp_path: Path) -> None:
    nvcc = program(tmp_path / "bin", f"sleep 600 &\necho $! >{tmp_path}/pid; wait")
    done = configure(tmp_path / "build", "-DPYHBT_CUDA_TIMEOUT=1", path=str(tmp_path / "bin"))
    assert state(done) == f"not built ({nvcc}: no end after 1 s, the limit that PYHBT_CUDA_TIMEOUT sets)"
    running = Path("/proc", (tmp_path / "pid").read_text().strip())
    end = time.monotonic() + 60
    while running.exists() and time.monotonic() < end:
        time.sleep(0.01)
    assert not running.exists()


@pytest.mark.parametrize(
    ("options", "variables", "first"),
    [
        ([], {}, "path"),
        ([], {"CUDA_HOME": "home"}, "home"),
        ([], {"CUDA_HOME": "home", "CUDACXX": "cudacxx/bin/nvcc -g"}, "cudacxx"),
        (["-DCMAKE_CUDA_COMPILER=given/bin/nvcc"], {"CUDACXX": "cudacxx/bin/nvcc"}, "given"),
    ],
)
def test_which_compiler_is_tried(
    options: list[str], variables: dict[str, str], first: str, tmp_path: Path
) -> None:
    """PATH goes before /usr/local/cuda, where one may lie here too."""
    for name in ("path", "home", "cudacxx", "given"):
        program(tmp_path / name / "bin", says(f"error: {name}"))
    done = configure(
        tmp_path / "build",
        *(option.replace("=", f"={tmp_path}/") for option in options),
        path=str(tmp_path / "path/bin"),
        **{name: f"{tmp_path}/{value}" for name, value in variables.items()},
    )
    assert state(done) == f"not built ({tmp_path}/{first}/bin/nvcc: error: {first})"


def test_no_compiler(tmp_path: Path) -> None:
    where = {"/usr/local/cuda/bin"} | {
        str(Path(found).parent) for found in (REAL, shutil.which("nvcc")) if found
    }
    ignored = f"-DCMAKE_IGNORE_PATH={';'.join(sorted(where))}"
    assert state(configure(tmp_path / "none", ignored)) == (
        "not built (no nvcc in CUDA_HOME, CUDA_PATH, PATH or /usr/local/cuda, and no CUDACXX)"
    )
    done = configure(tmp_path / "nowhere", CUDACXX=f"{tmp_path}/nvcc")
    assert state(done) == f"not built (the CUDA compiler {tmp_path}/nvcc is not a program that can be run)"


def test_options_that_are_none(tmp_path: Path) -> None:
    assert (
        error(configure(tmp_path, "-DPYHBT_CUDA=yes")) == "PYHBT_CUDA: found 'yes', expected AUTO, ON or OFF"
    )
    assert error(configure(tmp_path, "-DPYHBT_CUDA=AUTO", "-DPYHBT_CUDA_TIMEOUT=0")) == (
        "PYHBT_CUDA_TIMEOUT: found '0', expected a number of seconds from 1"
    )


@with_nvcc
@pytest.mark.slow
def test_a_compiler_that_works(tmp_path: Path) -> None:
    nvcc = program(tmp_path / "bin", f'exec {REAL} "$@"')
    done = configure(tmp_path / "build", "-DPYHBT_CUDA=ON", path=str(tmp_path / "bin"))
    assert re.fullmatch(r"CUDA \d+\.[\d.]+, sm 80 .+", state(done))
    (chosen,) = (tmp_path / "build/CMakeFiles").glob("*/CMakeCUDACompiler.cmake")
    assert f'set(CMAKE_CUDA_COMPILER "{nvcc}")' in chosen.read_text()


@with_nvcc
@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (says("nvcc error   : 'cicc' died"), "nvcc error : 'cicc' died"),
        ("sleep 600", "no end after 20 s, the limit that PYHBT_CUDA_TIMEOUT sets"),
    ],
    ids=["fails", "hangs"],
)
def test_a_compiler_that_fails_on_our_kernels_alone(script: str, reason: str, tmp_path: Path) -> None:
    nvcc = program(tmp_path / "bin", f'case "$*" in *contrastive.cu*) {script};; esac\nexec {REAL} "$@"')
    done = configure(tmp_path / "build", "-DPYHBT_CUDA_TIMEOUT=20", path=str(tmp_path / "bin"))
    assert state(done) == f"not built ({nvcc}: {reason})"


def test_no_cxx_compiler(tmp_path: Path) -> None:
    """One line, also where CXX names none that works; and the next try looks again."""
    for name in ("cmake", "ninja", "make"):
        if found := shutil.which(name):
            (tmp_path / "bin").mkdir(exist_ok=True)
            (tmp_path / "bin" / name).symlink_to(found)
    expected = "expected one for C++17 (g++, clang++; CXX names another)"
    done = configure(tmp_path / "build", PATH=str(tmp_path / "bin"))
    assert error(done) == f"C++ compiler: found none on PATH that works, {expected}"
    done = configure(tmp_path / "build", CXX=program(tmp_path, "exit 1", "g++"))
    assert (
        error(done)
        == f"C++ compiler: found CXX={tmp_path}/g++, which is not there or does not work, {expected}"
    )
    assert state(configure(tmp_path / "build", "-DPYHBT_CUDA=OFF")) == "not built (PYHBT_CUDA=OFF)"
