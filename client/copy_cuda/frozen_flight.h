// The frozen tensors of one device: what a snapshot does with the static image (frozen_part.h).
//
//   Begin  the trainer's stream: a sample of every tensor into a room, event "begun"
//   Read   a worker: waits for "begun" on the device; fills the image by windows, or brings them
//   into
//          a bounce buffer and compares; then the sample with what the image holds
//
// Unlike a snapshot's own copies (lane.h) a worker waits for all of it: it happens once for each
// layout, but for the sample, whose few bytes are there when the begun event has passed.
//
// Threads:   Adopt and Begin on the trainer's thread, Read on one worker at a time.
// Ownership: a lane owns stream, rooms and bounce buffer; a flight borrows lane and room.
// Errors:    whatever happens, nothing is under way any more when Read returns.
#pragma once

#include <cstdint>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "client/copy_cuda/host_buffer.h"
#include "client/copy_cuda/lane_plan.h"
#include "client/copy_cuda/room.h"
#include "client/copy_cuda/runtime.h"
#include "client/copy_engine.h"

namespace holdfast::client {

class FrozenLane {
 public:
  // On "device", which is made current.  "plan" is of a static image.
  [[nodiscard]] static Result<std::unique_ptr<FrozenLane>> Make(
      std::shared_ptr<const CopyPlan> plan,
      std::int32_t device,
      ByteCount window_bytes,
      std::size_t rooms);

  [[nodiscard]] std::int32_t Device() const { return device_; }

  [[nodiscard]] RoomPool& rooms() { return rooms_; }

  // Why memory of it is not pinned; empty: it is.  Between flights.
  [[nodiscard]] std::string WhyUnpinned() const;

 private:
  friend class FrozenFlight;

  FrozenLane(std::shared_ptr<const CopyPlan> plan, std::int32_t device, ByteCount window_bytes)
      : device_(device), plan_(std::move(plan), device, window_bytes) {}

  const std::int32_t device_;
  const LanePlan plan_;
  CudaStream copies_;
  RoomPool rooms_;
  HostBuffer bounce_;  // of the first comparison
  BatchCopier copier_;
};

class FrozenFlight {
 public:
  FrozenFlight(FrozenLane* lane, std::shared_ptr<const CopyJob> job, Room* room)
      : lane_(lane), job_(std::move(job)), room_(room) {}

  // With the lane's device current.
  [[nodiscard]] Status Begin(cudaStream_t stream);

  // Planned tensors that the slot does not hold are added to "changed".
  [[nodiscard]] Status Read(std::set<std::size_t>* changed);

  // What Read copied into an image that is not pinned.
  [[nodiscard]] const UnpinnedCopies& Unpinned() const { return unpinned_; }

  [[nodiscard]] FrozenLane* lane() const { return lane_; }

  [[nodiscard]] Room* room() const { return room_; }

 private:
  [[nodiscard]] const FrozenPart& part() const { return *job_->frozen; }

  [[nodiscard]] Status Issue();
  [[nodiscard]] Status Fill();
  [[nodiscard]] Status Compare(std::set<std::size_t>* changed);
  [[nodiscard]] Status WaitLanded();

  FrozenLane* const lane_;
  const std::shared_ptr<const CopyJob> job_;
  Room* const room_;
  CudaEvent begun_;
  UnpinnedCopies unpinned_;
};

}  // namespace holdfast::client
