// Mutex, lock and condition variable that clang's -Wthread-safety understands.
//
// std::mutex carries no annotations in Debian's libstdc++, so the compiler could not say that a
// GUARDED_BY member is read without its lock.  These wrappers add nothing else.
//
//   Mutex mutex_;
//   int queued_ HF_GUARDED_BY(mutex_) = 0;
//
//   MutexLock lock(mutex_);
//   while (queued_ == 0) {               // a plain loop: the analysis cannot see into a lambda
//     if (!changed_.WaitUntil(lock, deadline)) { return timed out; }
//   }
//
// Threads: the point of it.
// Errors:  none; a wait without deadline is not offered, so no thread can be stuck for ever.
#pragma once

#include <condition_variable>
#include <mutex>

#include "common/clock.h"

#if defined(__clang__)
#define HF_THREAD_ANNOTATION(x) __attribute__((x))
#else
#define HF_THREAD_ANNOTATION(x)
#endif

#define HF_GUARDED_BY(x) HF_THREAD_ANNOTATION(guarded_by(x))
#define HF_PT_GUARDED_BY(x) HF_THREAD_ANNOTATION(pt_guarded_by(x))
#define HF_REQUIRES(...) HF_THREAD_ANNOTATION(requires_capability(__VA_ARGS__))
#define HF_EXCLUDES(...) HF_THREAD_ANNOTATION(locks_excluded(__VA_ARGS__))

namespace holdfast {

class HF_THREAD_ANNOTATION(capability("mutex")) Mutex {
 public:
  Mutex() = default;
  Mutex(const Mutex&) = delete;
  Mutex& operator=(const Mutex&) = delete;

  void Lock() HF_THREAD_ANNOTATION(acquire_capability()) { mutex_.lock(); }

  void Unlock() HF_THREAD_ANNOTATION(release_capability()) { mutex_.unlock(); }

 private:
  friend class MutexLock;
  std::mutex mutex_;
};

class HF_THREAD_ANNOTATION(scoped_lockable) MutexLock {
 public:
  explicit MutexLock(Mutex& mutex) HF_THREAD_ANNOTATION(acquire_capability(mutex))
      : lock_(mutex.mutex_) {}

  ~MutexLock() HF_THREAD_ANNOTATION(release_capability()) = default;

  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

  // For work that must not hold the lock; Lock() again before the members are touched.
  void Unlock() HF_THREAD_ANNOTATION(release_capability()) { lock_.unlock(); }

  void Lock() HF_THREAD_ANNOTATION(acquire_capability()) { lock_.lock(); }

 private:
  friend class CondVar;
  std::unique_lock<std::mutex> lock_;
};

class CondVar {
 public:
  CondVar() = default;
  CondVar(const CondVar&) = delete;
  CondVar& operator=(const CondVar&) = delete;

  // Lets go of the lock while it waits.  False once the deadline has passed; like every condition
  // variable it may also wake for no reason, so the caller's condition is tested in a loop.
  bool WaitUntil(MutexLock& lock, MonotonicTime deadline) {
    return condition_.wait_until(lock.lock_, deadline) == std::cv_status::no_timeout;
  }

  void NotifyOne() { condition_.notify_one(); }

  void NotifyAll() { condition_.notify_all(); }

 private:
  std::condition_variable condition_;
};

}  // namespace holdfast
