// One device's part of the copy engine, and one snapshot's way through it.
//
// A lane has one stream for copies to the host.  A flight is a snapshot on its way: the trainer's
// thread begins it, the engine's copy thread advances it in small steps and never blocks in one,
// but for copies to memory that could not be pinned.
//
//   Begin        the trainer's stream: gather, sample, digests, event "begun"
//   Advance      waits (on the device) for "begun"; issues windows, a few ahead of what has landed;
//                after the last one reads the sample again and records "done"
//   hurry        a fence waits: everything left is issued at once, or staged on the device
//   HoldBack     the trainer's streams wait (on the device) for "done"
//
// The windows are issued piece by piece because what is issued cannot be taken back: a fence that
// comes early finds most of the snapshot still free to be staged.
//
// Threads:   Begin and HoldBack on the trainer's thread, Advance on the copy thread; the engine
//            hands a flight from one to the other under its lock.
// Ownership: a flight borrows its lane and the room; the engine keeps both.
// Errors:    the first one is kept in the flight; it then only waits for what was issued.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "client/copy_cuda/lane_plan.h"
#include "client/copy_cuda/room.h"
#include "client/copy_cuda/runtime.h"
#include "client/copy_cuda/staging.h"
#include "client/copy_engine.h"

namespace holdfast::client {

class Flight;

// Threads: as above; Adopt on the trainer's thread, while no flight is under way.
class Lane {
 public:
  // Makes streams on "device".
  [[nodiscard]] static Result<std::unique_ptr<Lane>> Make(std::int32_t device,
                                                          double staging_share);

  // Makes the rooms for snapshots of this layout.
  [[nodiscard]] Status Adopt(std::shared_ptr<const CopyPlan> plan,
                             ByteCount window_bytes,
                             ByteCount most_gathered,
                             std::size_t rooms);

  [[nodiscard]] std::int32_t Device() const { return device_; }

  [[nodiscard]] const LanePlan& Plan() const { return *plan_; }

  // A room that no flight has; nullptr: all are in use.
  [[nodiscard]] Room* TakeRoom();
  void ReturnRoom(Room* room);

 private:
  friend class Flight;
  Lane(std::int32_t device, double staging_share) : device_(device), staging_(staging_share) {}

  // An event that no flight uses; the copy thread's.
  [[nodiscard]] Result<CudaEvent> TakeEvent();
  void ReturnEvent(CudaEvent event) { events_.push_back(std::move(event)); }

  const std::int32_t device_;
  CudaStream copies_;
  CudaStream within_;  // copies within the device
  std::unique_ptr<const LanePlan> plan_;
  std::vector<std::unique_ptr<Room>> rooms_;
  std::vector<Room*> free_rooms_;
  std::vector<CudaEvent> events_;
  BatchCopier copier_;
  Staging staging_;
};

class Flight {
 public:
  // kUnavailable: no room; kInvalidArgument: the stream is being captured into a graph.
  [[nodiscard]] static Result<std::unique_ptr<Flight>> Begin(
      Lane* lane, std::shared_ptr<const CopyJob> job, const DeviceStream& stream, bool sums);

  // One step.  "may_issue": the flights before this one on the lane have issued all.  Whether
  // anything happened.
  bool Advance(bool hurry, bool may_issue);

  // All copies are issued and "done" is recorded, or it has failed: the fence need not wait.
  [[nodiscard]] bool Issued() const { return issued_; }

  // Nothing of it can land any more.
  [[nodiscard]] bool Ended() const { return issued_ && in_flight_.empty(); }

  // Bytes of the image before this offset have landed, as far as they are this lane's.
  [[nodiscard]] ByteCount Landed() const { return landed_; }

  [[nodiscard]] const std::optional<Error>& Failure() const { return failure_; }

  // Makes "stream" wait for the end of the copies; at once where they have failed.  Only after
  // Issued().
  void HoldBack(const DeviceStream& stream);

  // How long the streams stood still for it, where that is known; only after Ended().
  [[nodiscard]] std::chrono::nanoseconds HeldBack() const;

  [[nodiscard]] Lane* lane() const { return lane_; }

  [[nodiscard]] const Room& room() const { return *room_; }

  // Gives the room back; only after Ended() and when the host side is read.
  void ReturnRoom();

 private:
  struct Landing {
    CudaEvent event;
    ByteCount landed = 0;  // what Landed() becomes
    bool staged = false;   // the last one that reads the staging memory
  };

  Flight(Lane* lane, std::shared_ptr<const CopyJob> job, Room* room)
      : lane_(lane), job_(std::move(job)), room_(room) {}

  bool PollLandings();
  [[nodiscard]] Status IssueSome(bool hurry);
  [[nodiscard]] Status IssueHead();
  [[nodiscard]] Status IssueWindow(const CopyWindow& window, const std::byte* staged_at);
  [[nodiscard]] Status Close(std::size_t staged_windows);
  [[nodiscard]] Status StageRest(std::size_t* staged_windows);
  [[nodiscard]] Status AddLanding(ByteCount landed, bool staged);
  [[nodiscard]] ByteCount LandedAfter(std::size_t window) const;
  void Fail(Error error);

  Lane* const lane_;
  const std::shared_ptr<const CopyJob> job_;
  Room* room_;
  CudaEvent begun_;
  CudaEvent done_;
  std::vector<std::pair<CudaEvent, CudaEvent>> held_back_;  // before and after the wait

  bool started_ = false;
  bool issued_ = false;
  bool uses_staging_ = false;
  std::size_t next_window_ = 0;
  ByteCount landed_ = 0;
  std::deque<Landing> in_flight_;
  CudaCopies copies_;
  std::optional<Error> failure_;
};

}  // namespace holdfast::client
