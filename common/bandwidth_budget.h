// A token bucket that all users of one tier or network card share, so that flushes and the reads of
// peers never take it away from the training that they protect.
//
// Bytes are taken before they are submitted.  A taker may overdraw the bucket by its own request
// and then waits until the debt is paid: large blocks pass at any rate, and the long-run rate
// holds.
//
// Threads:   any; one mutex, never held while waiting.
// Ownership: borrows the clock.
// Errors:    kCancelled when the flag given to Acquire becomes true; the bytes stay taken, since
//            giving them back would let a cancelled and repeated flush run above the rate.
#pragma once

#include <atomic>
#include <chrono>
#include <mutex>

#include "common/clock.h"
#include "common/result.h"
#include "common/units.h"

namespace holdfast {

class BandwidthBudget {
 public:
  // 0 is unlimited.  The bucket holds one quarter of a second's bytes: idle time is not saved up
  // into a long burst.
  explicit BandwidthBudget(ByteCount bytes_per_second, const Clock& clock = SystemClock());

  // Takes effect for the next request; debts are kept.
  void SetRate(ByteCount bytes_per_second);

  // Takes "bytes" and says how long the taker must wait before it may use them.
  [[nodiscard]] std::chrono::nanoseconds Take(ByteCount bytes);

  // Take, then wait.  Looks at "cancel" (may be null) at least every 20 ms.
  [[nodiscard]] Status Acquire(ByteCount bytes, const std::atomic<bool>* cancel);

 private:
  const Clock& clock_;
  std::mutex mu_;
  // Guarded by mu_.
  double rate_;     // bytes a second; 0 is unlimited
  double balance_;  // bytes; negative while takers wait
  MonotonicTime refilled_at_;
};

}  // namespace holdfast
