// The loop around pread, pwrite and their kin: all bytes, an error, or the end of the file.
//
// A system call may move fewer bytes than asked for (a signal, a full disk, a quota), and a caller
// that takes a short count for success publishes a hole.  Kept apart from the system calls so that
// tests can script every such answer.
//
// Threads: any; no state.
#pragma once

#include <cerrno>
#include <cstdint>

#include "common/units.h"

namespace holdfast::storage_tiers {

struct TransferOutcome {
  ByteCount done = 0;    // bytes moved
  int error_number = 0;  // 0: finished, or the source ended after "done" bytes
};

// Calls move(done, rest), which returns a byte count or -1 with errno set, until "total" bytes have
// moved, it returns 0, or it fails with anything but EINTR.  A count above "rest" cannot come from
// a kernel and is reported as EIO rather than believed.
template <class Move>
[[nodiscard]] TransferOutcome TransferFully(ByteCount total, Move move) {
  TransferOutcome outcome;
  while (outcome.done < total) {
    const ByteCount rest = total - outcome.done;
    const std::int64_t moved = move(outcome.done, rest);
    if (moved < 0) {
      if (errno == EINTR) {
        continue;
      }
      outcome.error_number = errno;
      return outcome;
    }
    if (static_cast<ByteCount>(moved) > rest) {
      outcome.error_number = EIO;
      return outcome;
    }
    if (moved == 0) {
      return outcome;
    }
    outcome.done += static_cast<ByteCount>(moved);
  }
  return outcome;
}

}  // namespace holdfast::storage_tiers
