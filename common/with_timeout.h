// Time limits and sleeps for coroutines.
//
//   auto reply = co_await WithTimeout(std::chrono::seconds(5), ReadReply());  // Result<T>
//
// Threads:   the coroutine's executor (the io thread).
// Ownership: the operation runs to its end before WithTimeout returns: nothing of it stays behind
//            (I12).  An operation that cannot be cancelled therefore delays the timeout.
// Errors:    kTimeout after the limit; kCancelled when the caller was cancelled before; else what
//            the operation returns.
#pragma once

#include <chrono>
#include <string>
#include <utility>
#include <variant>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "common/result.h"

namespace holdfast {

// Whether the coroutine was asked to end.  To be looked at after each suspension: a cancellation
// ends only the wait that it meets, not the one begun after it.
[[nodiscard]] inline boost::asio::awaitable<bool> Cancelled() {
  const auto state = co_await boost::asio::this_coro::cancellation_state;
  co_return state.cancelled() != boost::asio::cancellation_type::none;
}

// kCancelled, at once, when the coroutine is or was cancelled.
[[nodiscard]] inline boost::asio::awaitable<Status> SleepFor(std::chrono::nanoseconds duration) {
  namespace asio = boost::asio;
  if (co_await Cancelled()) {
    co_return Error(Errc::kCancelled, "cancelled before a wait");
  }
  asio::steady_timer timer(co_await asio::this_coro::executor);
  timer.expires_after(std::chrono::duration_cast<asio::steady_timer::duration>(duration));
  const auto [error] = co_await timer.async_wait(asio::as_tuple(asio::use_awaitable));
  if (error) {
    co_return Error(Errc::kCancelled, "cancelled in a wait");
  }
  co_return Ok();
}

namespace internal {

// The operators start each side as a coroutine of its own, in which a cancelled co_await would
// throw; our code looks at Cancelled() instead.
template <class T>
boost::asio::awaitable<Result<T>> WithoutThrow(boost::asio::awaitable<Result<T>> operation) {
  co_await boost::asio::this_coro::throw_if_cancelled(false);
  co_return co_await std::move(operation);
}

inline boost::asio::awaitable<Status> SleepWithoutThrow(std::chrono::nanoseconds duration) {
  co_await boost::asio::this_coro::throw_if_cancelled(false);
  co_return co_await SleepFor(duration);
}

}  // namespace internal

template <class T>
[[nodiscard]] boost::asio::awaitable<Result<T>> WithTimeout(
    std::chrono::nanoseconds limit, boost::asio::awaitable<Result<T>> operation) {
  using boost::asio::experimental::awaitable_operators::operator||;
  if (co_await Cancelled()) {
    co_return Error(Errc::kCancelled, "cancelled before it began");
  }
  auto first = co_await (internal::WithoutThrow<T>(std::move(operation)) ||
                         internal::SleepWithoutThrow(limit));
  if (first.index() == 0) {
    co_return std::get<0>(std::move(first));
  }
  if (!std::get<1>(first).has_value()) {
    co_return Error(Errc::kCancelled, "cancelled");
  }
  const auto limit_ms = std::chrono::duration_cast<std::chrono::milliseconds>(limit).count();
  co_return Error(Errc::kTimeout, "no end after " + std::to_string(limit_ms) + " ms");
}

// Ends with kCancelled when "ender" ends first; the operation is then cancelled, as by WithTimeout.
template <class T>
[[nodiscard]] boost::asio::awaitable<Result<T>> Until(boost::asio::awaitable<Status> ender,
                                                      boost::asio::awaitable<Result<T>> operation) {
  using boost::asio::experimental::awaitable_operators::operator||;
  if (co_await Cancelled()) {
    co_return Error(Errc::kCancelled, "cancelled before it began");
  }
  auto first = co_await (internal::WithoutThrow<T>(std::move(operation)) ||
                         internal::WithoutThrow<void>(std::move(ender)));
  if (first.index() == 0) {
    co_return std::get<0>(std::move(first));
  }
  co_return Error(Errc::kCancelled, "cancelled");
}

}  // namespace holdfast
