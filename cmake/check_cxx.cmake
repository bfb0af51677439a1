# One line where no C++ compiler works, before CMake's own long text.
include(CheckLanguage)
check_language(CXX)
if(NOT CMAKE_CXX_COMPILER)
  unset(CMAKE_CXX_COMPILER CACHE)  # look again next time
  if(DEFINED ENV{CXX})
    set(cxx_found "CXX=$ENV{CXX}, which is not there or does not work")
  else()
    set(cxx_found "none on PATH that works")
  endif()
  message(FATAL_ERROR "C++ compiler: found ${cxx_found}, expected one for C++17 (g++, clang++; CXX names another)")
endif()
