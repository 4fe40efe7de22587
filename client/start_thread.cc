#include "client/start_thread.h"

#include <string>
#include <system_error>
#include <utility>

namespace holdfast::client {

Result<std::thread> StartThread(std::function<void()> work) {
  try {
    return std::thread(std::move(work));
  } catch (const std::system_error& error) {
    return Error(Errc::kIoError,
                 "cannot start a thread: " + std::string(error.what()) +
                     " (raise ulimit -u, or pids.max of the cgroup)");
  }
}

Status StartThreads(std::size_t count,
                    const std::function<void()>& work,
                    std::vector<std::thread>* threads,
                    const ThreadStarter& start) {
  threads->reserve(threads->size() + count);  // later it could throw, with a thread in hand
  for (std::size_t i = 0; i < count; ++i) {
    HF_TRY(std::thread thread, start(work));
    threads->push_back(std::move(thread));
  }
  return Ok();
}

}  // namespace holdfast::client
