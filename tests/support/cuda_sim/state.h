// The simulator's state: devices, streams, events and memory, behind one lock.
//
// Threads:   every member of State is guarded by its mutex, which no work of others (kernels,
//            copies, host functions) is done under.
// Ownership: State owns all; operations are shared by their stream and by the events that were
//            recorded as them.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <cuda_runtime_api.h>

#include "common/mutex.h"
#include "tests/support/cuda_sim/cuda_sim.h"
#include "tests/support/cuda_sim/quiet.h"

namespace holdfast::cuda_sim {

// A small generator (splitmix64): a stream has its own, so that seeds do not depend on each other.
class Random {
 public:
  explicit Random(std::uint64_t seed = 0) : state_(seed) {}

  std::uint64_t Next();

  std::uint64_t Below(std::uint64_t limit) { return limit == 0 ? 0 : Next() % limit; }

 private:
  std::uint64_t state_;
};

struct Range {
  std::uintptr_t begin = 0;
  std::uintptr_t end = 0;

  bool Overlaps(const Range& other) const { return begin < other.end && other.begin < end; }

  bool Holds(const Range& other) const { return begin <= other.begin && other.end <= end; }
};

Range RangeOf(const void* pointer, std::size_t bytes);

template <typename Pointer>
Pointer PointerOf(std::uintptr_t number) {
  return reinterpret_cast<Pointer>(number);  // NOLINT(performance-no-int-to-ptr): kept as numbers
}

// Addresses that the host may use: the private view of device memory.
struct Copy {
  char* to = nullptr;
  const char* from = nullptr;
  std::size_t bytes = 0;
};

struct Operation {
  std::function<void(Random&)> body;  // empty: a mark
  std::vector<std::shared_ptr<Operation>> after;
  std::vector<Copy> copies;         // what the body copies
  bool to_pinned = false;           // all of them
  std::vector<Range> uses;          // as the caller named them
  cudaError_t fault = cudaSuccess;  // the device has it when the turn has come
  bool done = false;
  std::chrono::steady_clock::time_point done_at;
  Token queued;
  Token finished;
};

struct Stream {
  std::uintptr_t handle = 0;
  int device = 0;
  unsigned flags = 0;
  int priority = 0;
  bool legacy = false;
  bool destroyed = false;
  cudaStreamCaptureStatus capture = cudaStreamCaptureStatusNone;
  cudaStreamCaptureMode capture_mode = cudaStreamCaptureModeGlobal;
  std::thread::id capture_thread;
  bool joined_capture = false;  // by an event of a stream that is captured
  Random random;
  std::deque<std::shared_ptr<Operation>> queue;  // the first is under way
  std::shared_ptr<Operation> last;
  CondVar changed;
  std::thread thread;
};

struct Event {
  int device = 0;
  bool timing = false;
  bool captured = false;
  std::shared_ptr<Operation> recorded;  // null: never
};

struct DeviceAllocation {
  Range range;
  char* view = nullptr;
  int device = 0;
};

struct HostRange {
  Range range;
  bool owned = false;  // of cudaHostAlloc
  bool read_only = false;
  unsigned flags = 0;
  int device = 0;
  // The same pages where a forked child sees them; null where the mapping is private.
  char* alias = nullptr;
  Range alias_mapping;
};

struct Device {
  std::size_t used = 0;
  cudaError_t sticky = cudaSuccess;
  std::unique_ptr<Stream> legacy;
};

struct Failure {
  std::string function;
  int left = 0;
  cudaError_t error = cudaSuccess;
  bool sticky = false;
};

struct State {
  Mutex mutex;
  CondVar done;  // an operation is done
  Options options HF_GUARDED_BY(mutex);
  std::uint64_t generation HF_GUARDED_BY(mutex) = 0;  // of Reset
  bool stopping HF_GUARDED_BY(mutex) = false;
  Random random HF_GUARDED_BY(mutex);
  std::vector<Device> devices HF_GUARDED_BY(mutex);
  std::uintptr_t next_handle HF_GUARDED_BY(mutex) = 0;
  std::map<std::uintptr_t, std::unique_ptr<Stream>> streams HF_GUARDED_BY(mutex);
  std::vector<std::unique_ptr<Stream>> retired HF_GUARDED_BY(mutex);
  std::map<std::uintptr_t, Event> events HF_GUARDED_BY(mutex);
  std::map<std::uintptr_t, DeviceAllocation> allocations HF_GUARDED_BY(mutex);  // by address
  std::vector<Range> reserved HF_GUARDED_BY(mutex);  // addresses of devices, freed ones too
  std::map<std::uintptr_t, HostRange> host_ranges HF_GUARDED_BY(mutex);
  std::size_t pinned HF_GUARDED_BY(mutex) = 0;
  std::vector<Failure> failures HF_GUARDED_BY(mutex);
  bool copies_held HF_GUARDED_BY(mutex) = false;
  std::map<std::string, int> calls HF_GUARDED_BY(mutex);
  std::vector<std::string> violations HF_GUARDED_BY(mutex);
};

// Made by the first call with default options, and never destroyed.
State& TheState();

// Lets go of the lock for a scope; the analysis does not follow a lock that was handed over.
class Unlocked {
 public:
  HF_THREAD_ANNOTATION(no_thread_safety_analysis)

  explicit Unlocked(MutexLock& lock) : lock_(lock) { lock_.Unlock(); }
  HF_THREAD_ANNOTATION(no_thread_safety_analysis)

  ~Unlocked() { lock_.Lock(); }

  Unlocked(const Unlocked&) = delete;
  Unlocked& operator=(const Unlocked&) = delete;

 private:
  MutexLock& lock_;
};

// What CUDA keeps for each thread; Of() clears what is left from before a Reset.
struct ThreadState {
  std::uint64_t generation = 0;
  int device = 0;
  cudaError_t last_error = cudaSuccess;
  cudaStreamCaptureMode capture_mode = cudaStreamCaptureModeGlobal;

  static ThreadState& Of(State& state) HF_REQUIRES(state.mutex);
};

// Nothing for an empty range.
void Unmap(const Range& range);

// True on a stream's thread while it runs a kernel or a host function.
bool& InStreamBody();

void AddViolation(State& state, std::string text) HF_REQUIRES(state.mutex);

// Invalidates a capture that is active.
void Invalidate(Stream& stream);

// --- streams (stream.cc)
// --------------------------------------------------------------------------

std::unique_ptr<Stream> NewStream(State& state, int device, unsigned flags)
    HF_REQUIRES(state.mutex);

// Null, with a violation, for a stream that is none.
Stream* FindStream(State& state, cudaStream_t handle, const char* function)
    HF_REQUIRES(state.mutex);

// Every stream that may have work, destroyed ones too.
std::vector<Stream*> AllStreams(State& state) HF_REQUIRES(state.mutex);

// Appends to the stream; what the caller did before happens before the operation's body.
void Enqueue(State& state, Stream& stream, const std::shared_ptr<Operation>& operation)
    HF_REQUIRES(state.mutex);

// Returns when it is done; what its body and those before it did happens before the return.  A null
// one is done.
void Await(State& state, MutexLock& lock, std::shared_ptr<Operation> operation)
    HF_REQUIRES(state.mutex);

// After something was put on it: waits where a default stream is to be done at once.
void Settle(State& state, MutexLock& lock, const Stream& stream) HF_REQUIRES(state.mutex);

// All that is queued on a device.
void AwaitDevice(State& state, MutexLock& lock, int device) HF_REQUIRES(state.mutex);

// An operation that is not done and uses the range, or null.  A device that has failed carries out
// none of those that it has.
std::shared_ptr<Operation> FindUser(State& state, const Range& range, bool on_failed_devices = true)
    HF_REQUIRES(state.mutex);

// Awaits all such.
void AwaitUsers(State& state, MutexLock& lock, const Range& range) HF_REQUIRES(state.mutex);

// --- capture (capture.cc)
// -------------------------------------------------------------------------

// Says what to do with an operation for a stream: success and *captured false: enqueue it.
// `wanted`: the capture is meant to have it (no violation).
cudaError_t CheckCapture(State& state,
                         Stream& stream,
                         const char* function,
                         bool wanted,
                         bool* captured) HF_REQUIRES(state.mutex);

// For a call that may not be made during a capture.
cudaError_t CheckUnsafe(State& state, const char* function) HF_REQUIRES(state.mutex);

}  // namespace holdfast::cuda_sim
