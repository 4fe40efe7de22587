// A flag that one coroutine waits for and others raise.
//
// Threads:   the io thread only.
// Ownership: the executor's context must outlive it.
// Errors:    none; a wait ends at the notification, at its limit, or at cancellation, and the
// caller
//            looks at its own condition in each case.
#pragma once

#include <chrono>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace holdfast::daemon {

class AsyncEvent {
 public:
  explicit AsyncEvent(const boost::asio::any_io_executor& executor) : timer_(executor) {}

  AsyncEvent(const AsyncEvent&) = delete;
  AsyncEvent& operator=(const AsyncEvent&) = delete;

  // Ends the wait under way, or makes the next one end at once: no notification is lost.
  void Notify() {
    raised_ = true;
    timer_.cancel();
  }

  // One waiter at a time.
  [[nodiscard]] boost::asio::awaitable<void> Wait(std::chrono::milliseconds limit) {
    namespace asio = boost::asio;
    if (!raised_) {
      timer_.expires_after(limit);
      co_await timer_.async_wait(asio::as_tuple(asio::use_awaitable));
    }
    raised_ = false;
  }

 private:
  boost::asio::steady_timer timer_;
  bool raised_ = false;
};

}  // namespace holdfast::daemon
