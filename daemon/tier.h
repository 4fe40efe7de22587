// One persistent root in use: its files, threads of its own, its share of bandwidth, its health.
//
// Threads of its own, because a parallel file system hangs now and then, for minutes or for ever,
// and a thread in it cannot be taken back: such a root must block neither the catalog nor another
// root.  Every call has a time limit; what does not answer in time is abandoned, and while all
// threads of the root hang, further calls are refused at once.
//
// Threads:   the io thread only; the calls run on the root's own pool.
// Ownership: owns pool and files.  Functions that were abandoned keep the files alive.
// Errors:    kTimeout, kUnavailable (hangs), else what the call returned.  Errors that tell of a
//            sick file system make the tier unhealthy (logged once, a metric, a warning in the
//            status); the first success of a call that asks as much of it makes it healthy again
//            (TierWork).
// Lifecycle: made by TierSet; destroyed when no call is pending, or left to the end of the process.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>

#include "common/bandwidth_budget.h"
#include "common/offload.h"
#include "common/result.h"
#include "common/units.h"
#include "common/with_timeout.h"
#include "daemon/async_semaphore.h"
#include "storage_tiers/file_system.h"
#include "storage_tiers/persistent_tier.h"

namespace holdfast::daemon {

// What runs on the root's threads may touch.
struct TierFiles {
  TierFiles(std::unique_ptr<storage_tiers::FileSystem> file_system,
            const std::string& root,
            storage_tiers::TierScope scope,
            ByteCount bytes_per_second)
      : fs(std::move(file_system)), tier(*fs, root, scope), budget(bytes_per_second) {}

  const std::unique_ptr<storage_tiers::FileSystem> fs;
  storage_tiers::PersistentTier tier;
  BandwidthBudget budget;
};

// How much a call asks of the file system: a full or read-only one still lists and reads, and may
// still make a folder.  A failure is outweighed only by a success of as much or more.
enum class TierWork {
  kLook,    // reads and lists
  kChange,  // small files, folders, deletions
  kFlush,   // images, sidecars, manifests
};

struct TierOptions {
  ByteCount bytes_per_second = 0;  // 0: unlimited
  std::size_t flush_concurrency = 2;
  std::chrono::milliseconds call_limit{30'000};  // of a small operation
  storage_tiers::ImageIoOptions image;           // block size, depth, progress limit
};

// Held by work under way, which counts here what it has written; read by the io thread.
struct TransferKey {
  std::atomic<ByteCount> written{0};
};

// Counters for metrics and status; of the io thread.
struct TierCounters {
  std::uint64_t flushed_bytes = 0;
  double flush_seconds = 0;
  std::uint64_t flushes = 0;
  std::uint64_t flush_failures = 0;
  std::uint64_t timeouts = 0;
};

class Tier {
 public:
  Tier(const boost::asio::any_io_executor& executor,
       std::string root,
       storage_tiers::TierScope scope,
       const TierOptions& options,
       std::unique_ptr<storage_tiers::FileSystem> fs);

  Tier(const Tier&) = delete;
  Tier& operator=(const Tier&) = delete;

  [[nodiscard]] const std::string& root() const { return root_; }

  [[nodiscard]] storage_tiers::TierScope scope() const { return files_->tier.scope(); }

  [[nodiscard]] const TierOptions& options() const { return options_; }

  [[nodiscard]] AsyncSemaphore& flushes() { return flushes_; }

  [[nodiscard]] TierCounters& counters() { return counters_; }

  [[nodiscard]] const TierCounters& counters() const { return counters_; }

  // Why the tier counts as sick; nothing while it is well.
  [[nodiscard]] const std::optional<Error>& sickness() const { return sickness_; }

  // Functions that run, wait, or hang.
  [[nodiscard]] std::size_t pending() const { return pool_.pending(); }

  // Image options with the root's budget and "cancel"; valid while "files" of the call is.
  [[nodiscard]] storage_tiers::ImageIoOptions ImageOptions(TierFiles& files,
                                                           const std::atomic<bool>* cancel) const;

  // A limit for moving "bytes": generous, since stalls are found by the progress limit; this one is
  // for what reports no progress.
  [[nodiscard]] std::chrono::milliseconds TransferLimit(ByteCount bytes) const;

  // Runs call(TierFiles&) -> Result<T> on the root's threads.  "call" owns what it touches.
  template <class Function>
  [[nodiscard]] boost::asio::awaitable<std::invoke_result_t<Function, TierFiles&>> Call(
      std::string what,
      std::chrono::milliseconds limit,
      Function call,
      TierWork work = TierWork::kLook) {
    using ResultType = std::invoke_result_t<Function, TierFiles&>;
    if (Hangs()) {
      co_return Error(Errc::kUnavailable,
                      root_ + " hangs: " + std::to_string(pending()) +
                          " calls into the file system have not returned");
    }
    auto job = [files = files_, call = std::move(call)]() mutable -> ResultType {
      return call(*files);
    };
    ResultType result = co_await WithTimeout(limit, OffloadOrAbandon(pool_, std::move(job)));
    if (result.has_value()) {
      NoteSuccess(work);
    } else {
      NoteError(what, result.error(), work);
      co_return std::move(result).error().WithContext(what + " on " + root_);
    }
    co_return result;
  }

  // A token for work that must not run twice at a time, not even beside an abandoned earlier try:
  // held by the function on the worker.  Null while an earlier holder lives.
  [[nodiscard]] std::shared_ptr<TransferKey> TakeKey(const std::string& key);

  // What the holders of keys that begin so have written.
  [[nodiscard]] ByteCount BytesWritten(const std::string& prefix) const;

  // A worker was left behind in a call that does not return.
  void NoteStuck(std::string_view what);

  // Whether a key that begins so is held.
  [[nodiscard]] bool HoldsKey(const std::string& prefix) const;

 private:
  [[nodiscard]] bool Hangs() const;
  void NoteSuccess(TierWork work);
  void NoteError(std::string_view what, const Error& error, TierWork work);

  const std::string root_;
  const TierOptions options_;
  const std::shared_ptr<TierFiles> files_;
  AsyncSemaphore flushes_;
  std::map<std::string, std::weak_ptr<TransferKey>> keys_;
  TierCounters counters_;
  std::optional<Error> sickness_;
  TierWork sick_work_ = TierWork::kLook;  // the most that failed since it fell sick
  WorkerPool pool_;                       // last: joined first
};

}  // namespace holdfast::daemon
