// Device memory into which the rest of a snapshot is copied when the optimizer wants to write
// before the copies to the host are done.
//
// A copy within the device is about forty times as fast as one to the host, so the update waits a
// few milliseconds instead of the rest; the bytes then leave at leisure.  It is taken only while
// memory is plentiful, and given back when little is left.  And only where
// it helps: a host that runs ahead of its device comes to the fence long before the update does, so
// what decides is how long the device stood still, or would have without staging.
//
// Where iterations are always shorter than the copies, no memory makes the link carry more: a
// snapshot that begins while the link still carries an older one puts only its tail here, behind
// the older one's.  The update waits until the link has carried the rest, and the link goes on with
// the tail while the update writes: it never stands idle.
//
// Threads:   the engine's copy thread, but for NoteWait.
// Ownership: owns the memory.  Its readers and writers are ordered on the device (lane.h).
// Errors:    none: what cannot be had is not used.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>

#include "client/copy_cuda/runtime.h"
#include "common/units.h"

namespace holdfast::client {

// A shorter wait costs the update as much as the copy within the device would.
inline constexpr std::chrono::milliseconds kWorthStaging{3};

class Staging {
 public:
  // "share" of the device's free memory may be taken; 0: never.  "worth": a shorter wait of the
  // update is not worth it.
  Staging(double share, std::chrono::nanoseconds worth) : share_(share), worth_(worth) {}

  // How long the update stood still for a snapshot, or would have without staging; any thread.
  void NoteWait(std::chrono::nanoseconds wait);

  // Whether the last snapshot was worth it.
  [[nodiscard]] bool Helps() const { return share_ > 0 && helps_.load(std::memory_order_relaxed); }

  // Whether the snapshot at hand, of which "rest" is not copied, should be staged.
  [[nodiscard]] bool Useful(ByteCount rest);

  // Takes memory for what was wanted, on the current device, and gives back what it has where less
  // than the reserve is free: the training needs it.  What is in use is given back by a later call,
  // and until then no snapshot may put more here.  Slow (cudaMalloc): between snapshots.
  void Tidy();

  // How many bytes a snapshot of "all" bytes may put here now.  "behind": it began while the link
  // carried an older one.
  [[nodiscard]] ByteCount Free(ByteCount all, bool behind) const;

  // A snapshot's bytes lie here from one to the other.
  void Take() { ++users_; }

  void GiveBack() { --users_; }

  [[nodiscard]] std::byte* Memory() const { return memory_.get(); }

 private:
  const double share_;
  const std::chrono::nanoseconds worth_;
  DeviceMemory memory_;
  ByteCount bytes_ = 0;
  ByteCount wanted_ = 0;
  bool refused_ = false;
  bool leaving_ = false;  // given back as soon as nobody uses it
  std::size_t users_ = 0;
  std::atomic<bool> helps_{false};
};

}  // namespace holdfast::client
