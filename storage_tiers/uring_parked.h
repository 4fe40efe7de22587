// Where transfers wait whose requests a hung file system still holds.
//
// A time limit can end our waiting, but not a request that the kernel has begun: it may still read
// or write the memory minutes later.  Such a transfer is parked here, with its queue, descriptor,
// bounce buffer and the caller's keep_alive, until the last request has ended.  So no slot is
// freed under a late read, and none stays behind once the file system answers again (I12).
//
// Threads:   any; one mutex.
// Ownership: owns everything that the requests may touch.
// Errors:    kUnavailable while too many transfers hang: new ones would only hang too.
// Lifecycle: lives as long as the process, since the kernel may use the memory until then.
#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "common/result.h"
#include "storage_tiers/uring_descriptor.h"
#include "storage_tiers/uring_queue.h"

namespace holdfast::storage_tiers {

struct ParkedTransfer {
  std::unique_ptr<IoQueue> queue;  // declared first: destroyed last
  Descriptor fd;
  std::string path;
  std::size_t in_flight = 0;
  std::shared_ptr<const void> bounce;
  std::shared_ptr<const void> keep_alive;
};

// Retries of a hung flush must not pile up rings and pinned slots without bound.
inline constexpr std::size_t kMaxParkedTransfers = 16;

void ParkTransfer(ParkedTransfer transfer);

// Lets go of what has ended, and returns how many transfers are still held.
[[nodiscard]] std::size_t ReapParkedTransfers();

// Called before a new transfer starts.  kUnavailable names a path that hangs.
[[nodiscard]] Status AdmitTransfer();

}  // namespace holdfast::storage_tiers
