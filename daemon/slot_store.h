// The slots of the arena as the daemon uses them: which files are mapped, and the slow work on
// them.
//
// The core knows slots as numbers; here each has its file.  What must never happen: memory that a
// dead client may still write to is given out again (I7), or a file is removed under somebody who
// reads it: readers hold the SlotFile, and removal only takes the name.
//
// Threads:   the io thread only; blocking calls go to the "arena" pool, digests to the "cpu" pool.
// Ownership: owns the mappings of all live slots and the watch over quarantined files; borrows
// arena
//            and pools.
// Errors:    kNotFound: no such slot here (removed meanwhile).  Else the arena's.
// Lifecycle: construct -> Recover (before the io thread runs) -> calls; WatchQuarantine runs as a
//            task until it is cancelled.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <boost/asio/awaitable.hpp>

#include "common/offload.h"
#include "common/result.h"
#include "common/units.h"
#include "daemon/core/ids.h"
#include "daemon/layout_store.h"
#include "storage_tiers/arena.h"

namespace holdfast::daemon {

using SharedSlot = std::shared_ptr<storage_tiers::SlotFile>;

class SlotStore {
 public:
  SlotStore(const storage_tiers::Arena& arena, WorkerPool& pool);

  SlotStore(const SlotStore&) = delete;
  SlotStore& operator=(const SlotStore&) = delete;

  // A slot that start-up mapped.
  void Recover(SlotRef slot, SharedSlot file) { slots_[slot] = std::move(file); }

  [[nodiscard]] Result<SharedSlot> Find(SlotRef slot) const;

  // Creates the file (with "create", on that NUMA node if it can be) and writes the header of the
  // layout's "kind" of image.  A slot whose creation failed is not there.  Waits for removals under
  // way, whose memory may be needed.
  [[nodiscard]] boost::asio::awaitable<Status> Prepare(SlotRef slot,
                                                       ByteCount capacity,
                                                       bool create,
                                                       SharedLayout layout,
                                                       proto::ImageKind kind = proto::DYNAMIC,
                                                       std::int32_t node = storage_tiers::kAnyNode);

  // Takes the name away; the memory comes back when the last reader lets go.
  [[nodiscard]] boost::asio::awaitable<Status> Remove(SlotRef slot);

  // Puts the file under watch; its name stays until nobody else has it open or mapped.  Then the
  // file is removed and "released" is called with its slot.
  void Quarantine(SlotRef slot);

  [[nodiscard]] boost::asio::awaitable<void> WatchQuarantine(std::chrono::milliseconds interval,
                                                             std::function<void(SlotRef)> released);

  // Ends prefaults under way: their slots are removed again.
  void Cancel() { cancel_->store(true); }

 private:
  struct Quarantined {
    SlotRef slot;
    SharedSlot mapping;  // our own, dropped by a worker at the first look
    std::shared_ptr<const storage_tiers::QuarantinedFile> file;  // null until then
    bool told = false;  // logged that it cannot be looked at
  };

  [[nodiscard]] boost::asio::awaitable<Result<SharedSlot>> Create(SlotRef slot,
                                                                  ByteCount capacity,
                                                                  std::int32_t node);
  // True: nobody uses it any more and it is removed.
  [[nodiscard]] boost::asio::awaitable<Result<bool>> TryRelease(Quarantined* entry);

  const storage_tiers::Arena& arena_;
  WorkerPool& pool_;
  const std::shared_ptr<std::atomic<bool>> cancel_ = std::make_shared<std::atomic<bool>>(false);
  std::map<SlotRef, SharedSlot> slots_;
  std::vector<Quarantined> quarantined_;
  std::size_t removing_ = 0;  // removals under way
};

}  // namespace holdfast::daemon
