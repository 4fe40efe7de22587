// Threads of the library, which is a guest: its trainer may have no more of them (ulimit -u, the
// pids.max of a cgroup), and must not end by that.
//
// Threads: any.
// Errors:  kIoError where the system refuses a thread.
#pragma once

#include <cstddef>
#include <functional>
#include <thread>
#include <vector>

#include "common/result.h"

namespace holdfast::client {

[[nodiscard]] Result<std::thread> StartThread(std::function<void()> work);

// Its seam, for tests that play a system that refuses.
using ThreadStarter = std::function<Result<std::thread>(std::function<void()> work)>;

// Adds "count" threads that run "work" to "threads"; fewer, and why, where one is refused: those
// that are there go on.
[[nodiscard]] Status StartThreads(std::size_t count,
                                  const std::function<void()>& work,
                                  std::vector<std::thread>* threads,
                                  const ThreadStarter& start = StartThread);

}  // namespace holdfast::client
