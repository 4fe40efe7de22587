// One device's part of the copy engine, and one snapshot's way through it.
//
// A lane has one stream for copies to the host.  A flight is a snapshot on its way: the trainer's
// thread begins it, the engine's copy thread advances it in small steps and never blocks in one,
// but for copies to memory that could not be pinned.
//
//   Begin        the trainer's stream: gather, sample, digests, event "begun"
//   Advance      waits (on the device) for "begun"; issues windows; after the last one reads the
//                sample again and records "done"
//   hurry        a fence waits: everything left is issued at once, or staged on the device (all of
//                it, or the tail: staging.h); what was staged leaves for the host after the fence
//                has opened
//   HoldBack     a stream of the trainer waits (on the device) for "done"
//
// Where staging helps (staging.h), windows are issued a few at a time, because what is issued
// cannot be taken back: a fence that comes early finds most of the snapshot still free to be
// staged. Elsewhere all are issued at once.
//
// Threads:   Begin and HoldBack on the trainer's thread, Advance on the copy thread; the engine
//            hands a flight from one to the other under its lock.
// Ownership: a flight borrows its lane and the room; the engine keeps both.
// Errors:    the first one is kept in the flight; it then only waits for what was issued, which
//            lands whatever the runtime says of it (stream_mark.h).
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "client/copy_cuda/lane_plan.h"
#include "client/copy_cuda/mutation.h"
#include "client/copy_cuda/room.h"
#include "client/copy_cuda/runtime.h"
#include "client/copy_cuda/staging.h"
#include "client/copy_cuda/stream_mark.h"
#include "client/copy_engine.h"

namespace holdfast::client {

class Flight;

// Windows in one call where nothing is held back: the link rests between two calls, and between two
// copies.
inline constexpr std::size_t kWindowsAtOnce = 4;

// Whether a stream is being captured into a graph.
[[nodiscard]] Result<bool> IsCapturing(cudaStream_t stream);

// Threads: as above; Adopt on the trainer's thread, while no flight is under way.
class Lane {
 public:
  // Makes streams on "device".
  [[nodiscard]] static Result<std::unique_ptr<Lane>> Make(
      std::int32_t device,
      double staging_share,
      std::chrono::nanoseconds staging_worth = kWorthStaging);

  // Makes the rooms for snapshots of this layout.
  [[nodiscard]] Status Adopt(std::shared_ptr<const CopyPlan> plan,
                             ByteCount window_bytes,
                             ByteCount most_gathered,
                             std::size_t rooms);

  [[nodiscard]] std::int32_t Device() const { return device_; }

  [[nodiscard]] const LanePlan& Plan() const { return *plan_; }

  [[nodiscard]] RoomPool& rooms() { return rooms_; }

  // Between flights, on the copy thread: whatever is slow.
  void Tidy();

 private:
  friend class Flight;

  Lane(std::int32_t device, double staging_share, std::chrono::nanoseconds staging_worth)
      : device_(device), staging_(staging_share, staging_worth) {}

  // An event that no flight uses; the copy thread's.
  [[nodiscard]] Result<CudaEvent> TakeEvent();

  void ReturnEvent(CudaEvent event) { events_.push_back(std::move(event)); }

  const std::int32_t device_;
  CudaStream copies_;
  CudaStream within_;            // copies within the device
  CudaEvent link_free_;          // on copies_: the last copy of the last flight
  bool link_is_behind_ = false;  // the last flight of which that is known began before it
  std::unique_ptr<const LanePlan> plan_;
  RoomPool rooms_;
  std::vector<CudaEvent> events_;

  struct {
    CudaEvent event;
    bool recorded = false;
  } reused_done_;  // of Mutation::kDoneEventReused

  BatchCopier copier_;
  Staging staging_;
};

// Two events around the wait of a stream, in the order of the stream.
struct HeldBack {
  CudaEvent before, after;

  // How long the stream stood still; 0 where it has not come so far.
  [[nodiscard]] std::chrono::nanoseconds Duration() const;
};

// Between two events that keep the time; nullopt: one has not come, or they are of two devices.
[[nodiscard]] std::optional<std::chrono::nanoseconds> Between(const CudaEvent& first,
                                                              const CudaEvent& second);

class Flight {
 public:
  // On the trainer's thread, with the lane's device current.  Where it fails in the middle the
  // flight has a Failure and must be advanced to its end like any other.
  Flight(Lane* lane, std::shared_ptr<const CopyJob> job, Room* room);

  void Begin(cudaStream_t stream, bool sums);

  // One step.  "may_issue": the flights before this one on the lane have issued all.  Whether
  // anything happened.
  bool Advance(bool hurry, bool may_issue);

  // "done" is recorded, or it has failed: the fence need not wait.
  [[nodiscard]] bool Released() const {
    return released_ || (Mutated(Mutation::kDoneEventReused) && lane_->reused_done_.recorded);
  }

  // All copies are issued too.
  [[nodiscard]] bool Issued() const { return issued_; }

  // Nothing of it can land any more.
  [[nodiscard]] bool Ended() const { return issued_ && in_flight_.empty(); }

  // Bytes of the image before this offset have landed, as far as they are this lane's.
  [[nodiscard]] ByteCount Landed() const { return landed_; }

  [[nodiscard]] const std::optional<Error>& Failure() const { return failure_; }

  // Makes "stream" wait for the last read of the sources.  Only after Released(), while the engine
  // knows of no failure; its device is current.
  [[nodiscard]] Result<HeldBack> HoldBack(cudaStream_t stream) const;

  // Tells the lane how long the update stood still for this one, or would have without staging.
  // After Ended().
  void NoteWait(std::span<const HeldBack> waits) const;

  // Windows that went through the staging memory.
  [[nodiscard]] std::size_t StagedWindows() const {
    return lane_->plan_->Windows().size() - first_staged_;
  }

  // What it copied into memory that is not pinned, and how long the device took for it.  After
  // Ended(), where it has no Failure.
  [[nodiscard]] UnpinnedCopies Unpinned() const;

  [[nodiscard]] Lane* lane() const { return lane_; }

  [[nodiscard]] Room* room() const { return room_; }

 private:
  struct Landing {
    StreamMark mark;
    ByteCount landed = 0;  // what Landed() becomes
    bool staged = false;   // the last one that reads the staging memory
  };

  [[nodiscard]] bool UsesStaging() const { return StagedWindows() > 0; }

  bool PollLandings();
  [[nodiscard]] Status IssueSome(bool hurry);
  [[nodiscard]] Status IssueHead();
  [[nodiscard]] Status IssueWindows(std::size_t first, std::size_t end, const std::byte* staged_at);
  [[nodiscard]] Status IssueStaged();
  [[nodiscard]] Status Release();
  [[nodiscard]] Status StageRest();
  [[nodiscard]] std::size_t WindowsBesideStaging(ByteCount rest) const;
  [[nodiscard]] Status AddLanding(ByteCount landed, bool staged);
  [[nodiscard]] ByteCount LandedAfter(std::size_t window) const;
  [[nodiscard]] bool BeganBehind();
  void TakeStaging();
  void GiveBackStaging();
  void Fail(Error error);

  [[nodiscard]] cudaEvent_t Done() const {
    return Mutated(Mutation::kDoneEventReused) ? lane_->reused_done_.event.get() : done_.get();
  }

  Lane* const lane_;
  const std::shared_ptr<const CopyJob> job_;
  Room* const room_;
  CudaEvent begun_;
  CudaEvent done_;
  CudaEvent ended_;  // the last copy to the host

  bool started_ = false;
  bool released_ = false;
  bool issued_ = false;
  std::size_t next_window_ = 0;
  std::size_t first_staged_;  // of the windows; their number where none is staged
  bool has_staging_ = false;
  ByteCount landed_ = 0;
  std::deque<Landing> in_flight_;
  CudaCopies copies_;
  std::optional<Error> failure_;
};

}  // namespace holdfast::client
