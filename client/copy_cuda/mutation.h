// Faults that a test builds into the engine, to show that the exploration of orders finds them.
//
// A library has none of them: there Mutated() is the constant false, and the code behind it is
// gone.  Only the test-only build of the same sources (:copy_cuda_mutated) lets a test choose one.
//
// Threads:   any; a test chooses while there is no engine.
#pragma once

namespace holdfast::client {

enum class Mutation {
  kNone,
  kFenceWithoutHostWait,  // the stream may wait for an event that is not recorded yet
  kDoneEventReused,       // one for all snapshots: the second fence finds it recorded
  kFreeBeforeLastCopy,    // a snapshot ends, and gives back what it has, with its last copy queued
  kSampleAfterDone,       // the sample is read again behind the event that opens the fence
  kCopiesDoNotWaitForBegin,  // they start before the trainer's stream has come to the snapshot
  kFenceWithoutDeviceWait,   // the host waits until all is issued, the stream for nothing
  kNamedStreamIgnored,       // the fence holds back the streams of the snapshot only
  kCurrentDeviceLeft,        // the trainer's thread goes on with another current device
  kStagingFreedAtOnce,       // the next snapshot is staged over what is still being copied out
};

#ifdef HOLDFAST_CUDA_MUTATIONS
[[nodiscard]] bool Mutated(Mutation mutation);  // defined by the test
#else
[[nodiscard]] constexpr bool Mutated(Mutation /*mutation*/) {
  return false;
}
#endif

}  // namespace holdfast::client
