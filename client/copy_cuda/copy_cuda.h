// The copy engine for tensors in GPU memory (and for those beside them in host memory).
//
//   training thread   Start: gather, sample, event on its stream     WaitFence: its streams wait
//   copy thread       issues the copies, follows what lands: lane.h
//   worker threads    host tensors; digests behind what has landed; the torn-copy check; pinning
//
// A snapshot's fence opens when all reads of its sources are issued; its bytes land, and are
// digested, behind the next iteration.  Several snapshots may be landing; one at a time waits for
// its fence.
//
// Torn copies (I7): 64 bytes of every 4 MiB of every tensor are read on the device when the
// snapshot begins and again after the last copy, and both must be what landed; with "verify" the
// whole state is digested on the device when the snapshot begins, and what landed must match.
//
// Threads:   see copy_engine.h; the class does its own locking.  The training thread is never made
//            to wait for a device, but in the first fence of a layout with frozen tensors and in
//            Adopt; at the fence it may wait until the reads are issued.
// Ownership: owns its threads, streams, events and device memory; nothing of it is in use after
//            Stop.
// Errors:    in the job's outcome.  An error of the training itself that waits in the runtime stays
//            set; one of ours meanwhile replaces its code (TrainerThread).
// Lifecycle: see copy_engine.h.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "client/copy_cuda/frozen_flight.h"
#include "client/copy_cuda/lane.h"
#include "client/copy_engine.h"
#include "client/start_thread.h"
#include "common/mutex.h"

namespace holdfast::client {

struct CudaCopyOptions {
  std::uint32_t threads = 1;       // workers
  std::uint32_t verify_every = 0;  // digest every so many snapshots on the device; 0: none
  // Of the device's free memory, for a fence that comes before the copies are done; 0: none.
  double staging_share = 0.5;
  std::chrono::nanoseconds staging_worth = kWorthStaging;
  ByteCount most_gathered = 64 * kMiB;
  ByteCount window_bytes = 64 * kMiB;
  ThreadStarter start_thread = StartThread;
};

class CudaCopyEngine final : public CopyEngine {
 public:
  // Snapshots on their way at a time: one that is copied, one that lands, one that is digested.
  static constexpr std::size_t kMostUnderWay = 3;

  // With fewer workers where the system refuses one.  With none, or without the copy thread, Adopt
  // fails (kIoError).
  explicit CudaCopyEngine(CudaCopyOptions options);
  ~CudaCopyEngine() override;

  [[nodiscard]] Status Adopt(std::shared_ptr<const CopyPlan> plan) override;
  [[nodiscard]] Status Prepare(std::shared_ptr<SlotMapping> slot, SlotReady ready) override;
  [[nodiscard]] bool Pins() const override;
  [[nodiscard]] Status Start(std::shared_ptr<CopyJob> job, JobDone done) override;
  [[nodiscard]] std::string Busy() const override;
  bool WaitFence(std::span<const DeviceStream> streams) override;
  [[nodiscard]] EngineState State() const override;
  [[nodiscard]] std::int32_t NumaNode() const override;
  void Stop() override;

 private:
  struct Running;

  struct Preparation {
    std::shared_ptr<SlotMapping> slot;
    SlotReady ready;
  };

  // Work without the lock, and what is noted of it under the lock.
  struct Task {
    std::function<void()> run;
    std::function<void()> record;
    bool wakes = true;  // others may have waited for it
  };

  [[nodiscard]] Result<std::shared_ptr<Running>> Begin(std::shared_ptr<CopyJob> job, JobDone done);
  [[nodiscard]] Status BeginFlight(Running* running, Lane* lane, bool verify);
  [[nodiscard]] Status BeginFrozen(Running* running);
  [[nodiscard]] Status AdoptFrozen(const CopyPlan& plan);
  void HoldBack(const std::shared_ptr<Running>& running, std::span<const DeviceStream> streams);
  void NoteMemory();
  void Note(const std::string& text) HF_REQUIRES(mutex_);
  void WaitEnded(const std::shared_ptr<Running>& running);

  // the copy thread
  void Drive();
  bool AdvanceAll(const std::vector<std::shared_ptr<Running>>& all);
  bool AdvanceOne(Running* running, const std::vector<Lane*>& closed, bool hurry);

  // the workers
  void Work();
  [[nodiscard]] Task NextTask() HF_REQUIRES(mutex_);
  [[nodiscard]] Task NextTaskOf(const std::shared_ptr<Running>& running) HF_REQUIRES(mutex_);
  void PrepareSlot(const Preparation& preparation);
  static void CopyHostPiece(Running* running, std::size_t piece);
  static void CheckHost(Running* running);
  void DoFrozen(Running* running);
  [[nodiscard]] Status ReadFrozen(Running* running, std::set<std::size_t>* changed);
  static void ReadFrozenOfHost(Running* running, std::set<std::size_t>* changed);
  void DigestRange(Running* running, std::uint64_t range);
  [[nodiscard]] static std::uint32_t DigestChunk(Running* running, std::uint64_t chunk);
  void Finish(const std::shared_ptr<Running>& running);

  const CudaCopyOptions options_;
  std::map<std::int32_t, std::unique_ptr<Lane>> lanes_;               // of Adopt
  std::map<std::int32_t, std::unique_ptr<FrozenLane>> frozen_lanes_;  // of Adopt

  mutable Mutex mutex_;
  CondVar work_;     // for the workers
  CondVar drive_;    // for the copy thread
  CondVar changed_;  // for WaitFence, Adopt and Stop
  std::deque<std::shared_ptr<Running>> running_ HF_GUARDED_BY(mutex_);
  std::shared_ptr<Running> current_ HF_GUARDED_BY(mutex_);  // until its fence
  std::deque<Preparation> preparations_ HF_GUARDED_BY(mutex_);
  std::int32_t pin_device_ HF_GUARDED_BY(mutex_) = kHostDevice;
  std::int32_t numa_node_ HF_GUARDED_BY(mutex_) = kAnyNumaNode;  // of that device
  EngineState state_ HF_GUARDED_BY(mutex_);
  std::uint64_t begun_ HF_GUARDED_BY(mutex_) = 0;  // snapshots; one that is refused is none
  bool stopping_ HF_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;  // of the constructor and Stop
  std::optional<Error> no_threads_;   // of the constructor
};

}  // namespace holdfast::client
