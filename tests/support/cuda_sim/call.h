// The frame of each function of the runtime: counts it, fails it where a test wants that or the
// device has a sticky error, and keeps the thread's last error.
//
//   State& state = TheState();
//   Call call(state, "cudaStreamQuery", kUnsafeInCapture);
//   if (!call.ok()) return call.error();
//   ...
//   return call.Return(cudaErrorNotReady);
//
// Threads: holds the simulator's lock, hidden from ThreadSanitizer, as long as it lives.
#pragma once

#include "tests/support/cuda_sim/state.h"

namespace holdfast::cuda_sim {

inline constexpr unsigned kWithoutDriver = 1;    // works without a driver
inline constexpr unsigned kIgnoresSticky = 2;    // works on a device that has failed
inline constexpr unsigned kUnsafeInCapture = 4;  // prohibited while a stream is captured
// Gives a resource back even on a device that has failed: its error is returned in the end.
inline constexpr unsigned kGivesBack = 8;

class HF_THREAD_ANNOTATION(scoped_lockable) Call {
 public:
  Call(State& state, const char* function, unsigned traits = 0)
      HF_THREAD_ANNOTATION(acquire_capability(state.mutex));
  ~Call() HF_THREAD_ANNOTATION(release_capability());
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  bool ok() const { return error_ == cudaSuccess; }

  cudaError_t error() const { return error_; }

  // Makes it the thread's last error if it is one.
  cudaError_t Return(cudaError_t error);

  const char* function() const { return function_; }

  ThreadState& thread() { return *thread_; }

  MutexLock& lock() { return lock_; }

 private:
  void Check(State& state, unsigned traits) HF_REQUIRES(state.mutex);
  bool Injected(State& state) HF_REQUIRES(state.mutex);

  Quiet quiet_;
  MutexLock lock_;
  const char* function_;
  ThreadState* thread_ = nullptr;
  cudaError_t error_ = cudaSuccess;
  cudaError_t at_return_ = cudaSuccess;
};

}  // namespace holdfast::cuda_sim
