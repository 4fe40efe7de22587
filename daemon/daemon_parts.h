// The parts of a daemon and how they are wired.  Private to daemon.cc and its siblings.
//
// Threads:   the io thread, but for construction.
// Ownership: see daemon.h: declared in order of dependence.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>

#include "common/io_thread.h"
#include "common/offload.h"
#include "common/task_group.h"
#include "daemon/action_runner.h"
#include "daemon/async_event.h"
#include "daemon/config.h"
#include "daemon/core/node_core.h"
#include "daemon/core_gate.h"
#include "daemon/daemon.h"
#include "daemon/layout_store.h"
#include "daemon/metrics.h"
#include "daemon/peers/peer_network.h"
#include "daemon/process_watch.h"
#include "daemon/ready_pump.h"
#include "daemon/reply_filler.h"
#include "daemon/request_gate.h"
#include "daemon/session_server.h"
#include "daemon/slot_store.h"
#include "daemon/startup.h"
#include "daemon/tier_set.h"
#include "daemon/traffic_counters.h"

namespace holdfast::daemon {

class Daemon::Parts {
 public:
  Parts(const Config& config, std::string version, StartState state);

  [[nodiscard]] Status Listen();
  [[nodiscard]] End Run();
  void RequestStop();

 private:
  using Task = boost::asio::awaitable<void>;

  // Wiring (daemon_wiring.cc).
  [[nodiscard]] ReadyPump::Hooks PumpHooks();
  [[nodiscard]] SessionServer::Hooks ServerHooks();
  [[nodiscard]] ActionRunner::Outlets RunnerOutlets();
  [[nodiscard]] Status OpenPeers();
  void AddPeers(proto::StatusReply* status) const;
  void AddPeerMetrics(std::vector<Sample>* samples);
  [[nodiscard]] boost::asio::awaitable<Status> ApplyBatch(ReadyPump::SharedBatch batch);
  void RecoverParts();

  // Tasks that live as long as the daemon (daemon.cc).
  [[nodiscard]] Task Tick();
  [[nodiscard]] Task CleanTiers();
  [[nodiscard]] Task CleanTier(std::shared_ptr<Tier> tier,
                               std::string job_name,
                               JobUid job_uid,
                               std::string root);
  [[nodiscard]] Task AwaitSignal();
  [[nodiscard]] Task ShutDown();
  void WatchLimbo();
  void UpdateMetrics();
  void LogStarted() const;

  // Constant after construction.
  const Config config_;
  const std::string version_;
  const MonotonicTime started_;

  boost::asio::io_context io_{1};
  IoThread io_thread_;
  StartState state_;
  WorkerPool disk_;
  WorkerPool cpu_;
  WorkerPool arena_pool_;  // prefault and removal take seconds: no seal waits behind them
  LayoutStore layouts_;
  SlotStore slots_;
  TierSet tiers_;
  NodeCore core_;
  ReadyPump pump_;
  CoreGate gate_;
  ProcessWatch watch_;
  ReplyFiller filler_;
  TrafficCounters traffic_;
  RequestGate requests_;
  SessionServer server_;
  std::unique_ptr<PeerNetwork> peers_;  // null: no peers
  ActionRunner runner_;
  Metrics metrics_;
  boost::asio::signal_set signals_;
  AsyncEvent stop_;
  bool stop_requested_ = false;
  End end_ = End::kClean;
  TaskGroup tasks_;      // ticks, watches
  TaskGroup pump_task_;  // the pump alone: it ends after all others
  TaskGroup shutdown_;
};

}  // namespace holdfast::daemon
