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
#include "daemon/data_plane/data_plane.h"
#include "daemon/layout_store.h"
#include "daemon/metrics.h"
#include "daemon/parity/feeds.h"
#include "daemon/parity/parity_runner.h"
#include "daemon/parity/remote_bytes.h"
#include "daemon/parity/scrubber.h"
#include "daemon/parity/shares.h"
#include "daemon/parity/stored_server.h"
#include "daemon/peers/cluster_scrub.h"
#include "daemon/peers/cluster_view.h"
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
  [[nodiscard]] Status OpenDataPlane();
  void AddPeers(proto::StatusReply* status) const;
  // What operators ask about all nodes (daemon_cluster.cc).
  [[nodiscard]] NodeCall CallPeers();
  [[nodiscard]] ClusterView::Hooks ViewHooks();
  [[nodiscard]] ClusterScrub::Hooks ScrubHooks();
  [[nodiscard]] NodeHints ClusterNodes() const;
  [[nodiscard]] proto::NodeView OwnView(const std::string& job_name,
                                        const proto::AskingUser& user) const;
  [[nodiscard]] bool AskNodes(SessionId session,
                              std::uint32_t uid,
                              const proto::ClientMessage& message);
  [[nodiscard]] boost::asio::awaitable<Result<proto::PeerReply>> AnswerPeerRequest(
      proto::PeerRequest request);
  void AddJobMetrics(const proto::StatusReply& status, std::vector<Sample>* samples);
  void AddPeerMetrics(std::vector<Sample>* samples);
  [[nodiscard]] boost::asio::awaitable<Status> ApplyBatch(ReadyPump::SharedBatch batch);
  void RecoverParts();

  // Tasks that live as long as the daemon (daemon.cc).
  [[nodiscard]] Task Tick();
  [[nodiscard]] Task CleanTiers();
  [[nodiscard]] Task CleanTier(std::shared_ptr<Tier> tier,
                               std::string job_name,
                               JobUid job_uid,
                               proto::TierPolicy policy);
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
  DataPlane data_plane_;  // before the pools: they register memory with it
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
  Feeds feeds_;
  StoredServer stored_;
  std::unique_ptr<PeerNetwork> peers_;  // null: no peers
  RemoteBytes remote_;
  ParityRunner parity_;
  ShareMaker shares_;
  Scrubber scrubber_;
  ClusterView cluster_view_;
  ClusterScrub cluster_scrub_;
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
