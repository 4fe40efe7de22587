#include "daemon/ready_pump.h"

#include <algorithm>
#include <utility>

#include "common/log.h"
#include "common/with_timeout.h"

namespace holdfast::daemon {

namespace asio = boost::asio;
using storage_tiers::CatalogBatch;

namespace {

// The longest sleep without a notification: a bound, not a need.
constexpr std::chrono::milliseconds kIdleLimit{1'000};

}  // namespace

ReadyPump::ReadyPump(const asio::any_io_executor& executor, Hooks hooks, Limits limits)
    : hooks_(std::move(hooks)), limits_(limits), event_(executor) {}

ReadyPump::ReadyPump(const asio::any_io_executor& executor, Hooks hooks)
    : ReadyPump(executor, std::move(hooks), Limits()) {}

void ReadyPump::Stop() {
  stopping_ = true;
  event_.Notify();
}

asio::awaitable<void> ReadyPump::Run() {
  while (true) {
    CatalogBatch batch;
    std::vector<Action> actions;
    std::size_t taken = 0;
    Ready ready;
    while (taken < limits_.readys_in_one_write && hooks_.take(&ready)) {
      batch.Append(std::move(ready.batch));
      std::move(ready.actions.begin(), ready.actions.end(), std::back_inserter(actions));
      ready = Ready();
      ++taken;
    }
    hooks_.add_records(&batch);
    if (taken == 0 && batch.empty()) {
      if (stopping_ || co_await Cancelled()) {
        co_return;
      }
      co_await event_.Wait(kIdleLimit);
      continue;
    }
    if (!batch.empty() && !co_await Write(std::move(batch))) {
      co_return;
    }
    for (Action& action : actions) {
      hooks_.start(std::move(action));
    }
  }
}

void ReadyPump::OnTick(MonotonicTime now) {
  if (failing_.has_value() || !write_began_.has_value() ||
      now - *write_began_ < limits_.hang_after) {
    return;
  }
  failing_ = Error(Errc::kTimeout,
                   "a write of the catalog has not ended for " +
                       std::to_string(limits_.hang_after.count()) + " ms: the disk hangs");
  LogError("catalog.hangs", failing_->message + "; snapshots wait until it ends");
}

asio::awaitable<bool> ReadyPump::Write(CatalogBatch batch) {
  const auto shared = std::make_shared<const CatalogBatch>(std::move(batch));
  std::chrono::milliseconds wait = limits_.retry_min;
  while (true) {
    write_began_ = SystemClock().Now();
    const Status status = co_await hooks_.apply(shared);
    write_began_.reset();
    if (status.has_value()) {
      if (failing_.has_value()) {
        LogInfo("catalog.healed", "the catalog can be written again");
        failing_.reset();
      }
      co_return true;
    }
    if (!failing_.has_value()) {
      LogError("catalog.failed",
               "the catalog cannot be written; snapshots wait until it can: " +
                   status.error().ToString());
    }
    failing_ = status.error();
    const Status slept = co_await SleepFor(wait);
    if (!slept.has_value()) {
      co_return false;
    }
    wait = std::min(wait * 2, limits_.retry_max);
  }
}

}  // namespace holdfast::daemon
