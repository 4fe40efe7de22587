#include "cli/interrupt.h"

#include <csignal>

namespace holdfast::cli {
namespace {

std::atomic<bool> interrupted = false;
static_assert(std::atomic<bool>::is_always_lock_free, "set in a signal handler");

void OnSignal(int number) {
  if (interrupted.exchange(true)) {
    // The default action now, for who does not want to wait.
    std::signal(number, SIG_DFL);
    std::raise(number);
  }
}

}  // namespace

void InstallInterruptHandler() {
  struct sigaction action {};

  action.sa_handler = OnSignal;
  sigemptyset(&action.sa_mask);
  // No SA_RESTART: a prompt or a wait for the daemon ends with EINTR.
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

const std::atomic<bool>* InterruptFlag() {
  return &interrupted;
}

void SetInterrupted(bool value) {
  interrupted.store(value);
}

}  // namespace holdfast::cli
