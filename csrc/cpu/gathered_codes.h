// Codes of passages that lie apart, copied side by side.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "../codes.h"

namespace pyhbt::cpu {

class GatheredCodes {
 public:
  GatheredCodes() = default;
  GatheredCodes(const GatheredCodes&) = delete;  // the view points into the object
  GatheredCodes& operator=(const GatheredCodes&) = delete;
  GatheredCodes(GatheredCodes&&) = default;
  GatheredCodes& operator=(GatheredCodes&&) = default;

  // Room for so many passages of a corpus.
  void resize(const CorpusCodes& all, int64_t dim, int64_t count) {
    stride_ = code_stride(dim);
    codes_.resize(static_cast<size_t>(count * stride_));
    for (std::vector<float>* values : {&inverse_scale_, &along_, &code_norm_, &residual_norm_})
      values->resize(static_cast<size_t>(count));
    code_sum_.resize(static_cast<size_t>(count));
    view_ = all;
    view_.codes = codes_.data();
    view_.inverse_scale = inverse_scale_.data();
    view_.along = along_.data();
    view_.code_norm = code_norm_.data();
    view_.residual_norm = residual_norm_.data();
    view_.code_sum = code_sum_.data();
    view_.norm = nullptr;  // what is scored exactly is found in the corpus
  }

  // Places may be filled by several threads.
  void set(int64_t place, const CorpusCodes& all, int64_t passage) {
    const size_t at = static_cast<size_t>(place);
    std::copy_n(all.codes + passage * stride_, stride_, codes_.data() + place * stride_);
    inverse_scale_[at] = all.inverse_scale[passage];
    along_[at] = all.along[passage];
    code_norm_[at] = all.code_norm[passage];
    residual_norm_[at] = all.residual_norm[passage];
    code_sum_[at] = all.code_sum[passage];
  }

  const CorpusCodes& view() const { return view_; }

 private:
  CorpusCodes view_{};
  int64_t stride_ = 0;
  std::vector<int8_t> codes_;
  std::vector<float> inverse_scale_, along_, code_norm_, residual_norm_;
  std::vector<int32_t> code_sum_;
};

}  // namespace pyhbt::cpu
