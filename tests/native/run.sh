#!/bin/sh
# Builds and runs the native tests under AddressSanitizer + UndefinedBehaviorSanitizer and under ThreadSanitizer, on
# every instruction set that this processor runs. usage: tests/native/run.sh [BUILD_DIR]   (minutes: about 2)
# ThreadSanitizer cannot follow libgomp, so its build takes threads from std::thread (csrc/parallel.h).
set -eu
source_dir=$(cd "$(dirname "$0")/../.." && pwd)
build_dir=${1:-"$source_dir/build/native"}

variant() { # name sanitizers threads
  echo "== $1"
  cmake -S "$source_dir" -B "$build_dir/$1" -DCMAKE_BUILD_TYPE=RelWithDebInfo -DPYHBT_NATIVE_TESTS=ON \
    -DPYHBT_WERROR=ON -DPYHBT_CUDA=OFF -DPYHBT_SANITIZE="$2" -DPYHBT_THREADS="$3" >"$build_dir/$1.log"
  cmake --build "$build_dir/$1" -j 2 --target pyhbt_native_tests >>"$build_dir/$1.log" || {
    cat "$build_dir/$1.log"
    return 1
  }
  for level in $("$build_dir/$1/pyhbt_native_tests" --levels); do
    PYHBT_SIMD=$level "$build_dir/$1/pyhbt_native_tests"
  done
}

mkdir -p "$build_dir"
variant address address,undefined omp
variant thread thread std
