// Keeps this process's signal handlers while libfabric is loaded and opened.  For
// transport/fabric_* only.
//
// Some of what libfabric brings along takes signals over without being asked: libpsm prints a
// backtrace of its own at SIGSEGV and SIGBUS, shm ends the process at SIGTERM.  The daemon has its
// own answers (a slot that shrinks, an orderly stop).
//
// Threads:   one at a time, at start-up; a handler that is set meanwhile by another thread is lost.
#pragma once

#include <array>
#include <csignal>
#include <cstddef>

namespace holdfast::transport {

class KeptSignals {
 public:
  KeptSignals() {
    for (std::size_t i = 0; i < kSignals.size(); ++i) {
      (void)sigaction(kSignals[i], nullptr, &kept_[i]);
    }
  }

  ~KeptSignals() {
    for (std::size_t i = 0; i < kSignals.size(); ++i) {
      (void)sigaction(kSignals[i], &kept_[i], nullptr);
    }
  }

  KeptSignals(const KeptSignals&) = delete;
  KeptSignals& operator=(const KeptSignals&) = delete;

 private:
  static constexpr std::array kSignals{
      SIGABRT, SIGBUS, SIGFPE, SIGHUP, SIGILL, SIGINT, SIGQUIT, SIGSEGV, SIGTERM};

  std::array<struct sigaction, kSignals.size()> kept_{};
};

}  // namespace holdfast::transport
