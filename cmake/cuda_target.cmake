# How the kernels are compiled, for the module and for the trial before it (cuda_trial/CMakeLists.txt).

# Before enable_language(CUDA): CMake's own default is an architecture that the compiler may no longer know.
if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES AND NOT DEFINED ENV{CUDAARCHS})
  set(CMAKE_CUDA_ARCHITECTURES 80-real)
  set(default_architectures ON)
endif()

# After it: the version is known.
macro(pyhbt_choose_architectures)
  if(default_architectures AND CMAKE_CUDA_COMPILER_VERSION VERSION_GREATER_EQUAL 12.8)
    set(CMAKE_CUDA_ARCHITECTURES 80 86-real 89-real 90-real 100-real 120)  # 80 and 120: PTX for what lies between
  elseif(default_architectures)
    set(CMAKE_CUDA_ARCHITECTURES 80 86-real 89-real 90)
  endif()
endmacro()

function(pyhbt_cuda_target target)
  set_target_properties(${target} PROPERTIES CUDA_RUNTIME_LIBRARY Static CUDA_STANDARD 17 CUDA_STANDARD_REQUIRED ON
                        POSITION_INDEPENDENT_CODE ON CXX_VISIBILITY_PRESET hidden CUDA_VISIBILITY_PRESET hidden)
  target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:CUDA>:-Xptxas=--warn-on-spills>)
endfunction()
