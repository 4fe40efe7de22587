// The death of a process whose device still writes into memory that others have too.
#include <cerrno>
#include <csignal>
#include <cstring>
#include <ctime>

#include <sys/syscall.h>
#include <unistd.h>

#include "tests/support/cuda_sim/memory.h"

namespace holdfast::cuda_sim {
namespace {

// What lands: the targets as the child sees them.
std::vector<Copy> Landings(State& state) HF_REQUIRES(state.mutex) {
  std::vector<Copy> landings;
  for (const Stream* stream : AllStreams(state)) {
    for (const auto& operation : stream->queue) {
      for (const Copy& copy : operation->copies) {
        const auto target = reinterpret_cast<std::uintptr_t>(copy.to);
        const HostRange* host = FindPinned(state, target);
        if (host == nullptr || host->alias == nullptr) {
          continue;
        }
        landings.push_back({host->alias + (target - host->range.begin), copy.from, copy.bytes});
      }
    }
  }
  return landings;
}

// In a child of a process with threads: nothing here takes a lock or allocates.
[[noreturn]] void LandAndExit(const std::vector<Copy>& landings,
                              std::chrono::milliseconds delay,
                              bool keep_descriptors) {
  if (!keep_descriptors) {
    ::syscall(SYS_close_range, 0U, ~0U, 0U);
  }
  timespec left{};
  left.tv_sec = delay.count() / 1000;
  left.tv_nsec = delay.count() % 1000 * 1'000'000;
  while (::nanosleep(&left, &left) != 0 && errno == EINTR) {
  }
  for (const Copy& copy : landings) {
    std::memcpy(copy.to, copy.from, copy.bytes);
  }
  while (true) {
    ::syscall(SYS_exit_group, 0);
  }
}

}  // namespace

void DieWithCopiesLanding(std::chrono::milliseconds delay, bool keep_descriptors) {
  State& state = TheState();
  const Quiet quiet;
  const MutexLock lock(state.mutex);
  const std::vector<Copy> landings = Landings(state);
  // Not fork(): handlers of the C library and of sanitizers would wait for threads' locks.
  const long child = ::syscall(SYS_clone, SIGCHLD, nullptr, nullptr, nullptr, nullptr);
  if (child == 0) {
    LandAndExit(landings, delay, keep_descriptors);
  }
  while (true) {
    ::kill(::getpid(), SIGKILL);
  }
}

}  // namespace holdfast::cuda_sim
