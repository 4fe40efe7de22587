#include "daemon/daemon.h"

#include <algorithm>
#include <chrono>
#include <csignal>
#include <fstream>
#include <utility>
#include <vector>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <unistd.h>

#include "common/log.h"
#include "common/with_timeout.h"
#include "daemon/daemon_parts.h"
#include "daemon/service_notify.h"

namespace holdfast::daemon {

namespace asio = boost::asio;

namespace {

constexpr std::chrono::milliseconds kTick{250};
constexpr std::chrono::minutes kLayoutCollection{10};

// Pages of the process itself: resident, less what belongs to mapped files (the arena).
double ResidentBytes() {
  std::ifstream statm("/proc/self/statm");
  double size = 0;
  double resident = 0;
  double shared = 0;
  statm >> size >> resident >> shared;
  return std::max(0.0, resident - shared) * static_cast<double>(::sysconf(_SC_PAGESIZE));
}

}  // namespace

Status Daemon::Parts::Listen() {
  if (!config_.metrics_address.empty()) {
    HF_TRYV(metrics_.Open(config_.metrics_address));
  }
  HF_TRYV(OpenPeers());
  const bool others = !config_.allowed_uids.empty() || ::geteuid() == 0;
  HF_TRY(Listener listener, Listener::Open(io_, config_.socket, others));
  server_.Start(std::move(listener));
  return Ok();
}

void Daemon::Parts::WatchLimbo() {
  for (const NodeCore::Limbo& limbo : core_.LimboSessions()) {
    auto pidfd = OpenProcess(limbo.pid);
    if (pidfd.has_value()) {
      // Alive, or another of the same number: then the resume limit decides.
      const Status watched = watch_.Watch(limbo.session_token, std::move(pidfd).value());
      if (!watched.has_value()) {
        LogWarning("start.limbo", watched.error().ToString());
      }
    } else if (pidfd.error().code == Errc::kNotFound) {
      LogInfo("start.limbo", "trainer " + std::to_string(limbo.pid) + " died with the last daemon");
      gate_->OnProcessDead(limbo.session_token);
    } else {
      LogWarning("start.limbo", pidfd.error().ToString());
    }
  }
}

Daemon::Parts::Task Daemon::Parts::Tick() {
  auto next_collection = SystemClock().Now() + kLayoutCollection;
  const auto watchdog = WatchdogInterval();
  auto next_watchdog = SystemClock().Now();
  while (true) {
    const MonotonicTime now = SystemClock().Now();
    gate_->OnTick(now, SystemClock().WallNow());
    server_.OnTick();
    if (peers_ != nullptr) {
      peers_->OnTick(now);
    }
    pump_.OnTick(now);
    if (now >= next_collection) {
      next_collection = now + kLayoutCollection;
      layouts_.CollectUnused();
    }
    if (watchdog.has_value() && now >= next_watchdog) {
      next_watchdog = now + *watchdog;
      NotifyService("WATCHDOG=1");
    }
    if (metrics_.on()) {
      UpdateMetrics();
    }
    const Status slept = co_await SleepFor(kTick);
    if (!slept.has_value()) {
      co_return;
    }
  }
}

Daemon::Parts::Task Daemon::Parts::CleanTiers() {
  for (const proto::JobRecord& job : state_.recovered.jobs) {
    for (const proto::TierPolicy& policy : job.tiers()) {
      auto tier = tiers_.Open(policy.root(), policy.scope());
      if (tier.has_value() && !co_await Cancelled()) {
        co_await CleanTier(std::move(tier).value(), job.name(), job.job_uid(), policy);
      }
    }
  }
}

Daemon::Parts::Task Daemon::Parts::CleanTier(std::shared_ptr<Tier> tier,
                                             std::string job_name,
                                             JobUid job_uid,
                                             proto::TierPolicy policy) {
  const std::vector<SnapshotKey> given_up = GivenUpFlushes(state_.recovered, job_uid, policy);
  std::vector<proto::SnapshotId> ids;
  ids.reserve(given_up.size());
  for (const SnapshotKey& id : given_up) {
    ids.push_back(ToProto(job_uid, id));
  }
  auto call = [job_name, ids](TierFiles& files) { return files.tier.CleanUp(job_name, ids); };
  const auto limit = 4 * config_.tier_timeout;
  const auto report = co_await tier->Call("clean up", limit, std::move(call), TierWork::kChange);
  if (!report.has_value()) {
    LogInfo("tier.not_cleaned", report.error().ToString());
    co_return;
  }
  for (const std::string& path : report.value().removed) {
    LogInfo("tier.removed", path);
  }
  for (const std::string& path : report.value().restored) {
    LogInfo("tier.taken_back", path);
  }
  for (const Error& problem : report.value().problems) {
    LogWarning("tier.problem", problem.ToString());
  }
  if (report.value().problems.empty()) {
    for (const SnapshotKey& id : given_up) {
      gate_->OnDurableDeleted(job_uid, policy.root(), id, Ok());
    }
  }
}

Daemon::Parts::Task Daemon::Parts::AwaitSignal() {
  while (!stop_requested_) {
    const auto [error, number] = co_await signals_.async_wait(asio::as_tuple(asio::use_awaitable));
    if (error) {
      co_return;
    }
    LogInfo("daemon.signal", number == SIGTERM ? "SIGTERM: ending" : "SIGINT: ending");
    stop_requested_ = true;
    stop_.Notify();
  }
}

// Outside in: no new clients, no new work, what was decided is recorded, threads.
Daemon::Parts::Task Daemon::Parts::ShutDown() {
  while (!stop_requested_) {
    co_await stop_.Wait(std::chrono::minutes(1));
  }
  NotifyService("STOPPING=1\nSTATUS=ending");
  const auto deadline = SystemClock().Now() + config_.shutdown_timeout;
  const auto left = [deadline] {
    const auto rest = deadline - SystemClock().Now();
    return std::max(std::chrono::milliseconds(50),
                    std::chrono::duration_cast<std::chrono::milliseconds>(rest));
  };
  server_.StopAccepting();
  tasks_.Stop();
  watch_.Stop();
  runner_.Stop();
  parity_.Stop();
  shares_.Stop();
  cluster_view_.Stop();
  cluster_scrub_.Stop();
  bool ended = co_await runner_.Join(left() / 2);
  ended = co_await parity_.Join(left() / 2) && ended;
  ended = co_await shares_.Join(left() / 2) && ended;
  ended = co_await cluster_view_.Join(left() / 2) && ended;
  ended = co_await cluster_scrub_.Join(left() / 2) && ended;
  data_plane_.Stop();
  server_.Stop();
  ended = co_await server_.Join(left() / 2) && ended;
  if (peers_ != nullptr) {
    peers_->Stop();
    ended = co_await peers_->Join(left() / 2) && ended;
  }
  pump_.Stop();
  if (!co_await pump_task_.Join(left() / 2)) {
    LogWarning("daemon.unwritten",
               "the catalog cannot be written; the last records are lost, as "
               "in a crash at this moment");
    pump_task_.Stop();
    ended = co_await pump_task_.Join(left()) && ended;
  }
  ended = co_await watch_.Join(left()) && ended;
  ended = co_await tasks_.Join(left()) && ended;
  while (tiers_.pending() > 0 && SystemClock().Now() < deadline) {
    (void)co_await SleepFor(std::chrono::milliseconds(10));
  }
  end_ = ended && tiers_.pending() == 0 ? End::kClean : End::kHangs;
}

Daemon::End Daemon::Parts::Run() {
  io_thread_.Bind();
  const bool started =
      pump_task_.Spawn(pump_.Run()) && tasks_.Spawn(Tick()) && tasks_.Spawn(CleanTiers()) &&
      tasks_.Spawn(data_plane_.Watch()) && tasks_.Spawn(AwaitSignal()) &&
      tasks_.Spawn(slots_.WatchQuarantine(
          config_.quarantine_poll, [this](SlotRef slot) { gate_->OnQuarantineReleased(slot); })) &&
      shutdown_.Spawn(ShutDown());
  HOLDFAST_CHECK(started);
  if (peers_ != nullptr) {
    peers_->Start();
  }
  WatchLimbo();
  LogStarted();
  NotifyService("READY=1\nSTATUS=serving on " + config_.socket);
  while (shutdown_.size() > 0) {
    io_.run_one_for(std::chrono::seconds(1));
  }
  LogInfo("daemon.end", end_ == End::kClean ? "ended" : "ended; a file system still hangs");
  return end_;
}

void Daemon::Parts::LogStarted() const {
  LogInfo("daemon.start",
          "holdfastd " + version_ + " node " + ToHex(AsBytes(state_.recovered.node_uuid)) +
              " boot " + std::to_string(state_.recovered.boot_number) + " serves on " +
              config_.socket + ", arena " + config_.arena_dir + " of " +
              FormatBytes(config_.budget_bytes));
}

void Daemon::Parts::RequestStop() {
  // lint: allow(post) no work is offloaded here: a foreign thread tells the io thread
  asio::post(io_, [this] {  // lint: allow(post) see above
    stop_requested_ = true;
    stop_.Notify();
  });
}

void Daemon::Parts::UpdateMetrics() {
  const proto::StatusReply status = core_.StatusNow();
  const proto::ArenaStatus& arena = status.arena();
  const TrafficCounters::Counts& counts = traffic_.counts();
  const ActionCounters& actions = runner_.counters();
  const auto number = [](auto value) { return static_cast<double>(value); };
  const auto live = std::count_if(
      status.jobs().begin(), status.jobs().end(), [](const auto& job) { return job.live(); });
  const std::chrono::duration<double> uptime = SystemClock().Now() - started_;
  std::vector<Sample> samples = {
      {&kUpInfo, version_, 1},
      {&kUptime, "", uptime.count()},
      {&kBoots, "", number(state_.recovered.boot_number)},
      {&kResident, "", ResidentBytes()},
      {&kSessions, "", number(server_.sessions())},
      {&kJobsLive, "", number(live)},
      {&kSealed, "", number(counts.sealed)},
      {&kMissed, "no_slot", number(counts.skipped)},
      {&kMissed, "torn", number(counts.torn)},
      {&kComplete, "", number(counts.complete)},
      {&kAbandoned, "", number(counts.abandoned)},
      {&kSealSeconds, "", 0, &traffic_.seal_seconds()},
      {&kArenaBytes, "budget", number(arena.budget_bytes())},
      {&kArenaBytes, "used", number(arena.used_bytes())},
      {&kArenaBytes, "quarantined", number(arena.quarantined_bytes())},
      {&kArenaSlots, "free", number(arena.free_slots())},
      {&kArenaSlots, "filling", number(arena.filling_slots())},
      {&kArenaSlots, "sealed", number(arena.sealed_slots())},
      {&kCatalogSeconds, "", 0, &traffic_.catalog_seconds()},
      {&kCatalogFailures, "", number(counts.catalog_failures)},
      {&kCatalogHealthy, "", pump_.failing().has_value() ? 0.0 : 1.0},
      {&kRestores, "", number(counts.restores)},
      {&kRestoreFailures, "", number(counts.restores_failed)},
      {&kMismatches,
       "",
       number(actions.digest_mismatches + counts.restore_mismatches +
              scrubber_.counters().bad_chunks)},
      {&kPoisoned,
       "",
       number(actions.slots_poisoned + stored_.poisoned() + scrubber_.counters().poisoned)},
      {&kPrepareFailures, "", number(actions.prepare_failures)},
  };
  for (const auto& [root, tier] : tiers_.all()) {
    const TierCounters& tier_counts = tier->counters();
    samples.push_back({&kFlushBytes, root, number(tier_counts.flushed_bytes)});
    samples.push_back({&kFlushSeconds, root, tier_counts.flush_seconds});
    samples.push_back({&kFlushes, root, number(tier_counts.flushes)});
    samples.push_back({&kFlushFailures, root, number(tier_counts.flush_failures)});
    samples.push_back({&kTierTimeouts, root, number(tier_counts.timeouts)});
    samples.push_back({&kTierHealthy, root, tier->sickness().has_value() ? 0.0 : 1.0});
  }
  AddJobMetrics(status, &samples);
  AddPeerMetrics(&samples);
  metrics_.Publish(samples);
}

void Daemon::Parts::AddJobMetrics(const proto::StatusReply& status, std::vector<Sample>* samples) {
  for (const proto::JobStatus& job : status.jobs()) {
    if (job.has_newest_complete()) {
      const auto step = static_cast<double>(job.newest_complete().step());
      samples->push_back({&kCompleteStep, job.name(), step});
    }
    if (job.has_protected_id()) {
      const auto step = static_cast<double>(job.protected_id().step());
      samples->push_back({&kProtectedStep, job.name(), step});
      samples->push_back({&kMargin, job.name(), static_cast<double>(job.margin())});
    }
  }
}

void Daemon::Parts::AddPeerMetrics(std::vector<Sample>* samples) {
  const bool on = peers_ != nullptr;
  const PeerCounters counts = on ? peers_->counters() : PeerCounters{};
  const std::size_t connected = on ? peers_->links().connected() : 0;
  samples->push_back({&kPeersConnected, "", static_cast<double>(connected)});
  const WallTime end = on ? peers_->certificate_end().value_or(WallTime()) : WallTime();
  samples->push_back(
      {&kCertificateEnd, "", std::chrono::duration<double>(end.time_since_epoch()).count()});
  samples->push_back({&kPeerMessages, "report", static_cast<double>(counts.reports_sent)});
  samples->push_back({&kPeerMessages, "command", static_cast<double>(counts.commands_sent)});
  samples->push_back({&kPeerUnanswered, "", static_cast<double>(counts.unanswered)});
  const DataPlaneCounters& read = data_plane_.counters();
  samples->push_back({&kPeerReadBytes, "fabric", static_cast<double>(read.fabric_bytes)});
  samples->push_back({&kPeerReadBytes, "connection", static_cast<double>(read.connection_bytes)});
  samples->push_back({&kPeerFabricFallbacks, "", static_cast<double>(read.fallbacks)});
  samples->push_back({&kPeerLent, "", static_cast<double>(data_plane_.lent())});
  const ParityCounters& made = parity_.counters();
  samples->push_back({&kRows, "", static_cast<double>(made.rows)});
  samples->push_back({&kRowBytes, "", static_cast<double>(made.row_bytes)});
  samples->push_back({&kRowsFailed, "", static_cast<double>(made.rows_failed)});
  samples->push_back({&kShardsBrought, "", static_cast<double>(made.shards)});
  samples->push_back({&kShardSeconds, "", made.shard_seconds});
  for (std::size_t i = 0; i < transport::kRefusals; ++i) {
    const auto refusal = static_cast<transport::Refusal>(i);
    samples->push_back({&kPeerRefused,
                        std::string(transport::Name(refusal)),
                        static_cast<double>(on ? peers_->refused(refusal) : 0)});
  }
}

Daemon::Daemon(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}

Daemon::~Daemon() = default;

Result<std::unique_ptr<Daemon>> Daemon::Create(const Config& config, std::string version) {
  HF_TRY(StartState state, StartUp(config));
  for (const std::string& warning : state.warnings) {
    LogWarning("start.warning", warning);
  }
  auto parts = std::make_unique<Parts>(config, std::move(version), std::move(state));
  HF_TRYV(parts->Listen());
  return std::unique_ptr<Daemon>(new Daemon(std::move(parts)));
}

Daemon::End Daemon::Run() {
  return parts_->Run();
}

void Daemon::RequestStop() {
  parts_->RequestStop();
}

}  // namespace holdfast::daemon
