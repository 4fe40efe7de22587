#include <chrono>
#include <utility>

#include <unistd.h>

#include "common/failpoint.h"
#include "common/log.h"
#include "daemon/daemon_parts.h"
#include "proto/catalog.pb.h"
#include "storage_tiers/catalog_keys.h"
#include "storage_tiers/posix_file_system.h"

namespace holdfast::daemon {
namespace {

namespace asio = boost::asio;
using storage_tiers::CatalogBatch;

// Trainers and the CLI of a node; each live trainer is watched beyond its connection.
constexpr std::size_t kWatchesForEachSession = 4;

CoreOptions OptionsOf(const Config& config, ByteCount page_bytes) {
  CoreOptions options;
  options.page_bytes = page_bytes;
  options.budget_bytes = config.budget_bytes;
  options.default_slots = static_cast<std::uint32_t>(config.slots_per_rank);
  options.max_ranks_per_job = static_cast<std::uint32_t>(config.max_ranks_per_job);
  options.restore_tries = static_cast<std::uint32_t>(config.restore_tries);
  options.orphan_ttl = std::chrono::duration_cast<std::chrono::seconds>(config.orphan_ttl);
  options.restore_wait = config.restore_wait;
  options.resume_wait = config.resume_wait;
  options.open_wait = config.open_wait;
  options.flush_retry_min = config.flush_retry_min;
  options.flush_retry_max = config.flush_retry_max;
  options.flush_gives_way = static_cast<std::uint32_t>(config.flush_gives_way);
  options.peers = !config.peer_listen.empty();
  options.code_data = static_cast<std::uint32_t>(config.coding_data);
  options.code_parity = options.peers ? static_cast<std::uint32_t>(config.coding_parity) : 0;
  options.failure_domain = config.failure_domain;
  return options;
}

PeerOptions PeerOptionsOf(const Config& config) {
  PeerOptions options;
  options.listen = config.peer_listen;
  options.advertise = config.peer_advertise;
  options.tls = {config.peer_authority, config.peer_certificate, config.peer_key};
  options.allow_insecure = config.peer_allow_insecure;
  options.dead_after = config.peer_dead_after;
  return options;
}

TierOptions TierOptionsOf(const Config& config) {
  TierOptions options;
  options.bytes_per_second = config.flush_bytes_per_second;
  options.flush_concurrency = config.flush_concurrency;
  options.call_limit = config.tier_timeout;
  options.image.block_bytes = config.flush_block_bytes;
  options.image.blocks_in_flight = static_cast<unsigned>(config.flush_blocks_in_flight);
  options.image.progress_timeout = config.tier_progress_timeout;
  return options;
}

TierSet::MakeFileSystem FileSystemMaker(const Config& config) {
  storage_tiers::PosixFileSystemOptions options;
  options.allow_direct = config.flush_direct_io;
  return [options] { return std::make_unique<storage_tiers::PosixFileSystem>(options); };
}

ServerRules RulesOf(const Config& config) {
  ServerRules rules;
  rules.own_uid = ::geteuid();
  rules.allowed_uids.insert(config.allowed_uids.begin(), config.allowed_uids.end());
  rules.all_uids = rules.own_uid == 0 && config.allowed_uids.empty();
  rules.max_sessions = config.max_sessions;
  rules.max_requests = config.max_requests_per_session;
  rules.request_memory_bytes = config.request_memory_bytes;
  rules.session.hello_timeout = config.hello_timeout;
  rules.session.send_timeout = config.send_timeout;
  rules.session.queue_bytes = config.session_queue_bytes;
  return rules;
}

RequestRules RequestRulesOf(const Config& config) {
  RequestRules rules;
  rules.own_uid = ::geteuid();
  rules.client_roots = config.client_roots;
  return rules;
}

proto::HelloReply HelloOf(const std::string& version, const RecoveredState& recovered) {
  proto::HelloReply hello;
  hello.set_protocol_version(kProtocolVersion);
  hello.set_software_version(version);
  hello.set_node_uuid(recovered.node_uuid);
  hello.set_arena_uuid(recovered.arena_uuid);
  hello.set_boot_number(recovered.boot_number);
  return hello;
}

DaemonFacts FactsOf(const Config& config, const std::string& version, const StartState& state) {
  DaemonFacts facts;
  facts.software_version = version;
  facts.node_uuid = state.recovered.node_uuid;
  facts.boot_number = state.recovered.boot_number;
  facts.arena_path = config.arena_dir;
  facts.state_dir = config.state_dir;
  facts.metrics_address = config.metrics_address;
  facts.started = SystemClock().Now();
  facts.warnings = state.warnings;
  return facts;
}

// Whether the batch records a shard that a trainer sealed: where failpoints of a seal stand.
bool HoldsSeal(const CatalogBatch& batch) {
  for (const CatalogBatch::Op& op : batch.ops()) {
    if (op.value.has_value() && !op.key.empty() &&
        op.key.front() == static_cast<char>(storage_tiers::CatalogFamily::kShard)) {
      return true;
    }
  }
  return false;
}

}  // namespace

Daemon::Parts::Parts(const Config& config, std::string version, StartState state)
    : config_(config),
      version_(std::move(version)),
      started_(SystemClock().Now()),
      state_(std::move(state)),
      data_plane_(io_.get_executor()),
      disk_("disk", config.disk_threads),
      cpu_("cpu", config.cpu_threads),
      arena_pool_("arena", 2),
      slots_(*state_.arena, arena_pool_),
      tiers_(io_.get_executor(), TierOptionsOf(config), config.max_roots, FileSystemMaker(config)),
      core_(OptionsOf(config, state_.arena->page_bytes()),
            state_.recovered,
            started_,
            SystemClock().WallNow()),
      pump_(io_.get_executor(), PumpHooks()),
      gate_(&io_thread_, &core_, [this] { pump_.Wake(); }),
      watch_(io_.get_executor(),
             kWatchesForEachSession * config.max_sessions,
             [this](std::uint64_t token) {
               LogInfo("trainer.dead", "a registered process ended; its slots are secured");
               gate_->OnProcessDead(token);
             }),
      filler_(
          FactsOf(config, version_, state_),
          &layouts_,
          &tiers_,
          [this] { return pump_.failing(); },
          [this](proto::StatusReply* status) { AddPeers(status); }),
      requests_(RequestRulesOf(config), &layouts_, &tiers_, &cpu_),
      server_(io_.get_executor(),
              RulesOf(config),
              HelloOf(version_, state_.recovered),
              ServerHooks(),
              &gate_,
              &requests_,
              &layouts_,
              &watch_),
      stored_(PipelineContext{tiers_, slots_, layouts_}, &cpu_, &gate_, &feeds_, &data_plane_),
      remote_(PipelineContext{tiers_, slots_, layouts_},
              &cpu_,
              &gate_,
              state_.recovered.node_uuid,
              CallPeers(),
              &data_plane_),
      parity_(io_.get_executor(),
              PipelineContext{tiers_, slots_, layouts_},
              &cpu_,
              &gate_,
              &feeds_,
              &remote_,
              {config.coding_spread_percent, config.coding_bytes_per_second}),
      shares_(io_.get_executor(), &cpu_, &gate_, &feeds_, &remote_, parity_.priority()),
      scrubber_(io_.get_executor(),
                PipelineContext{tiers_, slots_, layouts_},
                &cpu_,
                &gate_,
                parity_.priority()),
      cluster_view_(io_.get_executor(), state_.recovered.node_uuid, ViewHooks()),
      cluster_scrub_(io_.get_executor(), state_.recovered.node_uuid, ScrubHooks()),
      runner_(io_.get_executor(),
              PipelineContext{tiers_, slots_, layouts_},
              &cpu_,
              &gate_,
              RunnerOutlets()),
      signals_(io_, SIGTERM, SIGINT),
      stop_(io_.get_executor()),
      tasks_(io_.get_executor(), "daemon", 16),
      pump_task_(io_.get_executor(), "pump", 1),
      shutdown_(io_.get_executor(), "shutdown", 1) {
  RecoverParts();
}

void Daemon::Parts::RecoverParts() {
  for (RecoveredSlot& slot : state_.slots) {
    slots_.Recover(slot.slot, std::move(slot.file));
  }
  state_.slots.clear();
  for (auto& [hash, layout] : state_.layouts) {
    layouts_.Recover(hash, std::move(layout));
  }
  state_.layouts.clear();
  for (const proto::ShardRecord& shard : state_.recovered.shards) {
    layouts_.RecoverShard(shard);
  }
  for (const proto::SidecarRecord& sidecar : state_.recovered.sidecars) {
    layouts_.RecoverSidecar(sidecar);
  }
  for (const proto::SlotRecord& slot : state_.recovered.slots) {
    layouts_.RecoverSlot(slot);
  }
  layouts_.CollectUnused();
}

asio::awaitable<Status> Daemon::Parts::ApplyBatch(ReadyPump::SharedBatch batch) {
  const bool seal = HoldsSeal(*batch);
  auto write = [catalog = state_.catalog.get(), batch, seal]() -> Status {
    if (seal) {
      HF_TRYV(FailpointStatus("seal.before_record"));
    }
    HF_TRYV(FailpointStatus("catalog.before_apply"));
    HF_TRYV(catalog->Apply(*batch));
    // Recorded and not yet answered: from here on an error could not be told from success.
    HOLDFAST_FAILPOINT("catalog.after_apply");
    if (seal) {
      HOLDFAST_FAILPOINT("seal.after_record");
    }
    return Ok();
  };
  const auto began = std::chrono::steady_clock::now();
  const Status status = co_await Offload(disk_, std::move(write));
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - began;
  traffic_.OnCatalogWrite(took.count(), status.has_value());
  co_return status;
}

ReadyPump::Hooks Daemon::Parts::PumpHooks() {
  ReadyPump::Hooks hooks;
  hooks.take = [this](Ready* ready) { return core_.TakeReady(ready); };
  hooks.add_records = [this](CatalogBatch* batch) {
    layouts_.AddRecords(batch);
    traffic_.OnBatch(*batch);
  };
  hooks.apply = [this](ReadyPump::SharedBatch batch) { return ApplyBatch(std::move(batch)); };
  hooks.start = [this](Action action) { runner_.Run(std::move(action)); };
  return hooks;
}

SessionServer::Hooks Daemon::Parts::ServerHooks() {
  SessionServer::Hooks hooks;
  hooks.status_now = [this](std::uint32_t uid) -> std::unique_ptr<proto::StatusReply> {
    if (!pump_.failing().has_value()) {
      return nullptr;
    }
    return std::make_unique<proto::StatusReply>(core_.StatusNow(uid));
  };
  hooks.ask_nodes = [this](
                        SessionId session, std::uint32_t uid, const proto::ClientMessage& message) {
    return AskNodes(session, uid, message);
  };
  hooks.complete = [this](proto::ServerMessage* message) { filler_.Complete(message); };
  hooks.on_request = [this](SessionId session, const proto::ClientMessage& message) {
    traffic_.OnRequest(session, message, SystemClock().Now());
  };
  hooks.on_reply = [this](SessionId session, const proto::ServerMessage& message) {
    traffic_.OnReply(session, message, SystemClock().Now());
  };
  hooks.on_ended = [this](SessionId session) { traffic_.OnSessionEnded(session); };
  return hooks;
}

ActionRunner::Outlets Daemon::Parts::RunnerOutlets() {
  ActionRunner::Outlets outlets;
  outlets.send = [this](SessionId session, Outgoing outgoing) {
    server_.Send(session, std::move(outgoing));
  };
  outlets.close = [this](SessionId session) { server_.Close(session); };
  if (!config_.peer_listen.empty()) {
    outlets.report = [this](const SendReport& action) { peers_->Send(action); };
    outlets.command = [this](const SendCommand& action) { peers_->Send(action); };
    outlets.answer_peer = [this](const AnswerPeer& action) { peers_->Answer(action); };
    outlets.parity = &parity_;
  }
  return outlets;
}

Status Daemon::Parts::OpenDataPlane() {
  DataPlaneOptions options;
  options.planes = config_.peer_data_plane;
  options.device = config_.peer_fabric_device;
  options.bind_address = HostOf(config_.peer_listen);
  if (options.bind_address.empty() && !config_.peer_advertise.empty()) {
    options.bind_address = HostOf(config_.peer_advertise.front());
  }
  HF_TRYV(data_plane_.OpenBlocking(options, &arena_pool_, [this](const proto::StoredKey& key) {
    return stored_.FindBytes(key);
  }));
  LogInfo("data_plane.open", "bytes of other nodes come over " + data_plane_.Describe());
  return Ok();
}

Status Daemon::Parts::OpenPeers() {
  if (config_.peer_listen.empty()) {
    return Ok();
  }
  HF_TRYV(OpenDataPlane());
  PeerOptions options = PeerOptionsOf(config_);
  options.planes = data_plane_.Planes();
  HF_TRY(peers_,
         PeerNetwork::Open(io_.get_executor(),
                           options,
                           state_.recovered.node_uuid,
                           state_.recovered.boot_number,
                           &gate_));
  peers_->ServeWith(
      [this](std::shared_ptr<const transport::PeerFacts>, proto::PeerRequest request) {
        return AnswerPeerRequest(std::move(request));
      });
  return Ok();
}

void Daemon::Parts::AddPeers(proto::StatusReply* status) const {
  if (peers_ == nullptr) {
    return;
  }
  parity_.Describe(status);
  const std::vector<std::string>& endpoints = peers_->endpoints();
  status->mutable_peer_endpoints()->Assign(endpoints.begin(), endpoints.end());
  status->set_data_plane(data_plane_.Describe());
  for (proto::PeerStatus& peer : peers_->links().Describe()) {
    *status->add_peers() = std::move(peer);
  }
}

}  // namespace holdfast::daemon
