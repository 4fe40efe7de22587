// Watches the processes of registered trainers: the word of the kernel that one is dead.
//
// The end of a connection proves nothing (a forked data loader keeps it open; a trainer may
// reconnect), so a trainer's slots are kept until its pidfd says that the process is gone.  The
// watch therefore outlives the connection.
//
// Threads:   the io thread only.
// Ownership: owns the pidfds.
// Errors:    kUnavailable: too many watched processes.
// Lifecycle: construct -> Watch -> Stop -> Join -> destroy.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>

#include "common/result.h"
#include "common/task_group.h"
#include "transport/owned_fd.h"

namespace holdfast::daemon {

class ProcessWatch {
 public:
  // "on_dead" is called once with the session token of each process that ends while watched.
  ProcessWatch(const boost::asio::any_io_executor& executor,
               std::size_t limit,
               std::function<void(std::uint64_t)> on_dead);

  ProcessWatch(const ProcessWatch&) = delete;
  ProcessWatch& operator=(const ProcessWatch&) = delete;

  // The process behind "token" from now on; takes the place of an earlier one (the session was
  // resumed elsewhere).  A pidfd that is readable already is a dead process.
  [[nodiscard]] Status Watch(std::uint64_t token, transport::OwnedFd pidfd);

  // The token was not given to the process after all.
  void Forget(std::uint64_t token);

  // Whether one more can be watched: asked before a session is admitted.
  [[nodiscard]] bool HasRoom() const { return watched_.size() < limit_; }

  [[nodiscard]] bool IsWatched(std::uint64_t token) const { return watched_.contains(token); }

  [[nodiscard]] std::size_t size() const { return watched_.size(); }

  void Stop();
  [[nodiscard]] boost::asio::awaitable<bool> Join(std::chrono::milliseconds limit);

 private:
  using Descriptor = boost::asio::posix::stream_descriptor;

  [[nodiscard]] boost::asio::awaitable<void> Wait(std::uint64_t token,
                                                  std::shared_ptr<Descriptor> pidfd);

  const std::size_t limit_;
  const std::function<void(std::uint64_t)> on_dead_;
  std::map<std::uint64_t, std::shared_ptr<Descriptor>> watched_;
  TaskGroup tasks_;
};

// A descriptor of a process by its number; kNotFound where there is none.  Another process may have
// taken the number of a dead one: who knows a better source (the socket) uses that.
[[nodiscard]] Result<transport::OwnedFd> OpenProcess(std::int32_t pid);

}  // namespace holdfast::daemon
