// How bindings launch: where a kernel runs, and what may be wrong with a launch.
#pragma once

#include <pybind11/pybind11.h>

#include <stdexcept>
#include <string>

#include "../border.h"
#include "language.h"

namespace pyhbt::cuda {

// The device and the stream of a launch.
struct Where {
  int device;
  cudaStream_t stream;
};

inline const border::Members<Where>& where_members() {
  static const border::Members<Where> members =
      border::Members<Where>("Where").value("device", &Where::device).address("stream", &Where::stream);
  return members;
}

#if defined(PYHBT_CUDA_EMULATED)

inline void check_current(int) {}
inline void check_launch(const char*) {}

#else

inline void check(cudaError_t error, const char* what) {
  if (error != cudaSuccess)
    throw std::runtime_error(std::string(what) + ": " + cudaGetErrorName(error) + ", " +
                             cudaGetErrorString(error));
}

// The device must be current: whoever calls makes it so, and knows how to go back. Since CUDA 12 cudaSetDevice makes
// the primary context of its device (Runtime API, "Device Management"), so that going back from here to a device
// without one would take some hundred MB of it; torch's guard asks first. cudaGetDevice makes none.
inline void check_current(int device) {
  int current = 0;
  check(cudaGetDevice(&current), "cudaGetDevice");
  if (current != device)
    throw std::runtime_error("device: found cuda:" + std::to_string(current) +
                             " current, expected cuda:" + std::to_string(device));
}

inline void check_launch(const char* kernel) { check(cudaGetLastError(), kernel); }

#endif

template <typename Launch>
void launch(const pybind11::dict& given, const char* kernel, const Launch& run) {
  const Where where = where_members().read(given);
  const pybind11::gil_scoped_release release;
  check_current(where.device);
  run(where.stream);
  check_launch(kernel);
}

inline void check_positive(const char* name, int64_t value) {
  if (value < 1)
    throw std::invalid_argument(std::string(name) + ": found " + std::to_string(value) +
                                ", expected at least 1");
}

// The kernels of the loss, and the structs that they take.
void bind_loss(pybind11::module_& m);

}  // namespace pyhbt::cuda
