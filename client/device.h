// Where a tensor lies, and on which of its device's queues the trainer works.
//
// Nothing here knows CUDA: a device is a number, a stream an opaque handle of the runtime that the
// trainer uses.  Only the engine for that runtime looks into it.
//
// Threads:   values.
#pragma once

#include <cstdint>
#include <span>

namespace holdfast::client {

// The device number of host memory.
inline constexpr std::int32_t kHostDevice = -1;

// A stream on which the trainer writes its state: snapshots are ordered after its work so far, and
// the fence holds back its work to come.
struct DeviceStream {
  std::int32_t device = 0;
  void* stream = nullptr;  // cudaStream_t; nullptr: the default stream
};

}  // namespace holdfast::client
