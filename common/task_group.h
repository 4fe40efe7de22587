// The owner of coroutines: what it started, it can cancel, count and wait for.
//
// A detached coroutine outlives the objects that it uses, and nobody can say whether a shutdown is
// over (I12).  So every coroutine of Holdfast is started here, and the group must be empty before
// it is destroyed.
//
//   TaskGroup tasks(io.get_executor(), "sessions", 256);
//   if (!tasks.Spawn(Serve(std::move(socket)))) { /* full or stopped: the socket is closed */ }
//   ...
//   tasks.Stop();
//   bool all_ended = co_await tasks.Join(std::chrono::seconds(5));
//
// Threads:   the executor's thread only (the io thread).
// Ownership: owns the coroutines' frames.  What they refer to must outlive the group.
// Errors:    an exception that escapes a task is a bug: it is logged as "task.exception" with the
//            group's name, and ends that task only.
// Lifecycle: construct -> Spawn/Cancel -> Stop -> Join -> destroy (checked: empty).
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/steady_timer.hpp>

namespace holdfast {

class TaskGroup {
 public:
  // "limit": tasks at one time; it is what bounds queues whose entries are tasks.
  TaskGroup(boost::asio::any_io_executor executor, std::string name, std::size_t limit);
  ~TaskGroup();

  TaskGroup(const TaskGroup&) = delete;
  TaskGroup& operator=(const TaskGroup&) = delete;

  // Starts the task at its first co_await or soon after.  False, and the task never runs, when the
  // group is stopped or full; its parameters are destroyed then.
  // In a task a cancelled co_await does not throw: the task looks at Cancelled() of with_timeout.h.
  [[nodiscard]] bool Spawn(boost::asio::awaitable<void> task);

  // Asks all tasks of this moment to end.
  void Cancel();

  // Cancel, and no new ones any more.
  void Stop();

  // Resumes when the group is empty (true) or the limit has passed (false).  One at a time.
  [[nodiscard]] boost::asio::awaitable<bool> Join(std::chrono::milliseconds limit);

  // The end of a group that lives inside one coroutine: resumes only when every task has ended,
  // however long that takes, so that the caller's frame may hold what the tasks use.  When the
  // caller is cancelled, the tasks are.
  [[nodiscard]] boost::asio::awaitable<void> Finish();

  [[nodiscard]] std::size_t size() const;
  [[nodiscard]] boost::asio::any_io_executor executor() const;
  [[nodiscard]] bool stopped() const;

 private:
  // Shared with the completion handlers, which outlive the tasks by a moment.
  struct Shared;
  std::shared_ptr<Shared> shared_;
};

}  // namespace holdfast
