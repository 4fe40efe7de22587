// Where a stream was when it was asked, and whether it has passed that: memory that copies land in
// may be given back then, and no sooner (I7).
//
// An error of the runtime says nothing of the copies: they land all the same, unless the device has
// failed for good.  So no single error is believed, and where events cannot be had the whole stream
// is asked, which is later than the mark but never too early.  Refusals count as the device's end
// only where it takes no work either.
//
// Threads:   one at a time.
// Ownership: owns its event; the stream must live longer.
// Errors:    of a device that has failed for good, by Query.
#pragma once

#include <cstdint>
#include <utility>

#include <cuda_runtime_api.h>

#include "client/copy_cuda/runtime.h"

namespace holdfast::client {

class StreamMark {
 public:
  // "event" was recorded on "stream", a stream of "device".
  StreamMark(CudaEvent event, cudaStream_t stream, std::int32_t device)
      : event_(std::move(event)), stream_(stream), device_(device) {}

  // Behind all that was issued on "stream" so far, by an event if one can be recorded.  "device" is
  // current then.
  [[nodiscard]] static StreamMark Put(cudaStream_t stream, std::int32_t device);

  // Success: passed.  cudaErrorNotReady: ask again.  Else the device has failed for good: it
  // carries out nothing any more.  Does not block.
  [[nodiscard]] cudaError_t Query();

  // To be recorded again; nullptr where there is none.
  [[nodiscard]] CudaEvent TakeEvent() { return std::move(event_); }

 private:
  [[nodiscard]] cudaError_t Ask() const;
  [[nodiscard]] bool DeviceWorks() const;

  CudaEvent event_;  // nullptr: the stream is asked
  cudaStream_t stream_;
  std::int32_t device_;
  int refusals_ = 0;  // in a row
};

}  // namespace holdfast::client
