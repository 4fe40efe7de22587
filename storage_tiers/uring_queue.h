// A queue of asynchronous file requests: io_uring, or the same calls made at once.
//
// The seam under the image transfers.  Tests put a queue behind it that answers short counts,
// errors, or nothing at all, which no real file system can be made to do on demand.
//
// Threads:   one thread for each queue.
// Ownership: borrows the memory and descriptor of every request until its completion was returned
//            by Wait; the caller must not free, unmap or reuse them before.
// Errors:    Submit and Wait fail only where the queue itself does; a request's own error is the
//            negative errno in its completion.
// Lifecycle: destroy only with nothing in flight; a queue whose requests hang is parked
//            (uring_parked.h).
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "common/result.h"

namespace holdfast::storage_tiers {

struct IoRequest {
  enum class Kind { kRead, kWrite, kSync };

  Kind kind = Kind::kRead;
  int fd = -1;
  std::byte* memory = nullptr;  // kWrite never writes to it
  std::uint32_t length = 0;     // bytes
  std::uint64_t offset = 0;     // in the file
  std::uint64_t tag = 0;        // chosen by the caller; at most 2^63, unique among those in flight
};

struct IoCompletion {
  std::uint64_t tag = 0;
  std::int32_t result = 0;  // bytes moved, or -errno
};

class IoQueue {
 public:
  IoQueue() = default;
  IoQueue(const IoQueue&) = delete;
  IoQueue& operator=(const IoQueue&) = delete;
  virtual ~IoQueue() = default;

  // After an error the request was not and never will be made.
  [[nodiscard]] virtual Status Submit(const IoRequest& request) = 0;

  // The next completion, or kTimeout after "timeout" without one.
  [[nodiscard]] virtual Result<IoCompletion> Wait(std::chrono::milliseconds timeout) = 0;

  // Asks that the request be given up.  Its completion still arrives, with its outcome or
  // -ECANCELED; until then its memory is in use.
  virtual void Cancel(std::uint64_t tag) = 0;
};

// "depth" requests can be in flight.  kUnavailable where the kernel has or allows no io_uring.
[[nodiscard]] Result<std::unique_ptr<IoQueue>> OpenUringQueue(unsigned depth);

// Submit makes the call and keeps its outcome for Wait.  A hung file system hangs Submit: no time
// limit can be kept here.
[[nodiscard]] std::unique_ptr<IoQueue> MakeBlockingQueue();

}  // namespace holdfast::storage_tiers
