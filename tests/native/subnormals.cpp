// Search, ranks and encoding of subnormal numbers on a thread that flushes them to zero, as after
// torch.set_flush_denormal(True): the results of one that does not, and the thread's setting is left as it was.
#include "cpu/subnormals.h"

#include <cstring>

#include "checks.h"
#include "codes.h"
#include "search.h"

namespace {

constexpr int64_t kQueries = 7, kPassages = 300, kDim = 19, kBest = 5;

template <typename T>
void append(std::vector<uint8_t>& bytes, const std::vector<T>& values) {
  const auto* first = reinterpret_cast<const uint8_t*>(values.data());
  bytes.insert(bytes.end(), first, first + values.size() * sizeof(T));
}

// Everything that the calls say, as bytes: comparisons of numbers would be flushed as well.
std::vector<uint8_t> results(const std::vector<float>& queries, const std::vector<float>& passages,
                             bool by_codes, int threads) {
  const size_t n = kPassages, stride = static_cast<size_t>(pyhbt::code_stride(kDim));
  std::vector<int8_t> codes(n * stride);
  std::vector<float> inverse_scale(n), along(n), code_norm(n), residual_norm(n);
  std::vector<int32_t> code_sum(n);
  std::vector<double> norm(n);
  const std::vector<float> centre(passages.begin(), passages.begin() + kDim), direction(kDim, 0.25f);
  const pyhbt::Embeddings corpus{passages.data(), pyhbt::DType::kFloat32, kPassages, kDim, kDim};
  pyhbt::encode(corpus, false, centre.data(), direction.data(),
                {codes.data(), inverse_scale.data(), along.data(), code_norm.data(), residual_norm.data(),
                 code_sum.data(), norm.data(), nullptr, nullptr},
                0, threads);
  pyhbt::SearchArguments a{};
  a.queries = {queries.data(), pyhbt::DType::kFloat32, kQueries, kDim, kDim};
  a.corpus = corpus;
  if (by_codes)
    a.codes = pyhbt::CorpusCodes{
        codes.data(),    inverse_scale.data(), along.data(),  code_norm.data(), residual_norm.data(),
        code_sum.data(), norm.data(),          centre.data(), direction.data(), nullptr,
        nullptr};
  a.screening = by_codes ? pyhbt::Screening::kCodes : pyhbt::Screening::kFloats;
  a.threads = threads;
  std::vector<float> scores(kQueries * kBest);
  std::vector<double> exact(scores.size());
  std::vector<int64_t> indices(scores.size()), targets = integers(kQueries, 0, kPassages - 1, 3),
                                               places(targets.size());
  pyhbt::search(a, kBest, scores.data(), indices.data(), exact.data());
  pyhbt::ranks(a, targets.data(), 1, places.data());
  std::vector<uint8_t> bytes;
  append(bytes, scores);
  append(bytes, exact);
  append(bytes, indices);
  append(bytes, places);
  append(bytes, codes);
  append(bytes, code_norm);
  append(bytes, residual_norm);
  append(bytes, norm);
  return bytes;
}

}  // namespace

void check_subnormals() {
  using pyhbt::cpu::kFlushSubnormals;
  if (kFlushSubnormals == 0) return;  // no such switch is known here
  std::vector<float> passages = normal(kPassages * kDim, 1);
  for (float& x : passages) x *= 1e-40f;
  for (const float factor : {1.0f, 1e20f}) {
    std::vector<float> queries = normal(kQueries * kDim, 2);
    for (float& x : queries) x *= factor;
    for (const bool by_codes : {false, true}) {
      for (const int threads : {1, 3}) {
        const std::vector<uint8_t> kept = results(queries, passages, by_codes, threads);
        const uint64_t before = pyhbt::cpu::float_control();
        pyhbt::cpu::set_float_control(before | kFlushSubnormals);
        const uint64_t flushing = pyhbt::cpu::float_control();
        volatile float tiny = 1e-40f;
        tiny = tiny * 0.5f;
        const std::vector<uint8_t> flushed = results(queries, passages, by_codes, threads);
        const uint64_t after = pyhbt::cpu::float_control();
        pyhbt::cpu::set_float_control(before);
        expect(flushing != before && tiny == 0.0f, "this thread flushes subnormal numbers");
        expect(after == flushing, "the setting of subnormal numbers is left as it was");
        expect(flushed == kept, "results where subnormal numbers are flushed");
      }
    }
  }
}
