// A restore's way into GPU memory: pinned buffers, filled and checked by the host's threads, sent
// by the device's own copies, so that both work at the same time.
//
// Threads:   see load_sink.h; made and destroyed on the trainer's thread, which keeps its current
//            device and finds no error of ours.
// Ownership: owns buffers, streams and events.
// Errors:    of the CUDA runtime; the first one is kept and answers every later call.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "client/copy_cuda/pinned_pages.h"
#include "client/copy_cuda/runtime.h"
#include "client/load_sink.h"
#include "common/mutex.h"

namespace holdfast::client {

class DeviceSink final : public LoadSink {
 public:
  // For "threads" threads; buffers that cannot be pinned make it slower (Note()), and no error.
  // All buffers are one piece of memory: while one of them is pinned no copy moves, so that to make
  // them one by one beside the first copies takes longer.
  [[nodiscard]] static Result<std::unique_ptr<LoadSink>> Make(std::uint32_t threads);

  ~DeviceSink() override;

  [[nodiscard]] Result<MutableByteView> Borrow() override;
  [[nodiscard]] Status Send(MutableByteView room, std::span<const Part> parts) override;
  [[nodiscard]] Status Duplicate(std::byte* to,
                                 std::int32_t device,
                                 const std::byte* from,
                                 ByteCount bytes) override;
  [[nodiscard]] Status Finish() override;
  [[nodiscard]] std::string Note() const override;

 private:
  // A room on its way: free again when the event has happened.
  struct Sent {
    MutableByteView room;
    cudaEvent_t event;
  };

  DeviceSink(std::unique_ptr<const TrainerThread> guard, PinnedPages memory)
      : trainer_thread_(std::move(guard)), memory_(std::move(memory)) {}

  [[nodiscard]] Status SendParts(MutableByteView room, std::span<const Part> parts)
      HF_REQUIRES(mutex_);
  [[nodiscard]] Result<cudaStream_t> StreamFor(std::int32_t device) HF_REQUIRES(mutex_);

  // Of Make, and the last one to be destroyed: one inside another would leave the thread as the
  // inner one found it.
  const std::unique_ptr<const TrainerThread> trainer_thread_;
  const PinnedPages memory_;
  Mutex mutex_;
  CondVar changed_;
  std::vector<MutableByteView> free_ HF_GUARDED_BY(mutex_);
  std::deque<Sent> sent_ HF_GUARDED_BY(mutex_);
  std::map<std::int32_t, CudaStream> streams_ HF_GUARDED_BY(mutex_);
  std::map<std::byte*, std::map<std::int32_t, CudaEvent>> events_ HF_GUARDED_BY(mutex_);
  std::optional<Error> failure_ HF_GUARDED_BY(mutex_);
};

}  // namespace holdfast::client
