// Runs coroutines of a test on an io_context of the test's own thread.
#pragma once

#include <chrono>
#include <exception>
#include <optional>
#include <utility>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/this_coro.hpp>
#include <gtest/gtest.h>

namespace holdfast::tests {

template <class T>
boost::asio::awaitable<void> Keep(boost::asio::awaitable<T> task, std::optional<T>* result) {
  co_await boost::asio::this_coro::throw_if_cancelled(false);
  result->emplace(co_await std::move(task));
}

// Runs "io" until the task has ended; a test that hangs fails after a minute.
template <class T>
T RunCoroutine(boost::asio::io_context& io, boost::asio::awaitable<T> task) {
  std::optional<T> result;
  bool ended = false;
  std::exception_ptr thrown;
  auto at_end = [&](std::exception_ptr e) {
    thrown = e;
    ended = true;
  };
  boost::asio::co_spawn(io, Keep<T>(std::move(task), &result), at_end);
  io.restart();
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::minutes(1);
  while (!ended && std::chrono::steady_clock::now() < deadline) {
    io.run_one_for(std::chrono::milliseconds(100));
  }
  EXPECT_TRUE(ended) << "the coroutine did not end";
  if (thrown != nullptr) {
    std::rethrow_exception(thrown);
  }
  return std::move(*result);
}

}  // namespace holdfast::tests
