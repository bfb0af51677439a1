// The workspace that is kept between calls.
#include "buffer.h"

#include <mutex>
#include <utility>

namespace pyhbt::cpu {
namespace {

std::mutex kept_mutex;

FloatBuffer& kept() {
  static FloatBuffer* buffer = new FloatBuffer;  // never destroyed: calls may outlive static objects
  return *buffer;
}

}  // namespace

Workspace::Workspace(int64_t floats) {
  {
    const std::lock_guard<std::mutex> lock(kept_mutex);
    buffer_ = std::exchange(kept(), FloatBuffer());
  }
  if (buffer_.size() < floats) {
    buffer_ = FloatBuffer();  // free the old one first
    buffer_ = FloatBuffer(floats);
  }
}

Workspace::~Workspace() {
  if (buffer_.size() > kKeptFloats) return;
  const std::lock_guard<std::mutex> lock(kept_mutex);
  if (kept().size() < buffer_.size()) std::swap(kept(), buffer_);
}

}  // namespace pyhbt::cpu
