// Blocking work on a pool of worker threads, awaited from a coroutine.
//
//   auto read = [path] { return ReadBlocking(path); };      // named first: rule R1
//   Result<std::string> text = co_await Offload(disk_pool, std::move(read));
//
// The only way from the io thread to a worker: `co_await asio::post(pool, use_awaitable)` resumes
// on the coroutine's own executor, so that the "offloaded" work would block the io thread in
// silence.
//
// Threads:   called and resumed on the coroutine's executor (the io thread); the function runs on a
//            worker and is destroyed there.
// Ownership: the function owns what it touches; it must not refer to the coroutine's frame where
//            OffloadOrAbandon is used, since it may outlive it.
// Errors:    what the function returns; kInternal for an exception that escaped it.
// Lifecycle: a pool is destroyed (which joins its threads) before the io_context that its callers
//            run on.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "common/result.h"

namespace holdfast {

// A fixed number of threads.  Its queue holds at most one function for each coroutine that waits
// for it, and coroutines are bounded by their TaskGroups: so the queue is bounded too.
class WorkerPool {
 public:
  WorkerPool(std::string name, std::size_t threads)
      : name_(std::move(name)), size_(threads), pool_(threads) {}

  // Waits for functions that run; those that have not begun are dropped.
  ~WorkerPool() {
    pool_.stop();
    pool_.join();
  }

  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  [[nodiscard]] const std::string& name() const { return name_; }

  [[nodiscard]] std::size_t size() const { return size_; }

  // Functions that run or wait.  A shutdown looks at it: a function that hangs in a file system can
  // neither be joined nor killed.
  [[nodiscard]] std::size_t pending() const { return pending_->load(std::memory_order_relaxed); }

  // For Offload alone.
  [[nodiscard]] auto executor() { return pool_.get_executor(); }

  [[nodiscard]] const std::shared_ptr<std::atomic<std::size_t>>& pending_counter() const {
    return pending_;
  }

 private:
  const std::string name_;
  const std::size_t size_;
  const std::shared_ptr<std::atomic<std::size_t>> pending_ =
      std::make_shared<std::atomic<std::size_t>>(0);
  boost::asio::thread_pool pool_;
};

namespace internal {

// Touched on the home executor only, but for "abandoned".
template <class ResultType>
struct OffloadState {
  explicit OffloadState(const boost::asio::any_io_executor& home)
      : wake(home, boost::asio::steady_timer::time_point::max()) {}

  std::optional<ResultType> result;
  boost::asio::steady_timer wake;  // never expires: cancelled when the result is there
  std::atomic<bool> abandoned{false};
};

template <class Function>
std::invoke_result_t<Function> RunCaught(Function& function) {
  try {
    return function();
  } catch (const std::exception& e) {
    return Error(Errc::kInternal,
                 std::string("an exception escaped a worker's function: ") + e.what());
  } catch (...) {
    return Error(Errc::kInternal, "an exception of unknown type escaped a worker's function");
  }
}

// Counts a function for as long as it exists, also where the pool drops it unrun.
class PendingCount {
 public:
  explicit PendingCount(std::shared_ptr<std::atomic<std::size_t>> counter)
      : counter_(std::move(counter)) {
    counter_->fetch_add(1, std::memory_order_relaxed);
  }

  ~PendingCount() {
    if (counter_ != nullptr) {
      counter_->fetch_sub(1, std::memory_order_relaxed);
    }
  }

  PendingCount(PendingCount&& other) noexcept = default;
  PendingCount& operator=(PendingCount&&) = delete;
  PendingCount(const PendingCount&) = delete;
  PendingCount& operator=(const PendingCount&) = delete;

 private:
  std::shared_ptr<std::atomic<std::size_t>> counter_;
};

// What the pool holds: runs the function, destroys it on the worker, then hands the result home.
template <class Function, class State>
class OffloadJob {
 public:
  OffloadJob(WorkerPool& pool,
             Function function,
             std::shared_ptr<State> state,
             const boost::asio::any_io_executor& home)
      : pending_(pool.pending_counter()),
        function_(std::move(function)),
        state_(std::move(state)),
        home_(home) {}

  void operator()() {
    using ResultType = std::invoke_result_t<Function>;
    std::optional<ResultType> result;
    if (!state_->abandoned.load(std::memory_order_acquire)) {
      result.emplace(RunCaught(*function_));
    }
    // Captures may hold a mapping of gigabytes: released here, never on the io thread.
    function_.reset();
    auto deliver = [state = std::move(state_), result = std::move(result)]() mutable {
      state->result = std::move(result);
      state->wake.cancel();
    };
    boost::asio::post(home_.get_executor(), std::move(deliver));
  }

 private:
  PendingCount pending_;
  std::optional<Function> function_;
  std::shared_ptr<State> state_;
  boost::asio::executor_work_guard<boost::asio::any_io_executor> home_;
};

template <class Function>
boost::asio::awaitable<std::invoke_result_t<Function>> OffloadImpl(WorkerPool& pool,
                                                                   Function function,
                                                                   bool may_abandon) {
  namespace asio = boost::asio;
  using State = OffloadState<std::invoke_result_t<Function>>;
  const asio::any_io_executor home = co_await asio::this_coro::executor;
  const auto cancellation = co_await asio::this_coro::cancellation_state;
  if (may_abandon && cancellation.cancelled() != asio::cancellation_type::none) {
    co_return Error(Errc::kCancelled, "cancelled before the work began");
  }
  auto state = std::make_shared<State>(home);
  asio::post(pool.executor(), OffloadJob<Function, State>(pool, std::move(function), state, home));
  while (!state->result.has_value()) {
    co_await state->wake.async_wait(asio::as_tuple(asio::use_awaitable));
    const auto now = co_await asio::this_coro::cancellation_state;
    if (may_abandon && !state->result.has_value() &&
        now.cancelled() != asio::cancellation_type::none) {
      state->abandoned.store(true, std::memory_order_release);
      co_return Error(Errc::kCancelled, "cancelled while the work was under way");
    }
  }
  co_return std::move(*state->result);
}

}  // namespace internal

// Runs function() -> Result<T> on the pool and resumes with its result when it has returned, also
// when the coroutine is cancelled meanwhile: what the function touches stays valid until then.
// Long functions take a stop flag of their own.
template <class Function>
[[nodiscard]] boost::asio::awaitable<std::invoke_result_t<Function>> Offload(WorkerPool& pool,
                                                                             Function function) {
  return internal::OffloadImpl(pool, std::move(function), false);
}

// For calls into a file system that may hang: cancellation (also by WithTimeout) resumes at once
// with kCancelled.  A function that has not begun is dropped; one that runs goes on, owning all
// that it touches, and its result is thrown away.
template <class Function>
[[nodiscard]] boost::asio::awaitable<std::invoke_result_t<Function>> OffloadOrAbandon(
    WorkerPool& pool, Function function) {
  return internal::OffloadImpl(pool, std::move(function), true);
}

}  // namespace holdfast
