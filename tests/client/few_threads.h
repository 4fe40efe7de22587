// A system that gives a process so many threads and refuses all others.
//
// Threads: as its copies are called; an engine's constructor is one thread.
#pragma once

#include <functional>
#include <memory>
#include <thread>
#include <utility>

#include "client/start_thread.h"
#include "common/result.h"

namespace holdfast::client {

inline ThreadStarter FewThreads(int granted) {
  return
      [left = std::make_shared<int>(granted)](std::function<void()> work) -> Result<std::thread> {
        if (*left == 0) {
          return Error(Errc::kIoError, "cannot start a thread: there are no more");
        }
        --*left;
        return StartThread(std::move(work));
      };
}

}  // namespace holdfast::client
