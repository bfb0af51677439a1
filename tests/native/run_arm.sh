#!/bin/sh
# Cross-compiles the native tests for 64-bit ARM and runs them under qemu-user: every instruction set, and what is chosen
# on processors that lack some of them. usage: tests/native/run_arm.sh [BUILD_DIR]   (minutes: about 3)
# Needs g++-aarch64-linux-gnu and qemu-user. CXX=clang++ compiles by Clang, with threads from std::thread.
set -eu
source_dir=$(cd "$(dirname "$0")/../.." && pwd)
build_dir=${1:-"$source_dir/build/native-arm"}
compiler=${CXX:-aarch64-linux-gnu-g++}
threads=omp
case $compiler in *clang*) threads=std ;; esac # Clang's OpenMP for ARM is not where its compiler is

mkdir -p "$build_dir"
echo "== $compiler"
cmake -S "$source_dir" -B "$build_dir" -DCMAKE_TOOLCHAIN_FILE="$source_dir/cmake/aarch64-linux-gnu.cmake" \
  -DCMAKE_CXX_COMPILER="$compiler" -DCMAKE_BUILD_TYPE=Release -DPYHBT_NATIVE_TESTS=ON -DPYHBT_WERROR=ON \
  -DPYHBT_CUDA=OFF -DPYHBT_THREADS=$threads >"$build_dir/build.log"
cmake --build "$build_dir" -j 2 --target pyhbt_native_tests >>"$build_dir/build.log" || {
  cat "$build_dir/build.log"
  exit 1
}

on() { # processor arguments: the tests on it
  processor=$1
  shift
  qemu-aarch64 -L /usr/aarch64-linux-gnu -cpu "$processor" "$build_dir/pyhbt_native_tests" "$@"
}

for pair in cortex-a53:neon cortex-a72:neon cortex-a76:dotprod max:i8mm; do
  chosen=$(on "${pair%:*}" --chosen)
  echo "${pair%:*} runs $chosen"
  [ "$chosen" = "${pair#*:}" ] || { echo "FAILED: expected ${pair#*:}" && exit 1; }
done
if PYHBT_SIMD=i8mm on cortex-a53 --chosen 2>"$build_dir/refusal.log"; then
  echo "FAILED: i8mm on a processor without it" && exit 1
fi
grep -q "expected a level that this processor runs" "$build_dir/refusal.log"
for level in $(on max --levels); do
  PYHBT_SIMD=$level on max
done
