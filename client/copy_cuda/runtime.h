// The CUDA runtime as this library uses it: errors as Status, and owners for what it hands out.
//
// Threads:   the current device and the last error belong to a thread; whatever is created here is
//            created on the device that is current then, and may be used by any thread.
// Ownership: the owners below free what they hold, on whatever device is current; a device that has
//            failed for good refuses that too, which nobody can help.
// Errors:    kNoSpace for memory, kUnavailable without driver or device, else kIoError with the
//            call's name.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

#include <cuda_runtime_api.h>

#include "common/result.h"
#include "common/units.h"

namespace holdfast::client {

// Ok, or what the runtime said of "call".
[[nodiscard]] Status CudaStatus(cudaError_t code, const char* call);

// Whether this process can copy from GPUs, and why not: kUnavailable with a text for the user ("the
// driver is older than CUDA 13.0").  Loads the driver at the first call.
[[nodiscard]] Status CudaUsable();

// "13.0", of the runtime that this library was built with.
[[nodiscard]] std::string CudaVersion();

// While it lives, no call of this thread breaks the CUDA graph that the training captures, on this
// thread or another: what is slow is forbidden in a capture by default.
class BesideCaptures {
 public:
  BesideCaptures();
  ~BesideCaptures();
  BesideCaptures(const BesideCaptures&) = delete;
  BesideCaptures& operator=(const BesideCaptures&) = delete;

 private:
  cudaStreamCaptureMode mode_ = cudaStreamCaptureModeRelaxed;
  bool exchanged_ = false;
};

// For functions that run on the trainer's own thread: gives it back its current device and its
// capture mode, and leaves no error of ours behind.  Where the training's own error waited already,
// the last error stays set; a call of ours that fails meanwhile replaces its code.
class TrainerThread {
 public:
  TrainerThread();
  ~TrainerThread();
  TrainerThread(const TrainerThread&) = delete;
  TrainerThread& operator=(const TrainerThread&) = delete;

 private:
  const BesideCaptures beside_captures_;
  int device_ = -1;
  bool had_error_ = false;
};

template <auto Destroy>
struct CudaDelete {
  template <class Handle>
  void operator()(Handle handle) const {
    Destroy(handle);
  }
};

using CudaStream =
    std::unique_ptr<std::remove_pointer_t<cudaStream_t>, CudaDelete<&cudaStreamDestroy>>;
using CudaEvent =
    std::unique_ptr<std::remove_pointer_t<cudaEvent_t>, CudaDelete<&cudaEventDestroy>>;
using DeviceMemory = std::unique_ptr<std::byte, CudaDelete<&cudaFree>>;
using PinnedMemory = std::unique_ptr<std::byte, CudaDelete<&cudaFreeHost>>;

// Does not wait for the legacy default stream, and that not for it.
[[nodiscard]] Result<CudaStream> MakeStream();
[[nodiscard]] Result<CudaEvent> MakeEvent(unsigned flags = cudaEventDisableTiming);
// nullptr for 0 bytes.
[[nodiscard]] Result<DeviceMemory> MakeDeviceMemory(ByteCount bytes);
[[nodiscard]] Result<PinnedMemory> MakePinnedMemory(ByteCount bytes);

// One copy of a batch.
struct CudaCopies {
  std::vector<void*> to;
  std::vector<const void*> from;
  std::vector<std::size_t> bytes;

  void Clear();
  void Add(void* target, const void* source, std::size_t size);

  [[nodiscard]] std::size_t Count() const { return bytes.size(); }
};

// Issues all copies of "kind" on "stream", which is none of the default ones, by one call where
// driver and runtime can (a loop takes the driver's lock once for each copy, beside the training's
// own launches).  Among themselves they have no order.
class BatchCopier {
 public:
  // "pinned": the host side is registered; the batch call takes no other.
  [[nodiscard]] Status Issue(const CudaCopies& copies,
                             cudaMemcpyKind kind,
                             cudaStream_t stream,
                             bool pinned);

 private:
  bool batch_works_ = true;
};

}  // namespace holdfast::client
