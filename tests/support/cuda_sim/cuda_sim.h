// A simulated CUDA runtime for tests: link a program with :cuda_sim in place of
// @cuda//:cudart_static and the same object code runs without a device.
//
// Each stream is a thread that works off its queue with seeded delays.  Device memory is memory of
// the host whose address faults when the host touches it; copies land in pieces in any order.  What
// CUDA does not order is not ordered here either, for ThreadSanitizer too: it sees the edges that
// CUDA guarantees (issue to execution, record to wait, synchronize, a query that says success) and
// none from the simulator's own locks.
//
// Threads:   all functions from any thread, except Reset and DieWithCopiesLanding: no other thread
//            may be in a call then.
// Ownership: Reset ends every stream, drops what they had queued, and frees all memory of devices
//            and of cudaHostAlloc.  It forgets leaks and violations: look at them before.
// Errors:    as CUDA's.  What CUDA would let pass, or answer with corrupted memory, is a violation.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include <cuda_runtime_api.h>

namespace holdfast::cuda_sim {

struct Options {
  std::uint64_t seed = 1;
  std::chrono::microseconds max_delay{30};  // before an operation and between pieces of a copy
  int devices = 1;
  std::size_t device_bytes = std::size_t{1} << 30;  // of each device
  std::size_t pinned_bytes = std::size_t{1} << 40;  // that may be registered or allocated in all
  int driver_version = 13000;                       // 0: no driver; a lower major: too old
  // For a trainer without a GPU: memory of the host that is neither pinned nor allocated here
  // counts as a device's, where a copy does not say otherwise, and what is put on a device's
  // default stream is done when the call returns, so that the trainer's own work on that memory
  // comes in its order.
  bool host_is_device = false;
};

// Also ends the errors of FailCall, captures and sticky errors.
void Reset(const Options& options);

// --- what goes on inside
// --------------------------------------------------------------------------

// A kernel: runs in stream order on the stream's thread.  It reads and writes device memory by
// HostView and calls nothing of CUDA.
cudaError_t Launch(cudaStream_t stream, std::function<void()> kernel);

// Where the bytes behind a device address are for the host; null outside of an allocation.
void* HostView(const void* device_pointer);

template <typename T>
T* HostViewAs(const void* device_pointer) {
  return static_cast<T*>(HostView(device_pointer));
}

// --- what was done wrong
// --------------------------------------------------------------------------

struct LeakCount {
  int streams = 0;
  int events = 0;
  int device_allocations = 0;
  int host_allocations = 0;
  int registrations = 0;

  int Total() const {
    return streams + events + device_allocations + host_allocations + registrations;
  }
};

// What is alive.
LeakCount Leaks();

// Since Reset, in order: use of what was destroyed, memory given back under a queued copy, accesses
// outside of an allocation, dependent copies in one batch, anything captured into a graph by
// accident.
std::vector<std::string> Violations();

// Memory that was handed back to its owner just now: a violation where a copy may still land in it
// (queued or under way, on a device that has not failed).  "what": for the text.
void ExpectAtRest(const void* pointer, std::size_t bytes, const std::string& what);

// --- failures
// -------------------------------------------------------------------------------------

// The nth call (1: the next) of a function, such as "cudaMemcpyAsync", or of any function ("*"),
// does nothing but return `error`.  Sticky: every later call on the device that is current then
// returns it too, and nothing that is queued there is carried out any more.
void FailCall(const std::string& function, int nth, cudaError_t error, bool sticky = false);

// How often a function ("*": any) was called since Reset.
int CallCount(const std::string& function);

// A kernel that goes wrong: the device of `stream` has the sticky error once its turn has come.
cudaError_t FaultInStream(cudaStream_t stream, cudaError_t error);

// While held, copies to pinned memory do not begin; what waits for them waits.
void HoldCopiesToHost(bool held);

// --- capture
// --------------------------------------------------------------------------------------

// Launch on a capturing stream is captured (and never run); any other operation is, with a
// violation.  Calls that may not be made during a capture of this mode invalidate it.
void BeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal);

// Success, or why there is no graph.
cudaError_t EndCapture(cudaStream_t stream);

// --- death
// ----------------------------------------------------------------------------------------

// Kills this process by SIGKILL.  The copies to registered shared memory that were queued or under
// way land after `delay` all the same, as a device does it: from a child that has none of this
// process's descriptors, unless `keep_descriptors`.
[[noreturn]] void DieWithCopiesLanding(std::chrono::milliseconds delay,
                                       bool keep_descriptors = false);

}  // namespace holdfast::cuda_sim
