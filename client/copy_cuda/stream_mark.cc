#include "client/copy_cuda/stream_mark.h"

#include <utility>

namespace holdfast::client {
namespace {

// Of a call, before it counts as refused for good; a device that has failed refuses every call.
constexpr int kTries = 3;

}  // namespace

StreamMark StreamMark::Put(cudaStream_t stream, std::int32_t device) {
  for (int tries = 0; tries < kTries; ++tries) {
    if (cudaSetDevice(device) != cudaSuccess) {
      continue;
    }
    auto event = MakeEvent();
    if (event.has_value() && cudaEventRecord(event.value().get(), stream) == cudaSuccess) {
      return {std::move(event).value(), stream, device};
    }
  }
  return {nullptr, stream, device};
}

cudaError_t StreamMark::Ask() const {
  return event_ != nullptr ? cudaEventQuery(event_.get()) : cudaStreamQuery(stream_);
}

// One that has failed for good takes no work.
bool StreamMark::DeviceWorks() const {
  if (cudaSetDevice(device_) != cudaSuccess) {
    return false;
  }
  const auto event = MakeEvent();
  return event.has_value() && cudaEventRecord(event.value().get(), stream_) == cudaSuccess;
}

cudaError_t StreamMark::Query() {
  cudaError_t code = Ask();
  if (code != cudaSuccess && code != cudaErrorNotReady) {
    // It may be of another device, which was current and has failed.
    static_cast<void>(cudaSetDevice(device_));
    code = Ask();
  }
  if (code == cudaSuccess || code == cudaErrorNotReady) {
    refusals_ = 0;
    return code;
  }
  if (++refusals_ < kTries) {
    return cudaErrorNotReady;
  }
  if (event_ == nullptr && !DeviceWorks()) {
    return code;
  }
  event_.reset();
  refusals_ = 0;
  return cudaErrorNotReady;
}

}  // namespace holdfast::client
