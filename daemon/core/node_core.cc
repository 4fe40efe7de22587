#include "daemon/core/node_core.h"

#include <set>
#include <utility>

#include "daemon/core/node_state.h"

namespace holdfast::daemon {

NodeCore::NodeCore(CoreOptions options,
                   RecoveredState recovered,
                   MonotonicTime now,
                   WallTime wall_now)
    : state_(std::make_unique<NodeState>(options, std::move(recovered), now, wall_now)) {}

NodeCore::~NodeCore() = default;

bool NodeCore::TakeReady(Ready* ready) {
  state_->ExchangeHeard();
  if (state_->context.out.empty()) {
    return false;
  }
  *ready = std::exchange(state_->context.out, {});
  return true;
}

std::size_t NodeCore::waiting_actions() const {
  return state_->context.out.actions.size();
}

void NodeCore::OnConnected(SessionId session, const ClientIdentity& identity) {
  state_->clients[session].identity = identity;
}

void NodeCore::OnRequest(SessionId session,
                         const proto::ClientMessage& message,
                         const LayoutFacts* layout) {
  state_->Dispatch(session, message, layout);
}

void NodeCore::OnDisconnected(SessionId session) {
  state_->Disconnect(session);
}

void NodeCore::OnProcessDead(std::uint64_t session_token) {
  for (auto& [uid, unit] : state_->jobs) {
    if (unit->member->OnProcessDead(session_token)) {
      state_->Exchange(unit.get());
    }
  }
  state_->TryOpens();
}

void NodeCore::OnSlotPrepared(SlotRef slot, const Status& status) {
  if (JobUnit* unit = state_->FindBySlot(slot); unit != nullptr) {
    unit->member->OnSlotReady(slot, status);
    state_->Exchange(unit);
  }
}

void NodeCore::OnGrantRefused(SlotRef slot) {
  if (JobUnit* unit = state_->FindBySlot(slot); unit != nullptr) {
    unit->member->OnGrantRefused(slot);
    state_->Exchange(unit);
  }
}

void NodeCore::OnQuarantineReleased(SlotRef slot) {
  JobUnit* unit = state_->FindBySlot(slot);
  const Slot* known = state_->context.slots.Find(slot);
  if (known == nullptr || known->phase != SlotPhase::kQuarantined) {
    return;
  }
  state_->context.slots.Remove(slot, state_->context.batch());
  if (unit != nullptr) {
    state_->Exchange(unit);
  }
}

void NodeCore::OnDigested(SlotRef slot, Result<std::vector<std::uint32_t>> digests) {
  if (JobUnit* unit = state_->FindBySlot(slot); unit != nullptr) {
    unit->member->OnDigested(slot, std::move(digests));
    state_->Exchange(unit);
  }
}

void NodeCore::OnVerified(std::uint64_t ticket,
                          SlotRef slot,
                          Result<std::vector<std::uint64_t>> bad_chunks) {
  state_->FinishVerify(ticket, slot, std::move(bad_chunks));
}

void NodeCore::OnIncarnationClaimed(std::uint64_t ticket, Result<ClaimedIncarnation> claimed) {
  state_->FinishClaim(ticket, std::move(claimed));
}

void NodeCore::OnTierListed(const JobUid& job,
                            const std::string& root,
                            std::uint32_t attempt,
                            Result<std::vector<TierSnapshot>> listed) {
  JobUnit* unit = state_->FindByUid(job);
  if (unit != nullptr && unit->coordinator != nullptr) {
    unit->coordinator->OnTierListed(root, attempt, std::move(listed));
    state_->Exchange(unit);
  }
}

void NodeCore::OnShardOpened(const JobUid& job,
                             std::uint32_t attempt,
                             Rank rank,
                             std::uint64_t ticket,
                             Result<proto::Sidecar> sidecar) {
  if (JobUnit* unit = state_->FindByUid(job); unit != nullptr) {
    unit->member->OnShardOpened(attempt, rank, ticket, std::move(sidecar));
    state_->Exchange(unit);
  }
}

void NodeCore::OnFlushed(const JobUid& job,
                         const std::string& root,
                         SnapshotKey id,
                         Rank rank,
                         const Status& status,
                         proto::ImageKind bad_image) {
  if (JobUnit* unit = state_->FindByUid(job); unit != nullptr) {
    const Epoch asker = unit->member->OnFlushed(root, id, rank, status, bad_image);
    if (!status.has_value() && unit->coordinator != nullptr) {
      unit->coordinator->OnFlushFenced(asker, status.error());
    }
    state_->Exchange(unit);
  }
}

void NodeCore::OnPublished(const JobUid& job,
                           const std::string& root,
                           SnapshotKey id,
                           const Epoch& asker,
                           const Status& status) {
  JobUnit* unit = state_->FindByUid(job);
  if (unit != nullptr && unit->coordinator != nullptr) {
    unit->coordinator->OnPublished(root, id, asker, status);
    state_->Exchange(unit);
  }
}

void NodeCore::OnDurableDeleted(const JobUid& job,
                                const std::string& root,
                                SnapshotKey id,
                                const Status& status) {
  state_->FinishDelete(job, root, id, status);
}

void NodeCore::OnRowMade(std::uint64_t ticket, Result<std::vector<std::uint32_t>> chunk_crc32c) {
  for (auto& [uid, unit] : state_->jobs) {
    if (unit->member->OnRowMade(ticket, chunk_crc32c)) {
      state_->Exchange(unit.get());
      return;
    }
  }
}

void NodeCore::OnSidecarsFetched(std::uint64_t ticket,
                                 Result<std::vector<proto::Sidecar>> sidecars) {
  for (auto& [uid, unit] : state_->jobs) {
    if (unit->member->OnSidecarsFetched(ticket, sidecars)) {
      state_->Exchange(unit.get());
      return;
    }
  }
}

void NodeCore::OnShardMade(std::uint64_t ticket, const Status& status) {
  for (auto& [uid, unit] : state_->jobs) {
    if (unit->member->OnShardMade(ticket, status)) {
      state_->Exchange(unit.get());
      return;
    }
  }
}

void NodeCore::OnSlotPoisoned(SlotRef slot, const std::string& reason) {
  state_->PoisonSlot(slot, reason);
}

void NodeCore::OnPeerUp(const std::string& node_uuid, std::uint64_t boot_number) {
  state_->PeerUp(node_uuid, boot_number);
}

void NodeCore::OnPeerDown(const std::string& node_uuid) {
  state_->PeerDown(node_uuid);
}

void NodeCore::OnPeerReport(const std::string& node_uuid,
                            std::uint64_t ticket,
                            const JobUid& job,
                            Report report) {
  const Status taken = state_->TakeReport(node_uuid, job, std::move(report));
  state_->context.Do(AnswerPeer{node_uuid, ticket, taken});
}

void NodeCore::OnPeerCommand(const std::string& node_uuid,
                             std::uint64_t ticket,
                             const JobUid& job,
                             const Command& command) {
  const Status taken = state_->TakeCommand(node_uuid, job, command);
  state_->context.Do(AnswerPeer{node_uuid, ticket, taken});
}

void NodeCore::OnPeerAnswer(const std::string& node_uuid,
                            const JobUid& job,
                            const MessageStamp& stamp,
                            const Status& status) {
  state_->TakeAnswer(node_uuid, job, stamp, status);
}

NodeHints NodeCore::WantedPeers() const {
  return state_->WantedPeers();
}

NodeHints NodeCore::KnownPeers() const {
  NodeHints known;
  for (const auto& [uid, unit] : state_->jobs) {
    for (const auto& [node, endpoints] : unit->job.KnownNodes()) {
      std::vector<std::string>& hints = known[node];
      hints = hints.empty() ? endpoints : hints;
    }
  }
  return known;
}

void NodeCore::OnTick(MonotonicTime now, WallTime wall_now) {
  state_->context.now = now;
  state_->context.wall_now = wall_now;
  state_->GiveUpLimbo();
  state_->FreeOrphans();
  state_->TryOpens();
  state_->LookForCoordinators();
  for (auto& [uid, unit] : state_->jobs) {
    if (unit->coordinator != nullptr) {
      unit->coordinator->OnTick();
    }
    unit->member->OnTick();
    state_->Exchange(unit.get());
  }
}

proto::StatusReply NodeCore::StatusNow(std::optional<std::uint32_t> asker) const {
  return state_->StatusView("", asker);
}

proto::ListReply NodeCore::ListNow(const std::string& job_name) const {
  return state_->ListView(job_name, std::nullopt);
}

proto::NodeView NodeCore::ViewNow(const std::string& job_name,
                                  std::optional<std::uint32_t> asker) const {
  return state_->ClusterView(job_name, asker);
}

std::vector<NodeCore::Limbo> NodeCore::LimboSessions() const {
  std::map<std::uint64_t, std::int32_t> found;
  std::as_const(state_->context.slots).ForEach([&](const Slot& slot) {
    if (slot.phase == SlotPhase::kLimbo) {
      found[slot.session_token] = slot.pid;
    }
  });
  std::vector<Limbo> limbo;
  limbo.reserve(found.size());
  for (const auto& [token, pid] : found) {
    limbo.push_back({token, pid});
  }
  return limbo;
}

}  // namespace holdfast::daemon
