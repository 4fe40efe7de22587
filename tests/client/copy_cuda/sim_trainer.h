// A training on a simulated GPU: its state in device memory, and steps that write it in stream
// order.
//
// Threads:   the test's one.
// Ownership: owns device memory and stream; the engine must be stopped before it is destroyed.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include <cuda_runtime_api.h>

#include "client/copy_cuda/copy_cuda.h"
#include "tests/client/random_state.h"
#include "tests/support/cuda_sim/cuda_sim.h"

namespace holdfast::client {

class SimTrainer {
 public:
  // State made of "seed", on "devices" devices; some tensors stay in host memory where "mixed", and
  // nobody ever writes some of them where "frozen".
  SimTrainer(std::uint64_t seed, int devices, bool mixed, bool frozen = false);
  ~SimTrainer();

  [[nodiscard]] std::shared_ptr<const CopyPlan> Plan() const { return plan_; }

  [[nodiscard]] const proto::Layout& Layout() const { return state_.layout; }

  // Makes the slot of the frozen tensors, if there are any: empty, or as a process before has left
  // it.  The first snapshot fills or compares it, which must have ended before the next one begins.
  void MakeFrozenSlot(bool filled);

  // Whether that slot holds the frozen tensors.
  [[nodiscard]] bool FrozenIsWhole() const;

  // Makes "count" slots and waits until the engine has pinned them; snapshots take them first.
  void PinSlots(CopyEngine* engine, int count);

  // Hands the state as it is in stream order now to a snapshot.
  [[nodiscard]] Status Snapshot(CopyEngine* engine, std::int64_t step);

  // Work that writes what forward may write (staged tensors only).
  void Forward();

  // Work that writes every tensor.
  void Update();

  // A stream beside that of device 0, as an average has that is kept by itself.  It may write what
  // the trainer's stream has done with so far.
  [[nodiscard]] DeviceStream StreamAside();

  // Work on that stream that writes what only updates may write; the trainer's stream waits for it.
  void UpdateAside();

  // Writes one element of a tensor that only the update may write, on "device" (kHostDevice: on
  // any), if one there has bytes.
  void WriteOneElement(cudaStream_t stream, std::int32_t device = kHostDevice);

  // Waits until "step" has ended, and for all streams; the outcome.
  [[nodiscard]] CopyOutcome WaitDone(std::int64_t step);
  [[nodiscard]] bool Done(std::int64_t step);

  // What the slot of "step" must hold, and what it holds.
  [[nodiscard]] std::string Expected(std::int64_t step);
  [[nodiscard]] std::string Landed(std::int64_t step) const;

  void SynchronizeAll();

  // Whether the training's own work was refused.
  [[nodiscard]] bool LaunchFailed() const { return launch_failed_; }

  [[nodiscard]] cudaStream_t Stream(int device) const { return streams_[device]; }

  [[nodiscard]] std::vector<DeviceStream> Streams() const;

 private:
  struct Shot {
    std::shared_ptr<CopyJob> job;
    std::vector<std::vector<std::byte>> before;  // each spec's bytes, written in stream order
    bool done = false;
  };

  [[nodiscard]] std::byte* HostBytes(std::size_t spec);
  void Write(std::size_t spec, cudaStream_t stream);
  void FreezeSome();
  void AddFrozen(CopyJob* job);
  void Record(Shot* shot);
  void Run(cudaStream_t stream, std::function<void()> kernel);
  static void WaitFor(cudaStream_t waiting, cudaStream_t other);

  RandomState state_;
  std::uint64_t random_;
  std::vector<std::int32_t> device_of_;
  std::vector<void*> memory_;
  std::vector<std::size_t> bytes_;
  std::vector<cudaStream_t> streams_;
  cudaStream_t aside_ = nullptr;
  std::shared_ptr<const CopyPlan> plan_;
  std::vector<const void*> pointers_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::int64_t, std::unique_ptr<Shot>> shots_;
  std::vector<std::shared_ptr<SlotMapping>> pinned_;
  std::shared_ptr<SlotMapping> frozen_slot_;                // pinned with the others
  FrozenPart::Work frozen_work_ = FrozenPart::Work::kFill;  // of the next snapshot
  int preparing_ = 0;                                       // slots
  bool launch_failed_ = false;
};

}  // namespace holdfast::client
