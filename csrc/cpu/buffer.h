// Work memory of the kernels, and the integer arithmetic of blocking.
#pragma once

#include <cassert>
#include <cstdint>
#include <memory>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace pyhbt::cpu {

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
inline int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }

// Uninitialised floats, aligned to a cache line. Large ones ask for huge pages: packed matrices are walked
// with long strides, which costs a TLB miss a row on small ones.
class FloatBuffer {
 public:
  FloatBuffer() = default;
  explicit FloatBuffer(int64_t size) {
    const size_t bytes = static_cast<size_t>(size > 0 ? size : 1) * sizeof(float);
    const std::align_val_t alignment{bytes < 2 * kHugePage ? size_t{64} : kHugePage};
    data_ = {static_cast<float*>(::operator new(bytes, alignment)), Free{alignment}};
    size_ = size;
#if defined(__linux__)
    if (bytes >= 2 * kHugePage) madvise(data_.get(), bytes / kHugePage * kHugePage, MADV_HUGEPAGE);
#endif
  }
  float* data() { return data_.get(); }
  const float* data() const { return data_.get(); }
  int64_t size() const { return size_; }

 private:
  static constexpr size_t kHugePage = size_t{2} << 20;
  struct Free {
    std::align_val_t alignment;
    void operator()(float* p) const { ::operator delete(p, alignment); }
  };
  std::unique_ptr<float, Free> data_{nullptr, Free{std::align_val_t{64}}};
  int64_t size_ = 0;
};

// The work memory of one call, handed out piece by piece. Fresh memory costs a page fault every 4 KiB, more
// than the arithmetic of a small batch, so the last workspace of up to kKeptFloats is kept for the next call.
class Workspace {
 public:
  explicit Workspace(int64_t floats);
  ~Workspace();
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;

  static int64_t rounded(int64_t floats) { return round_up(floats, 16); }
  float* take(int64_t floats) {
    float* piece = buffer_.data() + used_;
    used_ += rounded(floats);
    assert(used_ <= buffer_.size());
    return piece;
  }

 private:
  static constexpr int64_t kKeptFloats = int64_t{16} << 20;  // 64 MiB
  FloatBuffer buffer_;
  int64_t used_ = 0;
};

}  // namespace pyhbt::cpu
