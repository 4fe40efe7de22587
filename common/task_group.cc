#include "common/task_group.h"

#include <exception>
#include <utility>
#include <vector>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "common/check.h"
#include "common/log.h"
#include "common/with_timeout.h"

namespace holdfast {

namespace asio = boost::asio;

struct TaskGroup::Shared {
  Shared(asio::any_io_executor e, std::string n, std::size_t l)
      : executor(std::move(e)),
        name(std::move(n)),
        limit(l),
        empty(executor, asio::steady_timer::time_point::max()) {}

  const asio::any_io_executor executor;
  const std::string name;
  const std::size_t limit;
  bool stopped = false;
  bool joining = false;
  std::uint64_t next_id = 0;
  std::map<std::uint64_t, std::shared_ptr<asio::cancellation_signal>> tasks;
  asio::steady_timer empty;  // cancelled when the last task has ended
};

namespace {

asio::awaitable<void> Root(asio::awaitable<void> task) {
  co_await asio::this_coro::throw_if_cancelled(false);
  co_await std::move(task);
}

std::string What(const std::exception_ptr& thrown) {
  try {
    std::rethrow_exception(thrown);
  } catch (const std::exception& e) {
    return e.what();
  } catch (...) {
    return "of unknown type";
  }
}

}  // namespace

TaskGroup::TaskGroup(asio::any_io_executor executor, std::string name, std::size_t limit)
    : shared_(std::make_shared<Shared>(std::move(executor), std::move(name), limit)) {}

TaskGroup::~TaskGroup() {
  // Frames that live on would use what is destroyed after us.
  HOLDFAST_CHECK(shared_->tasks.empty());
}

bool TaskGroup::Spawn(asio::awaitable<void> task) {
  Shared& group = *shared_;
  if (group.stopped || group.tasks.size() >= group.limit) {
    return false;
  }
  const std::uint64_t id = group.next_id++;
  auto signal = std::make_shared<asio::cancellation_signal>();
  group.tasks.emplace(id, signal);
  auto ended = [shared = shared_, id](const std::exception_ptr& thrown) {
    if (thrown != nullptr) {
      LogError("task.exception", shared->name + ": " + What(thrown));
    }
    shared->tasks.erase(id);
    if (shared->tasks.empty()) {
      shared->empty.cancel();
    }
  };
  asio::co_spawn(group.executor,
                 Root(std::move(task)),
                 asio::bind_cancellation_slot(signal->slot(), std::move(ended)));
  return true;
}

void TaskGroup::Cancel() {
  // A copy: a task may end, or start another, while the signals go out.
  std::vector<std::shared_ptr<asio::cancellation_signal>> signals;
  signals.reserve(shared_->tasks.size());
  for (const auto& [id, signal] : shared_->tasks) {
    signals.push_back(signal);
  }
  for (const auto& signal : signals) {
    signal->emit(asio::cancellation_type::terminal);
  }
}

void TaskGroup::Stop() {
  shared_->stopped = true;
  Cancel();
}

asio::awaitable<bool> TaskGroup::Join(std::chrono::milliseconds limit) {
  const std::shared_ptr<Shared> shared = shared_;
  HOLDFAST_CHECK(!shared->joining);
  shared->joining = true;
  const auto deadline = asio::steady_timer::clock_type::now() + limit;
  while (!shared->tasks.empty()) {
    if (asio::steady_timer::clock_type::now() >= deadline || co_await Cancelled()) {
      break;
    }
    shared->empty.expires_at(deadline);
    co_await shared->empty.async_wait(asio::as_tuple(asio::use_awaitable));
  }
  shared->joining = false;
  co_return shared->tasks.empty();
}

asio::awaitable<void> TaskGroup::Finish() {
  const std::shared_ptr<Shared> shared = shared_;
  HOLDFAST_CHECK(!shared->joining);
  shared->joining = true;
  while (!shared->tasks.empty()) {
    if (!shared->stopped && co_await Cancelled()) {
      Stop();
    }
    shared->empty.expires_at(asio::steady_timer::time_point::max());
    co_await shared->empty.async_wait(asio::as_tuple(asio::use_awaitable));
  }
  shared->joining = false;
}

std::size_t TaskGroup::size() const {
  return shared_->tasks.size();
}

asio::any_io_executor TaskGroup::executor() const {
  return shared_->executor;
}

bool TaskGroup::stopped() const {
  return shared_->stopped;
}

}  // namespace holdfast
