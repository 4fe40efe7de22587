// Keeps the daemon alive when the memory behind a mapped slot file vanishes.
//
// A client holds a writable descriptor of its slot file and can truncate it at any time; the
// daemon's next load from the mapping then raises SIGBUS, whose default is the end of the process
// and of every other job's protection.  The handler installed here puts private zero pages over
// the whole registered range and marks the range as poisoned: the thread that was reading goes on
// and reads zeros, its digest cannot match, and nothing but that client's own job is hurt (I9).
// The same happens for a page that the hardware lost (machine check).
//
// What must never happen: a poisoned range taken for a source because its zeros "look valid".  So
// whoever accepts bytes from a range asks poisoned() AFTER reading them, beside the digest.
//
// The kernel's own accesses (write(2), io_uring, RDMA registration from a truncated range) raise no
// signal: they fail with EFAULT, and poisoned() stays false.
//
// Threads:   any thread.  The handler takes no lock and calls only mmap, write and sigaction.
//            SIGBUS must not be blocked in any thread: the kernel ends the process then.
// Ownership: a GuardedRange borrows the mapping.  No thread may touch the range any more when its
//            GuardedRange ends, and the range is unmapped only afterwards.
// Errors:    kNoSpace: the fixed table is full.  kIoError: sigaction failed.
// Lifecycle: the handler is installed at the first registration and stays; faults at other
//            addresses go to the handler that was there before (or to the default: a core dump).
#pragma once

#include <cstddef>

#include "common/bytes.h"
#include "common/result.h"

namespace holdfast::storage_tiers {

// The table is fixed because a signal handler can neither lock nor allocate.  One entry a mapped
// slot, so this is far above what a node holds.
inline constexpr std::size_t kMaxGuardedRanges = 4096;

// Installs the handler unless it is there.  Called by GuardedRange::Register; call it earlier to
// fix the order relative to other handlers (one that is installed later hides this one).
[[nodiscard]] Status InstallMappingGuard();

class GuardedRange {
 public:
  // Guards nothing.
  GuardedRange() = default;

  // "range" is exactly one mapping as mmap returned it: not empty, whole pages of the file system
  // that backs it, no part of it registered already.
  [[nodiscard]] static Result<GuardedRange> Register(MutableByteView range);

  GuardedRange(GuardedRange&& other) noexcept;
  GuardedRange& operator=(GuardedRange&& other) noexcept;
  GuardedRange(const GuardedRange&) = delete;
  GuardedRange& operator=(const GuardedRange&) = delete;
  ~GuardedRange();

  // True for ever once a page of the range was lost.  All of the range is zeros then and no longer
  // backed by the file; what is written to it is seen by this process only.
  [[nodiscard]] bool poisoned() const;

 private:
  static constexpr std::size_t kNone = kMaxGuardedRanges;

  explicit GuardedRange(std::size_t entry) : entry_(entry) {}

  std::size_t entry_ = kNone;
};

}  // namespace holdfast::storage_tiers
