// The copy engine for tensors in host memory: threads that copy, digest and check.
//
// The image is cut into ranges of whole digest chunks that the threads take from one counter, so
// that a slow thread holds up no other.  A chunk is produced from its first byte to its last,
// whatever it holds (header, staged tensors, pieces of many tensors), so its digest is complete the
// moment it is copied and nothing is read twice.
//
// Threads:   see copy_engine.h; the class does its own locking.
// Ownership: owns its threads.
// Errors:    in the job's outcome.
// Lifecycle: see copy_engine.h.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "client/copy_engine.h"
#include "client/source_sample.h"
#include "client/start_thread.h"
#include "common/mutex.h"

namespace holdfast::client {

class HostCopyEngine final : public CopyEngine {
 public:
  // "threads" is at least 1; fewer where the system refuses one.  With none Adopt fails (kIoError).
  explicit HostCopyEngine(std::uint32_t threads, const ThreadStarter& start = StartThread);
  ~HostCopyEngine() override;

  [[nodiscard]] Status Adopt(std::shared_ptr<const CopyPlan> plan) override;
  [[nodiscard]] Status Prepare(std::shared_ptr<SlotMapping> slot, SlotReady ready) override;
  [[nodiscard]] Status Start(std::shared_ptr<CopyJob> job, JobDone done) override;
  [[nodiscard]] std::string Busy() const override;
  bool WaitFence(std::span<const DeviceStream> streams) override;
  void Stop() override;

 private:
  struct Running;

  // Its places were chosen behind the training: that takes a third of a millisecond.
  struct NextSample {
    std::shared_ptr<const CopyPlan> plan;
    double fraction;
    SourceSample sample;
  };

  struct Preparation {
    std::shared_ptr<SlotMapping> slot;
    SlotReady ready;
  };

  void Work();
  void CopyRanges(const std::shared_ptr<Running>& running);
  static void CopyOne(Running* running, std::uint64_t chunk);
  static void DoFrozen(Running* running, std::uint64_t chunk);
  static void CheckFrozen(Running* running);
  void Finish(const std::shared_ptr<Running>& running);
  [[nodiscard]] SourceSample SampleFor(const CopyJob& job);
  void ChooseNextSample(Running* running);

  mutable Mutex mutex_;
  CondVar work_;  // for the threads: something to do, or stopping
  CondVar idle_;  // for WaitFence and Stop
  std::shared_ptr<Running> running_ HF_GUARDED_BY(mutex_);
  std::optional<NextSample> next_sample_ HF_GUARDED_BY(mutex_);
  std::deque<Preparation> preparations_ HF_GUARDED_BY(mutex_);
  bool stopping_ HF_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;  // of the constructor and Stop
  std::optional<Error> no_threads_;   // of the constructor
};

// Makes one chunk of an image: copies what is lazy, digests what lies in the slot already.  For the
// engine and its tests.  "chunk" counts kChunkBytes from the start of the image.
[[nodiscard]] std::uint32_t CopyChunk(const CopyPlan& plan,
                                      std::span<const SourceView> sources,
                                      std::byte* slot,
                                      std::uint64_t chunk);

}  // namespace holdfast::client
