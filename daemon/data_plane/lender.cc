#include "daemon/data_plane/lender.h"

#include <utility>

#include "common/with_timeout.h"

namespace holdfast::daemon {

namespace asio = boost::asio;
using std::chrono::steady_clock;

Lender::Lender(const asio::any_io_executor& executor,
               WorkerPool* pool,
               const transport::FabricEndpoint* fabric,
               Find find,
               LenderLimits limits)
    : executor_(executor), pool_(pool), fabric_(fabric), find_(std::move(find)), limits_(limits) {}

asio::awaitable<Result<transport::FabricRegion>> Lender::Lend(proto::StoredKey key,
                                                              std::chrono::milliseconds limit) {
  HF_CO_TRY(StoredBytesView stored, find_(key));
  const auto deadline = steady_clock::now() + limit;
  const std::string name = NameOfStored(key);
  auto found = lent_.find(name);
  if (found != lent_.end() && found->second->stored.bytes.data() != stored.bytes.data()) {
    // Freed and stored anew; whoever registers it sees that it is gone.
    if (found->second->memory.has_value()) {
      replaced_.push_back(std::move(found->second));
    }
    lent_.erase(found);
    found = lent_.end();
  }
  if (found == lent_.end()) {
    if (lent_.size() >= limits_.lent) {
      co_return Error(
          Errc::kNoSpace,
          "this node lends " + std::to_string(lent_.size()) + " images and rows already");
    }
    auto fresh = std::make_shared<Lent>(executor_);
    fresh->key = std::move(key);
    fresh->stored = std::move(stored);
    fresh->asked = steady_clock::now();
    lent_.emplace(name, fresh);
    co_return co_await Register(std::move(fresh), name);
  }
  const SharedLent lent = found->second;
  lent->asked = steady_clock::now();
  if (!lent->memory.has_value()) {
    co_await lent->made.WaitUntil(deadline);
  }
  const auto still = lent_.find(name);
  if (lent->memory.has_value() && (still == lent_.end() || still->second != lent)) {
    co_return Error(Errc::kNotFound, "the bytes were freed while they were registered");
  }
  if (!lent->memory.has_value()) {
    co_return Error(Errc::kUnavailable, "memory could not be registered with the fabric (in time)");
  }
  co_return lent->memory->region();
}

asio::awaitable<Result<transport::FabricRegion>> Lender::Register(SharedLent lent,
                                                                  std::string name) {
  // The work holds the memory: a cancelled Lend leaves it running.
  auto lend = [fabric = fabric_, lent]() { return fabric->LendBlocking(lent->stored.bytes); };
  Result<transport::FabricMemory> memory = co_await Offload(*pool_, std::move(lend));
  const auto found = lent_.find(name);
  const bool wanted = found != lent_.end() && found->second == lent;
  if (!memory.has_value()) {
    if (wanted) {
      lent_.erase(found);
    }
    lent->made.NotifyAll();
    co_return memory.error();
  }
  lent->memory.emplace(std::move(memory).value());
  if (!wanted) {
    replaced_.push_back(lent);
    lent->made.NotifyAll();
    co_return Error(Errc::kNotFound, "the bytes were freed while they were registered");
  }
  lent->made.NotifyAll();
  co_return lent->memory->region();
}

bool Lender::IsOver(const Lent& lent, Time now) const {
  if (!lent.memory.has_value()) {
    return false;
  }
  const auto stored = find_(lent.key);
  return !stored.has_value() || stored.value().bytes.data() != lent.stored.bytes.data() ||
         now >= lent.asked + limits_.idle;
}

asio::awaitable<void> Lender::Watch() {
  for (;;) {
    const Status slept = co_await SleepFor(limits_.interval);
    if (!slept.has_value()) {
      co_return;
    }
    fabric_->Settle();
    let_go_.clear();
    std::vector<SharedLent> over = std::exchange(replaced_, {});
    for (auto it = lent_.begin(); it != lent_.end();) {
      if (IsOver(*it->second, steady_clock::now())) {
        over.push_back(std::move(it->second));
        it = lent_.erase(it);
      } else {
        ++it;
      }
    }
    if (over.empty()) {
      continue;
    }
    for (const SharedLent& lent : over) {
      let_go_.push_back(lent->stored.keep);
    }
    auto let_go = [over = std::move(over)]() -> Status {
      for (const SharedLent& lent : over) {
        lent->memory.reset();
      }
      return Ok();
    };
    (void)co_await Offload(*pool_, std::move(let_go));
  }
}

}  // namespace holdfast::daemon
