// What the CLI and operators ask: open, verify, drop, remove, finish.

#include <algorithm>
#include <utility>

#include "common/crc32c.h"
#include "daemon/core/node_state.h"

namespace holdfast::daemon {

bool NodeState::DispatchAdmin(SessionId session, const Message& message) {
  const RequestId request = message.request_id();
  const ClientIdentity& identity = clients.at(session).identity;
  const Asker asker = identity.sees_all ? Asker() : Asker(identity.uid);
  proto::ServerMessage reply;
  switch (message.body_case()) {
    case Message::kStatus:
      *reply.mutable_status() = StatusView(message.status().job_name(), asker);
      context.Reply(session, request, std::move(reply));
      return true;
    case Message::kList:
      *reply.mutable_list() = ListView(message.list().job_name(), asker);
      context.Reply(session, request, std::move(reply));
      return true;
    case Message::kOpenShard:
      OpenShard(session, request, message.open_shard());
      return true;
    case Message::kVerifyShard:
      VerifyShard(session, request, message.verify_shard());
      return true;
    case Message::kDrop:
      Drop(session, request, message.drop());
      return true;
    case Message::kRemove:
      Remove(session, request, message.remove());
      return true;
    default:
      return false;
  }
}

JobUnit* NodeState::OwnedUnit(SessionId session, RequestId request, const std::string& name) {
  JobUnit* unit = FindByName(name);
  if (unit == nullptr) {
    Refuse(session, request, Errc::kNotFound, "no job " + name.substr(0, 128) + " on this node");
    return nullptr;
  }
  if (!MayUse(clients.at(session), unit->job)) {
    Refuse(session,
           request,
           Errc::kPermission,
           "job " + name + " belongs to uid " + std::to_string(unit->job.record.owner_uid()));
    return nullptr;
  }
  return unit;
}

Shard* NodeState::FindShard(
    SessionId session, RequestId request, const proto::SnapshotId& id, Rank rank, JobUnit** unit) {
  *unit = FindByUid(id.job_uid());
  Shard* shard = *unit == nullptr ? nullptr : (*unit)->job.FindShard(KeyOf(id), rank);
  if (shard == nullptr) {
    Refuse(session,
           request,
           Errc::kNotFound,
           ToText(KeyOf(id)) + ", rank " + std::to_string(rank) + ": not in this node's memory");
    return nullptr;
  }
  if (!MayUse(clients.at(session), (*unit)->job)) {
    Refuse(session, request, Errc::kPermission, "the job belongs to another uid");
    return nullptr;
  }
  return shard;
}

void NodeState::OpenShard(SessionId session,
                          RequestId request,
                          const proto::OpenShardRequest& body) {
  JobUnit* unit = nullptr;
  Shard* shard = FindShard(session, request, body.id(), body.rank(), &unit);
  if (shard == nullptr) {
    return;
  }
  if (shard->poisoned) {
    Refuse(session, request, Errc::kCorruption, "the shard is poisoned: " + shard->poison_reason);
    return;
  }
  const bool is_static = body.image() == proto::STATIC;
  if (is_static && !shard->static_slot.has_value()) {
    Refuse(session, request, Errc::kNotFound, "the shard has no static image");
    return;
  }
  const SlotRef opened = is_static ? *shard->static_slot : shard->slot;
  ClientState& client = clients.at(session);
  while (!client.opened.empty() && (!is_static || client.opened.size() > 1)) {
    Unpin(client.opened.back());
    client.opened.pop_back();
  }
  client.opened.push_back(opened);
  ++context.slots.Find(opened)->pins;
  Send send;
  send.session = session;
  send.message.set_request_id(request);
  *send.message.mutable_open_shard()->mutable_sidecar() = shard->sidecar;
  send.message.mutable_open_shard()->set_has_fd(true);
  send.fd_slot = opened;
  context.Do(std::move(send));
}

void NodeState::VerifyShard(SessionId session,
                            RequestId request,
                            const proto::VerifyShardRequest& body) {
  JobUnit* unit = nullptr;
  Shard* shard = FindShard(session, request, body.id(), body.rank(), &unit);
  if (shard == nullptr) {
    return;
  }
  const bool is_static = body.image() == proto::STATIC;
  if (is_static && !shard->static_slot.has_value()) {
    Refuse(session, request, Errc::kNotFound, "the shard has no static image");
    return;
  }
  const proto::ImageDigest& image = shard->sidecar.images(is_static ? 1 : 0);
  const auto chunks = static_cast<std::uint64_t>(image.chunk_crc32c_size());
  const std::uint64_t first = body.first_chunk();
  if (first >= chunks) {
    Refuse(session,
           request,
           Errc::kInvalidArgument,
           "chunk " + std::to_string(first) + " of a shard of " + std::to_string(chunks));
    return;
  }
  const std::uint64_t count =
      body.chunks() == 0 ? chunks - first : std::min(body.chunks(), chunks - first);
  VerifySlot verify;
  verify.slot = is_static ? *shard->static_slot : shard->slot;
  verify.first_chunk = first;
  verify.length_bytes = std::min(count * kChunkBytes, image.length_bytes() - first * kChunkBytes);
  const auto digests = image.chunk_crc32c().begin() + static_cast<std::ptrdiff_t>(first);
  verify.expected.assign(digests, digests + static_cast<std::ptrdiff_t>(count));
  verify.ticket = context.next_ticket++;
  ++context.slots.Find(verify.slot)->pins;
  verifies_[verify.ticket] = {session,
                              request,
                              unit->job.uid(),
                              KeyOf(body.id()),
                              body.rank(),
                              verify.length_bytes,
                              body.image()};
  context.Do(std::move(verify));
}

void NodeState::FinishVerify(std::uint64_t ticket,
                             SlotRef slot,
                             Result<std::vector<std::uint64_t>> bad) {
  Unpin(slot);
  const auto it = verifies_.find(ticket);
  if (it == verifies_.end()) {
    return;
  }
  const PendingVerify pending = std::move(it->second);
  verifies_.erase(it);
  JobUnit* unit = FindByUid(pending.job);
  if (!bad.has_value()) {
    context.ReplyError(pending.session, pending.request, bad.error());
    return;
  }
  proto::ServerMessage reply;
  reply.mutable_verify_shard()->set_bytes(pending.bytes);
  reply.mutable_verify_shard()->mutable_bad_chunks()->Add(bad.value().begin(), bad.value().end());
  if (!bad.value().empty() && unit != nullptr) {
    unit->member->Poison(pending.id,
                         pending.rank,
                         "chunk " + std::to_string(bad.value().front()) +
                             " does not match its digest (found by verify)",
                         pending.image);
    Exchange(unit);
  }
  context.Reply(pending.session, pending.request, std::move(reply));
}

// Also one whose trainers have not come back to this daemon yet: after its start it knows of them
// by the slots alone that they were handed.
bool NodeState::MayBeLive(const JobUnit& unit) {
  bool waits = false;
  context.slots.ForEach([&](Slot* slot) {
    waits = waits || (slot->phase == SlotPhase::kLimbo && slot->job == unit.job.uid());
  });
  return unit.member->live() || (waits && !limbo_over);
}

void NodeState::Finish(SessionId session, RequestId request, const proto::FinishRequest& body) {
  const ClientState& client = clients.at(session);
  JobUnit* unit = body.job_name().empty() ? UnitOfRank(session, request, client)
                                          : OwnedUnit(session, request, body.job_name());
  if (unit == nullptr) {
    return;
  }
  if (!body.job_name().empty() && MayBeLive(*unit)) {
    Refuse(session,
           request,
           Errc::kUnavailable,
           "job " + body.job_name() + " is live; end it first, or use drop with force");
    return;
  }
  const bool all_done = !body.job_name().empty() || unit->member->OnFinished(client.rank);
  proto::ServerMessage reply;
  reply.mutable_finish()->set_freed_bytes(all_done ? FreeJob(unit) : 0);
  context.Reply(session, request, std::move(reply));
  ExchangeAll();
}

void NodeState::Drop(SessionId session, RequestId request, const proto::DropRequest& body) {
  JobUnit* unit = OwnedUnit(session, request, body.job_name());
  if (unit == nullptr) {
    return;
  }
  if (!body.force() && MayBeLive(*unit)) {
    Refuse(session,
           request,
           Errc::kUnavailable,
           "job " + body.job_name() + " is live: dropping its memory needs force");
    return;
  }
  proto::ServerMessage reply;
  reply.mutable_drop()->set_freed_bytes(FreeJob(unit));
  if (body.forget()) {
    unit->job.ForgetPublished(&context);
    // Its identity too: the next start takes the one that it finds on its roots.
    if (!IsInUse(*unit)) {
      unit->job.Forget(&context);
      // A copy: the uid inside the unit goes with it.
      jobs.erase(JobUid(unit->job.uid()));
    }
  }
  context.Reply(session, request, std::move(reply));
  ExchangeAll();
}

void NodeState::Remove(SessionId session, RequestId request, const proto::RemoveRequest& body) {
  JobUnit* unit = FindByUid(body.id().job_uid());
  if (unit == nullptr || !MayUse(clients.at(session), unit->job)) {
    Refuse(session,
           request,
           unit == nullptr ? Errc::kNotFound : Errc::kPermission,
           unit == nullptr ? "no such job on this node" : "the job belongs to another uid");
    return;
  }
  const SnapshotKey id = KeyOf(body.id());
  if (body.root().empty()) {
    RemoveFromMemory(session, request, unit, id);
    return;
  }
  const proto::DurableRecord* durable = unit->job.FindDurable(body.root(), id);
  if (durable == nullptr || !durable->published()) {
    Refuse(session, request, Errc::kNotFound, ToText(id) + " is not durable on " + body.root());
    return;
  }
  const auto& durables = unit->job.durables.at(body.root());
  const bool newest = std::none_of(durables.upper_bound(id), durables.end(), [](const auto& entry) {
    return entry.second.published() && !entry.second.bad();
  });
  if (newest || unit->job.IsBaseOrFallback(id)) {
    Refuse(session,
           request,
           Errc::kUnavailable,
           ToText(id) + (newest ? " is the newest snapshot on " + body.root()
                                : " is what the present incarnation started from"));
    return;
  }
  if (removes_.contains({unit->job.uid(), body.root(), id})) {
    Refuse(session, request, Errc::kUnavailable, ToText(id) + " is being removed already");
    return;
  }
  removes_[{unit->job.uid(), body.root(), id}] = {session, request};
  context.Do(
      DeleteDurable{unit->job.record.name(), unit->job.uid(), body.root(), id, unit->job.epoch()});
}

// I4 holds for operators too: the newest complete snapshot of a job goes only with `drop`.
void NodeState::RemoveFromMemory(SessionId session,
                                 RequestId request,
                                 JobUnit* unit,
                                 const SnapshotKey& id) {
  if (!unit->job.shards.contains(id)) {
    Refuse(session, request, Errc::kNotFound, ToText(id) + " is not in this node's memory");
    return;
  }
  const bool restoring = unit->coordinator != nullptr && unit->coordinator->phase() != Phase::kRun;
  if (restoring || unit->member->NeedsForProtection(id) || unit->job.NewestComplete() == id ||
      unit->job.IsBaseOrFallback(id) || !unit->member->RemoveShards(id)) {
    Refuse(session,
           request,
           Errc::kUnavailable,
           ToText(id) +
               " is the newest complete snapshot, the base of a restore, or in use; `holdfast "
               "drop` frees a job");
    return;
  }
  proto::ServerMessage reply;
  reply.mutable_remove();
  context.Reply(session, request, std::move(reply));
  Exchange(unit);
}

void NodeState::FinishDelete(const JobUid& uid,
                             const std::string& root,
                             const SnapshotKey& id,
                             const Status& status) {
  JobUnit* unit = FindByUid(uid);
  if (unit != nullptr && unit->coordinator != nullptr) {
    unit->coordinator->OnDurableDeleted(root, id, status);
  } else if (unit != nullptr && status.has_value()) {
    unit->job.EraseDurable(&context, root, id);
  }
  const auto it = removes_.find({uid, root, id});
  if (it != removes_.end()) {
    proto::ServerMessage reply;
    reply.mutable_remove();
    if (status.has_value()) {
      context.Reply(it->second.first, it->second.second, std::move(reply));
    } else {
      context.ReplyError(it->second.first, it->second.second, status.error());
    }
    removes_.erase(it);
  }
  if (unit != nullptr) {
    Exchange(unit);
  }
}

}  // namespace holdfast::daemon
