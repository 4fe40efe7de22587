// The one thread that owns the core, and the check that a function runs on it.
//
// daemon/core and everything around it that has no lock is safe only because a single thread
// touches it.  A call from a worker would work in every test and lose a snapshot once a month; so
// the owners of such state check the thread at their doors.
//
//   io_thread_.Check();  // first line of a function that may run on the io thread only
//
// Threads:   Bind on the io thread; Check and IsCurrent anywhere.
// Ownership: nothing.
// Errors:    Check ends the process on any other thread: a broken contract between our own
//            functions, never a matter of input.
// Lifecycle: before Bind every thread passes, so that start-up can build things on the main thread.
#pragma once

#include <atomic>
#include <thread>

#include "common/check.h"

namespace holdfast {

class IoThread {
 public:
  IoThread() = default;
  IoThread(const IoThread&) = delete;
  IoThread& operator=(const IoThread&) = delete;

  // The calling thread is the io thread from now on.
  void Bind() { id_.store(std::this_thread::get_id(), std::memory_order_release); }

  [[nodiscard]] bool IsCurrent() const {
    const auto id = id_.load(std::memory_order_acquire);
    return id == std::thread::id() || id == std::this_thread::get_id();
  }

  void Check() const { HOLDFAST_CHECK(IsCurrent()); }

 private:
  std::atomic<std::thread::id> id_{};
};

}  // namespace holdfast
