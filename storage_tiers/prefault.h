// Makes every page of a fresh shared mapping exist, before anyone depends on it.
//
// First touch runs at less than 1 GB/s a thread and can fail for want of memory; both belong into
// registration, not into the copy that training waits for.  The daemon does it, because a page is
// charged to the memory cgroup of the process that touches it first: done by the trainer, its
// snapshots would count against the trainer and die with its limit.  fallocate alone is no
// pre-fault: it reserves, but the first access still zeroes and maps each page.
//
// Threads:   blocking, worker only.  Starts its own threads and has joined them on return.
// Ownership: borrows the descriptor and the mapping for the call.
// Errors:    kNoSpace: the file system, the huge pages or the memory are exhausted; kCancelled.
//            Pages made before the error stay: the caller removes the file.
#pragma once

#include <atomic>

#include "common/bytes.h"
#include "common/result.h"
#include "common/units.h"

namespace holdfast::storage_tiers {

struct PrefaultOptions {
  // Threads that touch pages, the caller included; 1 to 256.
  unsigned threads = 4;
  // What one thread takes at a time: bounds how long a cancel has to wait.  A multiple of the
  // largest page size in use.
  ByteCount piece_bytes = 32 * kMiB;
  // Linux before 5.14 lacks MADV_POPULATE_WRITE; then (or with false) pages are reserved with
  // fallocate and touched one by one.
  bool use_populate = true;
};

// "mapping" is all of the file "fd", shared and writable, and no other process writes to it yet:
// the touch stores zeros.
[[nodiscard]] Status Prefault(int fd,
                              MutableByteView mapping,
                              const PrefaultOptions& options,
                              const std::atomic<bool>& cancel);

}  // namespace holdfast::storage_tiers
