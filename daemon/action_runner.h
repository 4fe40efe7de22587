// Carries out the core's actions, each in a task of its own, and tells the core how each ended.
//
// The contract (daemon/core/action.h): every action marked "answers with" is answered exactly once,
// also after failure, cancellation and shutdown.  So each task has one shape: do the work, get a
// result, call the core with it; there is no way out between.
//
// Threads:   the io thread only.
// Ownership: borrows everything; owns the tasks.
// Errors:    all go to the core.
// Lifecycle: construct -> Run at any time -> Stop -> Join -> destroy.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <tuple>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>

#include "common/offload.h"
#include "common/result.h"
#include "common/task_group.h"
#include "daemon/core/action.h"
#include "daemon/core_gate.h"
#include "daemon/pipeline/context.h"
#include "daemon/pipeline/open_shard.h"
#include "daemon/session.h"

namespace holdfast::daemon {

// What metrics count here; of the io thread.
struct ActionCounters {
  std::uint64_t digest_mismatches = 0;
  std::uint64_t slots_poisoned = 0;
  std::uint64_t prepare_failures = 0;
  std::uint64_t digested_bytes = 0;
};

class ActionRunner {
 public:
  struct Outlets {
    std::function<void(SessionId, Outgoing)> send;
    std::function<void(SessionId)> close;
    // To the daemons of other nodes; may be empty where there are none (CoreOptions.peers).
    std::function<void(const SendReport&)> report;
    std::function<void(const SendCommand&)> command;
    std::function<void(const AnswerPeer&)> answer_peer;
  };

  ActionRunner(const boost::asio::any_io_executor& executor,
               PipelineContext context,
               WorkerPool* cpu,
               CoreGate* core,
               Outlets outlets);

  ActionRunner(const ActionRunner&) = delete;
  ActionRunner& operator=(const ActionRunner&) = delete;

  // Starts the action; never waits.
  void Run(Action action);

  [[nodiscard]] const ActionCounters& counters() const { return counters_; }

  [[nodiscard]] std::size_t running() const { return tasks_.size(); }

  // Cancels all that runs; what is started from now on is answered with kCancelled.
  void Stop();
  [[nodiscard]] boost::asio::awaitable<bool> Join(std::chrono::milliseconds limit);

 private:
  using FlushKey = std::tuple<JobUid, std::string, SnapshotKey, Rank>;
  using RecordKey = std::pair<JobUid, std::uint64_t>;  // and the incarnation
  using CancelFlag = std::shared_ptr<std::atomic<bool>>;

  // Immediate.
  void Do(Send action);
  // True: the message grants a slot that must not be granted; the core was told.
  [[nodiscard]] bool RefuseGrant(const proto::ServerMessage& message);
  void Do(const CloseSession& action);
  void Do(const QuarantineSlot& action);
  void Do(const CloseShardFile& action);
  void Do(const CancelFlush& action);

  void Do(const SendReport& action);
  void Do(const SendCommand& action);
  void Do(const AnswerPeer& action);

  // As tasks.
  void Do(PrepareSlot action);
  void Do(RemoveSlot action);
  void Do(DigestSlot action);
  void Do(VerifySlot action);
  void Do(ClaimIncarnation action);
  void Do(WriteIncarnation action);
  void Do(ListTier action);
  void Do(OpenShardFile action);
  void Do(FlushShard action);
  void Do(PublishManifest action);
  void Do(DeleteDurable action);

  using Task = boost::asio::awaitable<void>;
  [[nodiscard]] Task DoPrepare(PrepareSlot action);
  [[nodiscard]] Task DoRemove(RemoveSlot action);
  [[nodiscard]] Task DoDigest(DigestSlot action);
  [[nodiscard]] Task DoVerify(VerifySlot action);
  [[nodiscard]] Task DoClaim(ClaimIncarnation action);
  [[nodiscard]] Task DoRecord(RecordKey key);
  [[nodiscard]] Task DoList(ListTier action);
  [[nodiscard]] Task DoOpenShard(OpenShardFile action);
  [[nodiscard]] Task DoFlush(FlushShard action, CancelFlag cancel);
  [[nodiscard]] Task DoPublish(PublishManifest action);
  [[nodiscard]] Task DoDelete(DeleteDurable action);

  void NotePoison(SlotRef slot, const Error& error);

  const PipelineContext context_;
  WorkerPool* const cpu_;
  CoreGate* const core_;
  const Outlets outlets_;
  ShardFiles files_;
  std::map<FlushKey, CancelFlag> flushes_;
  // Incarnations whose record is being written, and what is to be written next.
  std::map<RecordKey, std::optional<WriteIncarnation>> records_;
  ActionCounters counters_;
  TaskGroup tasks_;
};

}  // namespace holdfast::daemon
