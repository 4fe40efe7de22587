// What trainers ask: incarnations, registration, and the routing of the rest to their rank.

#include <algorithm>
#include <utility>

#include "daemon/core/node_state.h"
#include "storage_tiers/catalog_records.h"

namespace holdfast::daemon {
namespace {

constexpr std::uint32_t kMaxWorldSize = 1U << 20;
constexpr int kMaxTiers = 8;
constexpr std::size_t kMaxRootBytes = 4096;

bool IsJobName(const std::string& name) {
  const bool plain = std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '.' || c == '-';
  });
  return plain && !name.empty() && name.size() <= 128 && name != "." && name != "..";
}

Status CheckOpen(const proto::OpenIncarnationRequest& body) {
  if (!IsJobName(body.job_name())) {
    return Error(Errc::kInvalidArgument,
                 "job name \"" + body.job_name().substr(0, 128) +
                     "\": use 1 to 128 of A-Z a-z 0-9 _ . - (and not . or ..)");
  }
  if (body.world_size() == 0 || body.world_size() > kMaxWorldSize) {
    return Error(Errc::kInvalidArgument,
                 "world size " + std::to_string(body.world_size()) + " is not in 1.." +
                     std::to_string(kMaxWorldSize));
  }
  if (body.tiers_size() > kMaxTiers) {
    return Error(Errc::kInvalidArgument, "more than 8 persistent tiers");
  }
  std::set<std::string> roots;
  for (const proto::TierPolicy& tier : body.tiers()) {
    if (tier.root().empty() || tier.root()[0] != '/' || !roots.insert(tier.root()).second) {
      return Error(
          Errc::kInvalidArgument,
          "persistent root \"" + tier.root() + "\" is not an absolute path, or given twice");
    }
    if (tier.root().size() > kMaxRootBytes || tier.root().find('\0') != std::string::npos) {
      return Error(Errc::kInvalidArgument,
                   "a persistent root is longer than 4096 bytes or has a 0");
    }
    if ((tier.scope() != proto::SHARED && tier.scope() != proto::NODE) || tier.keep_last() == 0) {
      return Error(Errc::kInvalidArgument,
                   "persistent root " + tier.root() +
                       ": its scope must be shared or node, and keep_last at least 1");
    }
  }
  return Ok();
}

}  // namespace

void NodeState::Refuse(SessionId session, RequestId request, Errc code, std::string text) {
  context.ReplyError(session, request, Error(code, std::move(text)));
}

bool NodeState::MayUse(const ClientState& client, const Job& job) const {
  return client.identity.uid == job.record.owner_uid() || client.identity.uid == 0;
}

void NodeState::Dispatch(SessionId session,
                         const proto::ClientMessage& message,
                         const LayoutFacts* layout) {
  const auto it = clients.find(session);
  if (it == clients.end()) {
    return;
  }
  switch (message.body_case()) {
    case Message::kOpenIncarnation:
      Open(session, message.request_id(), message.open_incarnation());
      return;
    case Message::kRegister:
      Register(session, message.request_id(), message.register_(), layout);
      return;
    case Message::kFinish:
      Finish(session, message.request_id(), message.finish());
      return;
    default:
      break;
  }
  if (!DispatchAdmin(session, message)) {
    DispatchRank(session, message, it->second);
  }
}

JobUnit* NodeState::UnitOfRank(SessionId session, RequestId request, const ClientState& client) {
  JobUnit* unit = FindByUid(client.job);
  if (unit == nullptr) {
    Refuse(session, request, Errc::kInvalidArgument, "register a rank on this connection first");
    return nullptr;
  }
  // I8: whatever a session of an older incarnation asks, it changes nothing.
  if (client.epoch != unit->job.epoch()) {
    Refuse(session,
           request,
           Errc::kFenced,
           "incarnation " + std::to_string(client.epoch.number) + " of job " +
               unit->job.record.name() + " is over: incarnation " +
               std::to_string(unit->job.record.epoch_number()) + " has started");
    return nullptr;
  }
  if (unit->member->RankOfSession(session) != client.rank) {
    Refuse(session, request, Errc::kUnavailable, "this rank's session is elsewhere now");
    return nullptr;
  }
  return unit;
}

void NodeState::DispatchRank(SessionId session, const Message& message, const ClientState& client) {
  const RequestId request = message.request_id();
  JobUnit* unit = UnitOfRank(session, request, client);
  if (unit == nullptr) {
    return;
  }
  Member* member = unit->member.get();
  switch (message.body_case()) {
    case Message::kBegin:
      member->OnBegin(client.rank, request, message.begin());
      break;
    case Message::kMissed:
      member->OnMissed(client.rank, request, message.missed());
      break;
    case Message::kTorn:
      member->OnTorn(client.rank, request, message.torn());
      break;
    case Message::kCopiesDone:
      member->OnCopiesDone(client.rank, request, message.copies_done());
      break;
    case Message::kSeal:
      member->OnSeal(client.rank, request, message.seal());
      break;
    case Message::kRestore:
      member->OnRestore(client.rank, request, message.restore());
      break;
    case Message::kLoaded:
      member->OnLoaded(client.rank, request, message.loaded());
      break;
    case Message::kDrain:
      member->OnDrain(client.rank, request, message.drain());
      break;
    default:
      Refuse(session, request, Errc::kInvalidArgument, "unknown request");
      return;
  }
  Exchange(unit);
}

void NodeState::Open(SessionId session,
                     RequestId request,
                     const proto::OpenIncarnationRequest& body) {
  if (const Status checked = CheckOpen(body); !checked.has_value()) {
    context.ReplyError(session, request, checked.error());
    return;
  }
  const ClientState& client = clients.at(session);
  ClaimIncarnation claim;
  claim.job_name = body.job_name();
  if (JobUnit* unit = FindByName(body.job_name()); unit != nullptr) {
    if (!MayUse(client, unit->job)) {
      Refuse(session,
             request,
             Errc::kPermission,
             "job " + body.job_name() + " belongs to uid " +
                 std::to_string(unit->job.record.owner_uid()) + "; choose another name");
      return;
    }
    claim.job_uid = unit->job.uid();
    claim.at_least = unit->job.record.epoch_number() + 1;
    claim.expected_roots = unit->job.ExpectedRoots();
  }
  claim.token = client.identity.epoch_random;
  claim.world_size = body.world_size();
  claim.tiers.assign(body.tiers().begin(), body.tiers().end());
  claim.ticket = context.next_ticket++;
  claims_[claim.ticket] = {session, request, body, client.identity.uid, claim.token};
  context.Do(std::move(claim));
}

void NodeState::FinishClaim(std::uint64_t ticket, Result<ClaimedIncarnation> claimed) {
  const auto it = claims_.find(ticket);
  if (it == claims_.end()) {
    return;
  }
  const PendingClaim pending = std::move(it->second);
  claims_.erase(it);
  if (!clients.contains(pending.session)) {
    return;
  }
  if (!claimed.has_value()) {
    context.ReplyError(pending.session, pending.request, claimed.error());
    return;
  }
  if (const Status checked = CheckClaim(pending, claimed.value().job_uid); !checked.has_value()) {
    context.ReplyError(pending.session, pending.request, checked.error());
    return;
  }
  const JobUnit* unit = FindByUid(claimed.value().job_uid);
  if (unit != nullptr && claimed.value().number <= unit->job.record.epoch_number()) {
    Open(pending.session, pending.request, pending.body);  // another start was faster
    return;
  }
  StartIncarnation(pending, claimed.value());
}

// A tier's job.json decides the uid: it may name a job that is not the one asked for.
Status NodeState::CheckClaim(const PendingClaim& pending, const JobUid& uid) {
  const JobUnit* unit = FindByUid(uid);
  const JobUnit* named = FindByName(pending.body.job_name());
  if (named != nullptr && named != unit) {
    return Error(Errc::kAlreadyExists,
                 "the persistent tier has another job of the name " + pending.body.job_name());
  }
  const bool foreign = unit != nullptr && (unit->job.record.name() != pending.body.job_name() ||
                                           !MayUse(clients.at(pending.session), unit->job));
  if (foreign) {
    return Error(Errc::kPermission,
                 "the persistent tier says that job " + pending.body.job_name() +
                     " has the identity of another job of this node; give it a root of its own");
  }
  return Ok();
}

// The new epoch is in this Ready's batch: synced before the answer leaves (I8).
void NodeState::StartIncarnation(const PendingClaim& pending, const ClaimedIncarnation& got) {
  JobUnit* unit = FindByUid(got.job_uid);
  if (unit == nullptr) {
    proto::JobRecord record;
    record.set_job_uid(got.job_uid);
    record.set_name(pending.body.job_name());
    record.set_owner_uid(pending.owner_uid);
    unit = AddJob(std::move(record));
  }
  AdoptDecisions(&unit->job, got.found);
  proto::JobRecord& record = unit->job.record;
  record.set_epoch_number(got.number);
  record.set_epoch_token(pending.token);
  record.set_world_size(pending.body.world_size());
  *record.mutable_tiers() = pending.body.tiers();
  record.set_finished(false);
  record.set_last_active_unix_ms(context.WallMs());
  unit->job.Save(&context);
  unit->member->StartEpoch();
  unit->coordinator = std::make_unique<Coordinator>(&context, &unit->job);
  proto::ServerMessage message;
  message.mutable_open_incarnation()->set_job_uid(got.job_uid);
  message.mutable_open_incarnation()->set_number(got.number);
  message.mutable_open_incarnation()->set_token(pending.token);
  context.Reply(pending.session, pending.request, std::move(message));
  Exchange(unit);
}

// What older incarnations decided on other nodes: their boundaries count for the choice.
void NodeState::AdoptDecisions(Job* job, const std::vector<proto::IncarnationFile>& found) {
  for (const proto::IncarnationFile& file : found) {
    proto::IncarnationRecord known;
    known.set_job_uid(job->uid());
    known.set_number(file.number());
    known.set_token(file.token());
    known.set_world_size(file.world_size());
    known.set_last_begun_step(kNoStep);
    *known.mutable_decision() = file.decision();
    // A file that names another job's snapshots would make the whole batch unwritable.
    const bool usable = storage_tiers::ValidateRecord(known).has_value();
    if (usable && job->incarnations.try_emplace(file.number(), known).second) {
      job->SaveIncarnation(&context, file.number());
    }
  }
}

Status NodeState::CheckEpoch(const JobUnit& unit, const proto::RegisterRequest& body) const {
  const Epoch now = unit.job.epoch();
  if (body.epoch_number() < now.number) {
    return Error(Errc::kFenced,
                 "incarnation " + std::to_string(body.epoch_number()) + " of job " +
                     unit.job.record.name() + " is over: incarnation " +
                     std::to_string(now.number) + " has started");
  }
  if (body.epoch_number() == now.number && body.epoch_token() != now.token) {
    return Error(Errc::kFenced,
                 "another start of job " + unit.job.record.name() + " took incarnation " +
                     std::to_string(now.number) + " with another token; end one of the two");
  }
  if (body.epoch_number() > now.number) {
    return Error(Errc::kNotFound,
                 "incarnation " + std::to_string(body.epoch_number()) + " of job " +
                     unit.job.record.name() + " was not opened here; rank 0 opens it first");
  }
  if (body.world_size() != unit.job.record.world_size() || body.rank() >= body.world_size()) {
    return Error(Errc::kInvalidArgument,
                 "rank " + std::to_string(body.rank()) + " of " +
                     std::to_string(body.world_size()) + ", but the incarnation has world size " +
                     std::to_string(unit.job.record.world_size()));
  }
  return Ok();
}

void NodeState::Register(SessionId session,
                         RequestId request,
                         const proto::RegisterRequest& body,
                         const LayoutFacts* layout) {
  ClientState& client = clients.at(session);
  JobUnit* unit = FindByUid(body.job_uid());
  if (unit == nullptr || unit->job.record.name() != body.job_name()) {
    Refuse(session,
           request,
           Errc::kNotFound,
           "job " + body.job_name().substr(0, 128) + " is not known here; rank 0 opens it first");
    return;
  }
  if (!MayUse(client, unit->job)) {
    Refuse(session,
           request,
           Errc::kPermission,
           "job " + body.job_name() + " belongs to uid " +
               std::to_string(unit->job.record.owner_uid()));
    return;
  }
  if (const Status checked = CheckEpoch(*unit, body); !checked.has_value()) {
    context.ReplyError(session, request, checked.error());
    return;
  }
  const bool bad_step =
      std::any_of(body.held().begin(), body.held().end(), [](const proto::HeldSlot& held) {
        return held.use() != proto::HeldSlot::IDLE && held.step() < 0;
      });
  const bool other_rank =
      !client.job.empty() && (client.job != body.job_uid() ||
                              (client.epoch == unit->job.epoch() && client.rank != body.rank()));
  const bool too_many = unit->member->ranks().size() >= context.options.max_ranks_per_job &&
                        !unit->member->ranks().contains(body.rank());
  if (layout == nullptr || bad_step || other_rank || too_many) {
    Refuse(session,
           request,
           Errc::kInvalidArgument,
           layout == nullptr ? "the request has no layout"
           : bad_step        ? "a held slot names a negative step"
           : other_rank      ? "this connection is another rank's already"
                             : "more than " + std::to_string(context.options.max_ranks_per_job) +
                              " ranks of one job on this node (max_ranks_per_job)");
    return;
  }
  unit->member->OnRegister(session, client.identity, request, body, *layout);
  if (unit->member->RankOfSession(session) == body.rank()) {
    client.job = body.job_uid();
    client.rank = body.rank();
    client.epoch = unit->job.epoch();
  }
  Exchange(unit);
}

}  // namespace holdfast::daemon
