// Admits a bounded number of coroutines at a time, in the order in which they came.
//
//   HF_CO_TRY(auto permit, co_await flushes.Acquire());   // released when the permit is destroyed
//
// Threads:   the io thread only.
// Ownership: permits share the state, so they may outlive the semaphore.
// Errors:    kCancelled when the waiter is cancelled; it leaves the line then.
#pragma once

#include <cstddef>
#include <list>
#include <memory>
#include <utility>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "common/result.h"
#include "common/with_timeout.h"

namespace holdfast::daemon {

class AsyncSemaphore {
  struct Waiter {
    explicit Waiter(const boost::asio::any_io_executor& executor)
        : wake(executor, boost::asio::steady_timer::time_point::max()) {}

    boost::asio::steady_timer wake;
    bool admitted = false;
  };

  struct State {
    boost::asio::any_io_executor executor;
    std::size_t free = 0;
    std::list<Waiter*> line;

    void Release() {
      if (line.empty()) {
        ++free;
        return;
      }
      // Handed over, not put back: a newcomer cannot overtake the line.
      Waiter* next = line.front();
      line.pop_front();
      next->admitted = true;
      next->wake.cancel();
    }
  };

 public:
  class Permit {
   public:
    explicit Permit(std::shared_ptr<State> state) : state_(std::move(state)) {}

    ~Permit() {
      if (state_ != nullptr) {
        state_->Release();
      }
    }

    Permit(Permit&& other) noexcept = default;
    Permit& operator=(Permit&&) = delete;
    Permit(const Permit&) = delete;
    Permit& operator=(const Permit&) = delete;

   private:
    std::shared_ptr<State> state_;
  };

  AsyncSemaphore(const boost::asio::any_io_executor& executor, std::size_t permits)
      : state_(std::make_shared<State>()) {
    state_->executor = executor;
    state_->free = permits;
  }

  [[nodiscard]] boost::asio::awaitable<Result<Permit>> Acquire() {
    namespace asio = boost::asio;
    const std::shared_ptr<State> state = state_;
    if (co_await Cancelled()) {
      co_return Error(Errc::kCancelled, "cancelled before its turn");
    }
    if (state->free > 0) {
      --state->free;
      co_return Permit(state);
    }
    Waiter self(state->executor);
    state->line.push_back(&self);
    while (!self.admitted) {
      co_await self.wake.async_wait(asio::as_tuple(asio::use_awaitable));
      if (!self.admitted && co_await Cancelled()) {
        state->line.remove(&self);
        co_return Error(Errc::kCancelled, "cancelled while waiting for its turn");
      }
    }
    co_return Permit(state);
  }

 private:
  std::shared_ptr<State> state_;
};

}  // namespace holdfast::daemon
