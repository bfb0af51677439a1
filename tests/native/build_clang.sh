#!/bin/sh
# Builds the native tests with clang++, every warning an error: for this machine, where the default level runs, and, where
# the libraries of g++-aarch64-linux-gnu are, for 64-bit ARM. usage: tests/native/build_clang.sh [BUILD_DIR]   (minutes: about 2)
set -eu
source_dir=$(cd "$(dirname "$0")/../.." && pwd)
build_dir=${1:-"$source_dir/build/native-clang"}

build() { # name options of CMake
  name=$1
  shift
  echo "== clang, $name"
  cmake -S "$source_dir" -B "$build_dir/$name" -DCMAKE_CXX_COMPILER=clang++ -DCMAKE_BUILD_TYPE=Release -DPYHBT_WERROR=ON \
    -DPYHBT_NATIVE_TESTS=ON -DPYHBT_CUDA=OFF -DPYHBT_THREADS=std "$@" >"$build_dir/$name.log"
  cmake --build "$build_dir/$name" -j 2 --target pyhbt_native_tests >>"$build_dir/$name.log" || {
    cat "$build_dir/$name.log"
    return 1
  }
}

mkdir -p "$build_dir"
build host
"$build_dir/host/pyhbt_native_tests"
if command -v aarch64-linux-gnu-g++ >/dev/null; then
  build arm -DCMAKE_TOOLCHAIN_FILE="$source_dir/cmake/aarch64-linux-gnu.cmake"
else
  echo "not built for ARM: no aarch64-linux-gnu-g++ on PATH, whose libraries it takes"
fi
