// Named places where a test or the demo makes this process fail for real.
//
//   HOLDFAST_FAILPOINT("seal.before_record");
//   HF_TRYV(FailpointStatus("flush.write"));    // where an error can be returned
//
// A specification is a list "name=action[@n];...", armed once at start of the process:
//   kill      SIGKILL to this process
//   stall     the thread sleeps until the failpoint is cleared or the process ends
//   error:N   FailpointStatus returns ErrnoError(N); plain HOLDFAST_FAILPOINT ignores it
//   wait:PATH the thread waits until a file PATH exists
//   mark:PATH the file PATH is created, then the thread goes on
// "@n" acts at the n-th passage only (from 1); without it at every passage.
// Every shipped binary has them, since what is killed in tests must be what users run; unarmed,
// a failpoint costs one load.
//
// Threads: any thread.  What happened before a failpoint was cleared happened before all passages
// that find it cleared: tests order what they do by it.
#pragma once

#include <atomic>
#include <string>
#include <string_view>

#include "common/result.h"

namespace holdfast {

namespace internal {
extern std::atomic<bool> failpoints_armed;
void HitFailpoint(std::string_view name);
Status HitFailpointStatus(std::string_view name);
}  // namespace internal

// Replaces all armed failpoints; an empty specification clears them.
// kInvalidArgument names the part that cannot be read; nothing changes then.
Status ArmFailpoints(std::string_view specification);

inline Status FailpointStatus(std::string_view name) {
  if (!internal::failpoints_armed.load(std::memory_order_acquire)) {
    return Ok();
  }
  return internal::HitFailpointStatus(name);
}

}  // namespace holdfast

#define HOLDFAST_FAILPOINT(name)                                                  \
  do {                                                                            \
    if (::holdfast::internal::failpoints_armed.load(std::memory_order_acquire)) { \
      ::holdfast::internal::HitFailpoint(name);                                   \
    }                                                                             \
  } while (false)
