// The seam between the life of a snapshot and the machine that copies it.
//
// The session decides when a snapshot begins and what its end means; an engine moves bytes.  The
// host engine copies with threads; the engine for GPUs issues copies on streams and finds their end
// by events, behind the same calls:
//
//   Adopt     a layout: whatever its snapshots need is allocated, outside any snapshot
//   Prepare   makes a new slot ready to be copied into (page tables; pinning for a GPU)
//   Start     inside hf_snapshot: staged tensors are copied and the sample is taken before it
//             returns (on a GPU: before anything that the trainer's streams are given later), the
//             lazy copies are issued or queued
//   WaitFence before the first write to the state: returns when the sources may be written (on a
//             GPU: by work that is given to the named streams from now on)
//   the done  callback: the bytes landed, or nothing of this job can land any more.  The host
//             engine calls it when it has opened the fence, that for GPUs as a rule long after.
//
// Threads:   Start and WaitFence belong to the training thread; Prepare to any one thread;
// callbacks
//            run on a thread of the engine, never on a caller's, and may call Prepare but not wait.
// Ownership: a job is shared by the session and the engine; the engine drops its reference after
// the
//            callback.  Sources are borrowed until WaitFence has returned for the job.
// Errors:    what goes wrong with a copy is in the job's outcome, never silent (I7).
// Lifecycle: construct -> Prepare/Start/WaitFence -> Stop -> destroy.  Stop waits for the copies
//            under way: memory that a queued copy still writes must not be given back.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "client/copy_plan.h"
#include "client/device.h"
#include "client/frozen_part.h"
#include "client/slot_mapping.h"
#include "client/source_sample.h"
#include "common/clock.h"
#include "common/result.h"

namespace holdfast::client {

struct CopyOutcome {
  enum class Kind {
    kCopied,  // bytes, digests and sample are good
    kTorn,    // the sources were written meanwhile; "reason" names the tensor
    kFailed,  // the copy itself went wrong
  };
  Kind kind = Kind::kFailed;
  std::string reason;
  std::vector<std::uint32_t> chunk_crc32c;  // of the whole image, for kCopied
  std::chrono::nanoseconds duration{0};     // from Start to the last byte
  // How long the update stood still on its device for the copies, as far as that is known.
  std::chrono::nanoseconds device_wait{0};
};

// One snapshot's copy.  The inputs do not change after Start; the outcome is written by the engine
// BEFORE it reports the end, and read by others only after that.
struct CopyJob {
  std::int64_t step = 0;
  std::shared_ptr<const CopyPlan> plan;
  std::shared_ptr<SlotMapping> slot;  // at least the plan's image long
  std::vector<SourceView> sources;    // by planned tensor
  std::vector<DeviceStream> streams;  // one for each device with tensors of the plan
  double sample_fraction = kDefaultSampleFraction;

  CopyOutcome outcome;
  // Its sources too are borrowed until the fence.  One that is not good makes the snapshot torn.
  std::optional<FrozenPart> frozen;
};

// Writes how "job" ended, but for digests and times: with "failure"; else torn, where the planned
// tensor "torn" was written meanwhile; else as its frozen part says.
void Conclude(CopyJob* job,
              const std::optional<std::string>& failure,
              std::optional<std::size_t> torn);

inline constexpr std::int32_t kAnyNumaNode = -1;

// Copies from devices into memory that could not be pinned.
struct UnpinnedCopies {
  ByteCount bytes = 0;
  std::chrono::nanoseconds took{0};  // summed over snapshots and devices

  UnpinnedCopies& operator+=(const UnpinnedCopies& more) {
    bytes += more.bytes;
    took += more.took;
    return *this;
  }
};

// What is wrong with an engine that works nevertheless.
struct EngineState {
  std::uint64_t pinned_slots = 0, unpinned_slots = 0;
  UnpinnedCopies unpinned;
  // For the user, one a line: why copies take longer, or are checked less, than they could be.
  std::string note;
};

class CopyEngine {
 public:
  using JobDone = std::function<void(const std::shared_ptr<CopyJob>&)>;
  using SlotReady = std::function<void(Status)>;

  virtual ~CopyEngine() = default;

  // "plan" is the layout of the snapshots to come.  May be slow; not while a job waits for its
  // fence.  kInvalidArgument for a tensor on a device that this engine cannot copy from, kNoSpace;
  // kIoError where the engine has got no threads, and then always.
  [[nodiscard]] virtual Status Adopt(std::shared_ptr<const CopyPlan> plan) = 0;

  // kUnavailable when too many slots wait already, or after Stop.
  [[nodiscard]] virtual Status Prepare(std::shared_ptr<SlotMapping> slot, SlotReady ready) = 0;

  // Whether Prepare pins slots, or tries to, for the layout that was adopted last.
  [[nodiscard]] virtual bool Pins() const { return false; }

  // kUnavailable while another job waits for its fence or too many still land, or after Stop; then
  // "done" is never called.
  [[nodiscard]] virtual Status Start(std::shared_ptr<CopyJob> job, JobDone done) = 0;

  // Why a job cannot start now; empty when it can.
  [[nodiscard]] virtual std::string Busy() const = 0;

  // Returns when the sources of the job under way may be written, at once if none is.  "streams":
  // further streams to hold back, beside those of the job.  Whether the job has ended and its
  // outcome is known; false: "done" will tell.
  virtual bool WaitFence(std::span<const DeviceStream> streams) = 0;

  [[nodiscard]] virtual EngineState State() const { return {}; }

  // Where slots for the layout that was adopted last are best made: next to its first device.
  [[nodiscard]] virtual std::int32_t NumaNode() const { return kAnyNumaNode; }

  // Waits for what is under way; idempotent.
  virtual void Stop() = 0;
};

}  // namespace holdfast::client
