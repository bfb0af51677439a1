// What the files of the native tests share.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

inline void expect(bool condition, const std::string& what) {
  if (condition) return;
  std::fprintf(stderr, "FAILED: %s\n", what.c_str());
  std::exit(1);
}

inline std::vector<float> normal(int64_t size, unsigned seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> distribution;
  std::vector<float> values(static_cast<size_t>(size));
  for (float& value : values) value = distribution(generator);
  return values;
}

inline std::vector<int64_t> integers(int64_t size, int64_t low, int64_t high, unsigned seed) {
  std::mt19937 generator(seed);
  std::uniform_int_distribution<int64_t> distribution(low, high);
  std::vector<int64_t> values(static_cast<size_t>(size));
  for (int64_t& value : values) value = distribution(generator);
  return values;
}

void check_products();    // products.cpp
void check_subnormals();  // subnormals.cpp
