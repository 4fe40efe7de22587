#include "client/source_view.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "common/check.h"

namespace holdfast::client {
namespace {

Error StrideError(std::size_t dimension, std::int64_t stride) {
  return Error(Errc::kInvalidArgument,
               "stride " + std::to_string(stride) + " of dimension " + std::to_string(dimension) +
                   " is negative or leaves the address space");
}

}  // namespace

SourceView SourceView::Contiguous(const void* base, ByteCount bytes) {
  SourceView view;
  view.base_ = static_cast<const std::byte*>(base);
  view.bytes_ = bytes;
  view.run_bytes_ = bytes;
  return view;
}

Result<SourceView> SourceView::Strided(const void* base,
                                       std::span<const std::uint64_t> shape,
                                       std::span<const std::int64_t> strides,
                                       ByteCount element_bytes) {
  if (shape.size() != strides.size()) {
    return Error(Errc::kInvalidArgument,
                 std::to_string(strides.size()) + " strides for " + std::to_string(shape.size()) +
                     " dimensions");
  }
  SourceView view = Contiguous(base, element_bytes);
  std::uint64_t extent = element_bytes;  // from the first byte behind the last one that is read
  // From the innermost dimension out: what continues the run joins it, the rest is the loop nest.
  for (std::size_t i = shape.size(); i-- > 0;) {
    const std::uint64_t count = shape[i];
    if (count == 0) {
      return Contiguous(nullptr, 0);
    }
    if (count == 1) {
      continue;
    }
    if (strides[i] < 0) {
      return StrideError(i, strides[i]);
    }
    const auto stride = static_cast<std::uint64_t>(strides[i]);
    ByteCount step = 0;
    ByteCount reach = 0;
    if (__builtin_mul_overflow(stride, element_bytes, &step) ||
        __builtin_mul_overflow(step, count - 1, &reach) ||
        __builtin_add_overflow(extent, reach, &extent) || extent > INT64_MAX ||
        __builtin_mul_overflow(view.bytes_, count, &view.bytes_)) {
      return StrideError(i, strides[i]);
    }
    if (view.outer_.empty() && step == view.run_bytes_) {
      view.run_bytes_ *= count;
    } else if (!view.outer_.empty() &&
               step == view.outer_.front().step * view.outer_.front().count) {
      view.outer_.front().count *= count;
    } else {
      view.outer_.insert(view.outer_.begin(), Dimension{count, step});
    }
  }
  return view;
}

const std::byte* SourceView::RunAddress(std::uint64_t run) const {
  ByteCount offset = 0;
  for (std::size_t i = outer_.size(); i-- > 0;) {
    offset += (run % outer_[i].count) * outer_[i].step;
    run /= outer_[i].count;
  }
  return base_ + offset;
}

ByteView SourceView::RunAt(ByteCount offset) const {
  HOLDFAST_CHECK(offset < bytes_);
  if (outer_.empty()) {
    return {base_ + offset, static_cast<std::size_t>(bytes_ - offset)};
  }
  const ByteCount inside = offset % run_bytes_;
  return {RunAddress(offset / run_bytes_) + inside, static_cast<std::size_t>(run_bytes_ - inside)};
}

void SourceView::Gather(ByteCount offset, MutableByteView to) const {
  HOLDFAST_CHECK(to.size() <= bytes_ && offset <= bytes_ - to.size());
  if (to.empty()) {
    return;
  }
  if (outer_.empty()) {
    std::memcpy(to.data(), base_ + offset, to.size());
    return;
  }
  // The innermost loop moves by one step; the address is computed anew only when it wraps.
  const Dimension inner = outer_.back();
  std::uint64_t run = offset / run_bytes_;
  ByteCount inside = offset % run_bytes_;
  while (!to.empty()) {
    const std::byte* from = RunAddress(run);
    std::uint64_t left = inner.count - run % inner.count;
    for (; left > 0 && !to.empty(); --left, ++run, from += inner.step) {
      const std::size_t bytes = std::min<std::size_t>(to.size(), run_bytes_ - inside);
      std::memcpy(to.data(), from + inside, bytes);
      to = to.subspan(bytes);
      inside = 0;
    }
  }
}

}  // namespace holdfast::client
