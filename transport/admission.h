// Admits up to a weight at one time, in the order in which they came; the others wait, each with a
// deadline.  Who was admitted while it waited goes on only when the loop comes to it: others that
// come meanwhile may go on first.
//
// What bounds the requests in flight, the bytes of a send queue, and the bytes of replies that are
// being made: the sender is suspended, never the memory stretched.
//
//   HF_CO_TRYV(co_await room.Acquire(bytes, deadline));
//   ...
//   room.Release(bytes);
//
// Threads:   the io thread only.
// Ownership: waiting coroutines share the state, so it may be destroyed (after Close) before they
//            have run.
// Errors:    kTimeout at the deadline, kCancelled when the waiter is cancelled, and after Close its
//            error; nothing is held then.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>

#include "common/error.h"
#include "common/result.h"

namespace holdfast::transport {

using Deadline = std::chrono::steady_clock::time_point;

class Admission {
 public:
  Admission(const boost::asio::any_io_executor& executor, std::uint64_t capacity);

  Admission(const Admission&) = delete;
  Admission& operator=(const Admission&) = delete;

  // Who asks for more than the capacity gets in alone.
  [[nodiscard]] boost::asio::awaitable<Status> Acquire(std::uint64_t weight, Deadline deadline);

  // Of an Acquire that gave Ok, with the same weight.
  void Release(std::uint64_t weight);

  // Those inside stay; a smaller one takes effect as they leave.
  void SetCapacity(std::uint64_t capacity);

  // Ends all waits, now and later.  The first error stays.
  void Close(const Error& why);

  [[nodiscard]] std::uint64_t held() const;
  [[nodiscard]] std::size_t waiting() const;

 private:
  struct State;
  const std::shared_ptr<State> state_;
};

}  // namespace holdfast::transport
