// Keeps a fork of the trainer from being a second client.
//
// A forked data-loader worker inherits the socket: it would keep the session alive after the
// trainer died, and two processes writing one stream would cut each other's frames.  An atfork
// handler closes the descriptors in the child, by number and without a lock or an allocation, and
// marks every client there as dead.
//
// Threads:   any thread.  While a Section lives, no fork happens in this process: a descriptor that
//            is made and registered, or received and closed or registered, within one is never
//            inherited unseen.
// Ownership: borrows descriptors; the registry outlives every guard and is never destroyed.
// Errors:    none.
// Lifecycle: one guard a client, constructed before its first descriptor and destroyed after its
// last.
#pragma once

#include <atomic>

namespace holdfast::client {

class ForkGuard {
 public:
  // How many descriptors of one client are closed in a child: its own two, and what a daemon may
  // have sent that is not used yet.
  static constexpr int kWatched = 2 + 64;

  // Holds off every fork.  Short: never across a wait.
  class Section {
   public:
    Section();
    ~Section();
    Section(const Section&) = delete;
    Section& operator=(const Section&) = delete;
  };

  ForkGuard();
  ~ForkGuard();
  ForkGuard(const ForkGuard&) = delete;
  ForkGuard& operator=(const ForkGuard&) = delete;

  // From now on a child closes "fd" (-1: nothing) in the place "which" (below kWatched).  Only
  // within a Section; BEFORE the descriptor is closed it must be taken out again.
  void Watch(int which, int fd);

  // Whether this process is a fork of the one that made the client.
  [[nodiscard]] bool Forked() const { return forked_.load(std::memory_order_relaxed); }

 private:
  static void Prepare();
  static void InParent();
  static void InChild();

  std::atomic<bool> forked_{false};
  int fds_[kWatched] = {};     // guarded by the registry's mutex; -1: nothing
  ForkGuard* next_ = nullptr;  // likewise
};

}  // namespace holdfast::client
