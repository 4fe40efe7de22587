// "Something may have changed", for any number of coroutines that wait, each until its own
// deadline.
//
// Threads:   the io thread only.
// Ownership: outlives the waits, so whoever waits shares its owner.
// Errors:    none; a wait ends at a notification, at its deadline, or at cancellation, and the
//            caller looks at its own condition in each case.
#pragma once

#include <chrono>
#include <list>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace holdfast::daemon {

class AsyncCondition {
 public:
  explicit AsyncCondition(const boost::asio::any_io_executor& executor) : executor_(executor) {}

  AsyncCondition(const AsyncCondition&) = delete;
  AsyncCondition& operator=(const AsyncCondition&) = delete;

  void NotifyAll() {
    for (boost::asio::steady_timer* waiter : waiting_) {
      waiter->cancel();
    }
  }

  [[nodiscard]] boost::asio::awaitable<void> WaitUntil(
      std::chrono::steady_clock::time_point deadline) {
    namespace asio = boost::asio;
    asio::steady_timer timer(executor_, deadline);
    const auto place = waiting_.insert(waiting_.end(), &timer);
    co_await timer.async_wait(asio::as_tuple(asio::use_awaitable));
    waiting_.erase(place);
  }

  [[nodiscard]] std::size_t waiting() const { return waiting_.size(); }

 private:
  const boost::asio::any_io_executor executor_;
  std::list<boost::asio::steady_timer*> waiting_;
};

}  // namespace holdfast::daemon
