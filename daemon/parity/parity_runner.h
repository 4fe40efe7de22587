// Carries out what the core decides about parity and about shards from elsewhere: MakeRow,
// FetchSidecars, PullShard, RebuildShard, CancelMaking (daemon/core/action.h).
//
// As in ActionRunner each action is a task that answers the core exactly once.  Makers of row 0
// hold memory for their windows, so that few of them run at one time; those that pull hold none,
// and are never made to wait (pull_vector.h says why).
//
// Threads:   the io thread only.
// Ownership: borrows everything; owns the tasks.
// Errors:    all go to the core.
// Lifecycle: construct -> Run at any time -> Stop -> Join -> destroy.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>

#include "common/bandwidth_budget.h"
#include "common/clock.h"
#include "common/offload.h"
#include "common/result.h"
#include "common/task_group.h"
#include "daemon/async_semaphore.h"
#include "daemon/core/action.h"
#include "daemon/core_gate.h"
#include "daemon/parity/feeds.h"
#include "daemon/parity/parity_pace.h"
#include "daemon/parity/remote_bytes.h"
#include "daemon/pipeline/context.h"
#include "daemon/pipeline/protect_stripe.h"
#include "daemon/pipeline/rebuild_reader.h"
#include "daemon/pipeline/traffic_priority.h"
#include "proto/admin.pb.h"

namespace holdfast::daemon {

class SourceSearch;

struct ParityCounters {
  std::uint64_t rows = 0;           // made
  std::uint64_t rows_failed = 0;    // tries
  std::uint64_t row_bytes = 0;      // of rows made
  std::uint64_t shards = 0;         // pulled or rebuilt
  std::uint64_t shards_failed = 0;  // tries
  std::uint64_t shard_bytes = 0;    // of shards made
  double shard_seconds = 0;         // that they took, those that failed left out
};

class ParityRunner {
 public:
  ParityRunner(const boost::asio::any_io_executor& executor,
               PipelineContext context,
               WorkerPool* cpu,
               CoreGate* core,
               Feeds* feeds,
               const RemoteBytes* remote,
               ParityPaceOptions pace);

  ParityRunner(const ParityRunner&) = delete;
  ParityRunner& operator=(const ParityRunner&) = delete;

  void Run(MakeRow action);
  void Run(FetchSidecars action);
  void Run(PullShard action);
  void Run(RebuildShard action);
  void Run(const CancelMaking& action);

  [[nodiscard]] const ParityCounters& counters() const { return counters_; }

  // Adds what is on its way to this node to the jobs that are there.
  void Describe(proto::StatusReply* status) const;

  // For other work on the same bytes: who goes first.
  [[nodiscard]] TrafficPriority* priority() { return &priority_; }

  void Stop();
  [[nodiscard]] boost::asio::awaitable<bool> Join(std::chrono::milliseconds limit);

 private:
  using Task = boost::asio::awaitable<void>;
  using RowDigests = Result<std::vector<std::uint32_t>>;

  // False: not started, nothing was answered.
  [[nodiscard]] bool Start(std::uint64_t ticket, Task task);

  [[nodiscard]] Task DoRow(MakeRow action);
  void Record(const MakeRow& action, const RowDigests& made);
  [[nodiscard]] Task DoSidecars(FetchSidecars action);
  [[nodiscard]] boost::asio::awaitable<Result<proto::Sidecar>> SidecarFrom(
      const std::string& node, const FetchSidecars& action, Rank rank);
  [[nodiscard]] Task DoPull(PullShard action);
  [[nodiscard]] Task DoRebuild(RebuildShard action);

  [[nodiscard]] boost::asio::awaitable<RowDigests> Make(const MakeRow& action,
                                                        MutableByteView into);
  [[nodiscard]] boost::asio::awaitable<RowDigests> Encode(const MakeRow& action,
                                                          SharedGroup group,
                                                          MutableByteView into);
  [[nodiscard]] boost::asio::awaitable<RowDigests> Pull(const MakeRow& action,
                                                        SharedGroup group,
                                                        MutableByteView into);
  [[nodiscard]] FeedSource MakerOf(const MakeRow& action, const CodedGroup& group) const;
  [[nodiscard]] boost::asio::awaitable<RowDigests> RebuildAndTell(const MakeRow& action,
                                                                  SharedGroup group,
                                                                  MutableByteView into);
  [[nodiscard]] boost::asio::awaitable<bool> IsStillFed(const MakeRow& action,
                                                        const CodedGroup& group);
  [[nodiscard]] boost::asio::awaitable<RowDigests> Rebuild(const MakeRow& action,
                                                           SharedGroup group,
                                                           MutableByteView into);

  // PullShard or RebuildShard, whose bytes begin to come.
  template <typename Action>
  void Expect(const Action& action, ByteCount total, const std::string& from);
  void OnShard(std::uint64_t ticket, const char* failed, MonotonicTime began, const Status& status);
  [[nodiscard]] boost::asio::awaitable<Status> BringShard(const PullShard& action);
  [[nodiscard]] boost::asio::awaitable<Status> DecodeShard(const RebuildShard& action);
  [[nodiscard]] boost::asio::awaitable<Status> DecodeFound(const RebuildShard& action,
                                                           const SourceSearch& search,
                                                           SharedGroup group,
                                                           std::shared_ptr<GroupSources> sources);
  [[nodiscard]] std::vector<std::vector<FeedSource>> HelpersOf(const RebuildShard& action,
                                                               const CodedGroup& group,
                                                               const GroupSources& sources,
                                                               const HeldSet& reached) const;
  [[nodiscard]] Pacing RowPacing();
  // "length" bytes of the slot, to be written to.
  [[nodiscard]] Result<std::pair<SharedSlot, MutableByteView>> Place(SlotRef slot,
                                                                     ByteCount length) const;

  const boost::asio::any_io_executor executor_;
  const PipelineContext context_;
  WorkerPool* const cpu_;
  CoreGate* const core_;
  Feeds* const feeds_;
  const RemoteBytes* const remote_;
  TrafficPriority priority_;
  ParityPace pace_;
  BandwidthBudget budget_{0};  // of all rows
  AsyncSemaphore makers_;
  ParityCounters counters_;
  std::map<std::uint64_t, proto::ShardOnItsWay> bringing_;  // by ticket
  // A group for each, so that one can be cancelled alone; emptied ones are dropped when another
  // starts.
  std::map<std::uint64_t, std::unique_ptr<TaskGroup>> running_;
  bool stopped_ = false;
};

}  // namespace holdfast::daemon
