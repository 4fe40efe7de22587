// Carries out what the core decides, in order: record first, act afterwards.
//
// This is where "synced before answered" is made true for the whole daemon (I3, I7): no action of a
// Ready starts before the batch of that Ready, and of every Ready before it, is on disk.  Readys
// that wait together share one sync (group commit), which is what lets eight ranks seal at the same
// time for the price of one.
//
// Threads:   the io thread; the catalog is written by whatever "apply" offloads to.
// Ownership: borrows what the hooks refer to, which must outlive Run.
// Errors:    a batch that cannot be written is repeated, with waits of 100 ms to 5 s, until it can:
//            nothing behind it starts meanwhile, and failing() says why.  It is logged once when it
//            begins and once when it ends.  A write that does not end is waited for, not repeated
//            (the first might still land): after "hang_after" failing() and one line of the log say
//            so.
// Durability: an action starts only after "apply" of its batch returned Ok.
// Lifecycle: construct -> Run once -> Wake at any time -> Stop: Run ends when nothing is left to
// do,
//            or when its task is cancelled (then what was not recorded was not done either: the
//            same as a crash at that moment).
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>

#include "common/clock.h"
#include "common/result.h"
#include "daemon/async_event.h"
#include "daemon/core/action.h"
#include "storage_tiers/catalog_batch.h"

namespace holdfast::daemon {

class ReadyPump {
 public:
  using SharedBatch = std::shared_ptr<const storage_tiers::CatalogBatch>;

  struct Hooks {
    // NodeCore::TakeReady.
    std::function<bool(Ready*)> take;
    // Adds records of the runtime's own (layouts) that must be on disk with or before this batch.
    // Called once for each batch; its additions are repeated with the batch if that fails.
    std::function<void(storage_tiers::CatalogBatch*)> add_records;
    // One synced write.
    std::function<boost::asio::awaitable<Status>(SharedBatch)> apply;
    // Starts an action; must not wait.
    std::function<void(Action)> start;
  };

  struct Limits {
    std::size_t readys_in_one_write = 256;
    std::chrono::milliseconds retry_min{100};
    std::chrono::milliseconds retry_max{5'000};
    std::chrono::milliseconds hang_after{10'000};  // a sync of a healthy disk takes far less
  };

  ReadyPump(const boost::asio::any_io_executor& executor, Hooks hooks, Limits limits);
  ReadyPump(const boost::asio::any_io_executor& executor, Hooks hooks);

  ReadyPump(const ReadyPump&) = delete;
  ReadyPump& operator=(const ReadyPump&) = delete;

  [[nodiscard]] boost::asio::awaitable<void> Run();

  // Something may be there to take.
  void Wake() { event_.Notify(); }

  // At least once a second: notices a write that hangs.
  void OnTick(MonotonicTime now);

  // Run ends at the next moment without work.
  void Stop();

  // Why the catalog cannot be written at present; nothing while it can.
  [[nodiscard]] const std::optional<Error>& failing() const { return failing_; }

 private:
  // False when cancelled before it was written.
  [[nodiscard]] boost::asio::awaitable<bool> Write(storage_tiers::CatalogBatch batch);

  const Hooks hooks_;
  const Limits limits_;
  AsyncEvent event_;
  bool stopping_ = false;
  std::optional<Error> failing_;
  std::optional<MonotonicTime> write_began_;  // while one is under way
};

}  // namespace holdfast::daemon
