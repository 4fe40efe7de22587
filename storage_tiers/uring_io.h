// Moves one image between memory and a file through a queue of asynchronous requests.
//
// Large blocks, several in flight, straight from and to the mapping of a slot: one pass without a
// copy is what lets a flush keep up with the disk while the training has the processors.
//
// Tails: O_DIRECT moves whole multiples of 4096 bytes only.  The aligned part goes directly, the
// rest through a bounce buffer of one page; the file is then cut to its exact length.
//
// Threads:   the calling worker thread; inspect and the budget are called on it.
// Ownership: borrows the memory for the call, and beyond it only where the error says that requests
//            hang: then keep_alive is held until they have ended (uring_parked.h).
// Errors:    kCancelled; kTimeout naming the file; kCorruption for a file that ends early; what
//            inspect or the budget returned; else the errno of the first block that failed.  In
//            every case, and unless the message says that requests hang, nothing is in flight when
//            the call returns (I12).
// Durability: WriteImageThrough returns Ok only after fsync succeeded.
#pragma once

#include <memory>
#include <string>

#include "common/bytes.h"
#include "common/result.h"
#include "common/units.h"
#include "storage_tiers/file_system.h"
#include "storage_tiers/uring_descriptor.h"
#include "storage_tiers/uring_queue.h"

namespace holdfast::storage_tiers {

// What O_DIRECT may demand of addresses, offsets and lengths.
inline constexpr ByteCount kDirectAlignment = 4096;

struct ImageTransfer {
  std::unique_ptr<IoQueue> queue;  // for this transfer alone
  Descriptor fd;                   // open for it; empty after a transfer that hangs
  std::string path;                // for messages
  // Whether fd has O_DIRECT.  Becomes false, and fd loses the flag, where the file system took the
  // flag and then refused the first block (EINVAL).
  bool direct = false;
};

// The file must be empty (preallocated is well).  With direct, image.data() must be aligned to
// kDirectAlignment.  Options must be valid (ValidateImageIoOptions).
[[nodiscard]] Status WriteImageThrough(ImageTransfer& transfer,
                                       ByteView image,
                                       const ImageIoOptions& options);

// The file must have exactly destination.size() bytes.  Alignment as above.
[[nodiscard]] Status ReadImageThrough(ImageTransfer& transfer,
                                      MutableByteView destination,
                                      const ImageIoOptions& options);

}  // namespace holdfast::storage_tiers
