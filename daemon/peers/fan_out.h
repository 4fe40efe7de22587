// The same work for many, a few at a time, from inside one coroutine.
//
//   const auto work = [&](std::size_t i) { return Ask(nodes[i], &answers[i]); };
//   co_await FanOut(executor, nodes.size(), 16, work);
//
// Threads:   the io thread only.
// Ownership: resumes when no work runs any more, so that it may use the caller's frame.
// Errors:    none; when the caller is cancelled, what runs is, and the rest is not begun.
#pragma once

#include <algorithm>
#include <cstddef>
#include <functional>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>

#include "common/task_group.h"
#include "common/with_timeout.h"

namespace holdfast::daemon {

// "work" is called with each number below "count", in rising order.
[[nodiscard]] inline boost::asio::awaitable<void> FanOut(
    boost::asio::any_io_executor executor,
    std::size_t count,
    std::size_t at_once,
    std::function<boost::asio::awaitable<void>(std::size_t)> work) {
  TaskGroup lanes(executor, "fan out", at_once);
  std::size_t next = 0;
  const auto lane = [&next, &work, count]() -> boost::asio::awaitable<void> {
    while (next < count && !co_await Cancelled()) {
      const std::size_t mine = next++;
      co_await work(mine);
    }
  };
  for (std::size_t i = 0; i < std::min(count, at_once); ++i) {
    (void)lanes.Spawn(lane());
  }
  co_await lanes.Finish();
}

}  // namespace holdfast::daemon
