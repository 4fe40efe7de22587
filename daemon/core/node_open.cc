// The start of a job: who may, when, and under which number.

#include <algorithm>
#include <utility>

#include "daemon/core/node_state.h"
#include "storage_tiers/catalog_records.h"

namespace holdfast::daemon {
namespace {

constexpr std::uint32_t kMaxWorldSize = 1U << 20;
constexpr int kMaxTiers = 8;
constexpr std::size_t kUidBytes = 16;
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
  if (!body.known_job_uid().empty() && body.known_job_uid().size() != kUidBytes) {
    return Error(Errc::kInvalidArgument, "the known job uid has no 16 bytes");
  }
  return Ok();
}

}  // namespace

Status NodeState::CheckTiers(const google::protobuf::RepeatedPtrField<proto::TierPolicy>& tiers) {
  if (tiers.size() > kMaxTiers) {
    return Error(Errc::kInvalidArgument, "more than 8 persistent tiers");
  }
  std::set<std::string> roots;
  for (const proto::TierPolicy& tier : tiers) {
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

// The same words as for an open: this node will keep the job's record too.
Status NodeState::CheckJoin(const proto::RegisterRequest& body) {
  proto::OpenIncarnationRequest open;
  open.set_job_name(body.job_name());
  open.set_world_size(body.world_size());
  open.set_known_job_uid(body.job_uid());
  if (body.job_uid().empty() || body.epoch_token() == 0) {
    return Error(Errc::kInvalidArgument, "a registration without the job's uid or the token");
  }
  return CheckOpen(open);
}

void NodeState::Open(SessionId session,
                     RequestId request,
                     const proto::OpenIncarnationRequest& body) {
  Status checked = CheckOpen(body);
  checked = checked.has_value() ? CheckTiers(body.tiers()) : checked;
  if (!checked.has_value()) {
    context.ReplyError(session, request, checked.error());
    return;
  }
  const bool waits = std::any_of(waiting_opens_.begin(),
                                 waiting_opens_.end(),
                                 [&](const WaitingOpen& open) { return open.session == session; });
  if (waits) {
    Refuse(
        session, request, Errc::kUnavailable, "this connection waits for such an answer already");
    return;
  }
  waiting_opens_.push_back({session, request, body, context.now + context.options.open_wait});
  TryOpens();
}

// A second start of a job would fence the first at once: it waits for the first one's trainers to
// end (a launcher that restarts workers has killed them, they are dying), and is refused if they
// live on.  One that lost its connection and does not come back either holds nobody off for longer.
void NodeState::TryOpens() {
  std::vector<WaitingOpen> opens;
  opens.swap(waiting_opens_);
  for (WaitingOpen& open : opens) {
    const auto client = clients.find(open.session);
    if (client == clients.end()) {
      continue;
    }
    JobUnit* unit = FindByName(open.body.job_name());
    if (unit != nullptr && !MayUse(client->second, unit->job)) {
      Refuse(open.session,
             open.request,
             Errc::kPermission,
             "job " + open.body.job_name() + " belongs to uid " +
                 std::to_string(unit->job.record.owner_uid()) + "; choose another name");
      continue;
    }
    const bool late = context.now >= open.deadline;
    const std::string holders = unit == nullptr || open.body.take_over()
                                    ? ""
                                    : Holders(*unit, client->second.identity, late);
    if (holders.empty()) {
      Claim(open);
    } else if (late) {
      Refuse(open.session,
             open.request,
             Errc::kAlreadyExists,
             "job " + open.body.job_name() + " is being trained already: " + holders +
                 "; end it, or give this start another job name");
    } else {
      waiting_opens_.push_back(std::move(open));
    }
  }
}

// Who trains the job, or has just started it; empty: nobody but the asker.
std::string NodeState::Holders(const JobUnit& unit,
                               const ClientIdentity& asker,
                               bool only_connected) const {
  const auto opener = clients.find(unit.opener);
  if (opener != clients.end() && opener->second.job.empty() &&
      !IsSameProcess(opener->second.identity, asker)) {
    return "process " + std::to_string(opener->second.identity.pid) + " has started it";
  }
  return unit.member->LiveTrainers(asker, only_connected);
}

void NodeState::Claim(const WaitingOpen& open) {
  const ClientState& client = clients.at(open.session);
  ClaimIncarnation claim;
  claim.job_name = open.body.job_name();
  claim.job_uid = open.body.known_job_uid();
  if (JobUnit* unit = FindByName(open.body.job_name()); unit != nullptr) {
    claim.job_uid = unit->job.uid();
    const auto claimed = claimed_.find(unit->job.uid());
    claim.at_least = 1 + std::max(unit->job.record.epoch_number(),
                                  claimed == claimed_.end() ? 0 : claimed->second);
    claim.expected_roots = unit->job.ExpectedRoots();
  }
  claim.at_least = std::max(claim.at_least, open.body.known_number() + 1);
  claim.token = client.identity.epoch_random;
  claim.world_size = open.body.world_size();
  claim.tiers.assign(open.body.tiers().begin(), open.body.tiers().end());
  claim.ticket = context.next_ticket++;
  claims_[claim.ticket] = {open.session, open.request, open.body, client.identity.uid, claim.token};
  context.Do(std::move(claim));
}

void NodeState::FinishClaim(std::uint64_t ticket, Result<ClaimedIncarnation> claimed) {
  const auto it = claims_.find(ticket);
  if (it == claims_.end()) {
    return;
  }
  const PendingClaim pending = std::move(it->second);
  claims_.erase(it);
  if (claimed.has_value()) {
    // Also where nobody waits for it any more: a tier that hangs may take it later, and the next
    // start must not come to it as another.
    std::uint64_t& highest = claimed_[claimed.value().job_uid];
    highest = std::max(highest, claimed.value().number);
  }
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
  unit->commands.clear();
  unit->report = {};
  unit->fenced.reset();
  unit->coordinator = std::make_unique<Coordinator>(&context, &unit->job);
  unit->opener = pending.session;
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
    *known.mutable_member_node_uuids() = file.member_node_uuids();
    // A file that names another job's snapshots would make the whole batch unwritable.
    const bool usable = storage_tiers::ValidateRecord(known).has_value();
    if (usable && job->incarnations.try_emplace(file.number(), known).second) {
      job->SaveIncarnation(&context, file.number());
    } else if (usable) {
      // What this node recorded of that start may be older than its choice.
      job->AdoptDecision(&context,
                         {{file.number(), file.token()}, file.world_size(), file.decision()});
    }
  }
}

}  // namespace holdfast::daemon
