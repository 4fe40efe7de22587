#include "daemon/process_watch.h"

#include <cerrno>
#include <string>
#include <utility>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/log.h"
#include "common/with_timeout.h"

namespace holdfast::daemon {

namespace asio = boost::asio;

ProcessWatch::ProcessWatch(const asio::any_io_executor& executor,
                           std::size_t limit,
                           std::function<void(std::uint64_t)> on_dead)
    : limit_(limit),
      on_dead_(std::move(on_dead)),
      // Twice: a watch that was replaced ends a moment later.
      tasks_(executor, "process watch", 2 * limit) {}

Status ProcessWatch::Watch(std::uint64_t token, transport::OwnedFd pidfd) {
  const auto found = watched_.find(token);
  if (found == watched_.end() && !HasRoom()) {
    return Error(Errc::kUnavailable,
                 "more than " + std::to_string(limit_) + " trainers are watched on this node");
  }
  if (found != watched_.end()) {
    found->second->cancel();
    watched_.erase(found);
  }
  boost::system::error_code error;
  auto descriptor = std::make_shared<Descriptor>(tasks_.executor());
  descriptor->assign(pidfd.Get(), error);
  if (error) {
    return ErrnoError(error.value(), "watch a trainer's process");
  }
  (void)pidfd.Release();
  watched_[token] = descriptor;
  if (!tasks_.Spawn(Wait(token, descriptor))) {
    watched_.erase(token);
    return Error(Errc::kUnavailable, "the watch over processes is ending");
  }
  return Ok();
}

void ProcessWatch::Forget(std::uint64_t token) {
  if (const auto found = watched_.find(token); found != watched_.end()) {
    found->second->cancel();
    watched_.erase(found);
  }
}

asio::awaitable<void> ProcessWatch::Wait(std::uint64_t token, std::shared_ptr<Descriptor> pidfd) {
  const auto [error] =
      co_await pidfd->async_wait(Descriptor::wait_read, asio::as_tuple(asio::use_awaitable));
  const auto found = watched_.find(token);
  const bool current = found != watched_.end() && found->second == pidfd;
  if (error || !current || co_await Cancelled()) {
    co_return;
  }
  watched_.erase(found);
  on_dead_(token);
}

void ProcessWatch::Stop() {
  tasks_.Stop();
}

asio::awaitable<bool> ProcessWatch::Join(std::chrono::milliseconds limit) {
  const bool joined = co_await tasks_.Join(limit);
  watched_.clear();
  co_return joined;
}

Result<transport::OwnedFd> OpenProcess(std::int32_t pid) {
  if (pid <= 0) {
    return Error(Errc::kNotFound, "no process has the number " + std::to_string(pid));
  }
  transport::OwnedFd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (!pidfd.Valid()) {
    const int number = errno;
    if (number == ESRCH) {
      return Error(Errc::kNotFound, "process " + std::to_string(pid) + " is gone", number);
    }
    return ErrnoError(number, "look for process " + std::to_string(pid));
  }
  return pidfd;
}

}  // namespace holdfast::daemon
