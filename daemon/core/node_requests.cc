// What trainers ask: registration, and the routing of the rest to their rank.

#include <algorithm>
#include <utility>

#include "daemon/core/node_state.h"

namespace holdfast::daemon {
void NodeState::Refuse(SessionId session, RequestId request, Errc code, std::string text) {
  context.ReplyError(session, request, Error(code, std::move(text)));
}

bool NodeState::MayUse(const ClientState& client, const Job& job) const {
  return MayUse(client.identity.uid, job);
}

bool NodeState::MayUse(std::uint32_t uid, const Job& job) {
  return uid == job.record.owner_uid() || uid == 0;
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
  if (unit->fenced.has_value()) {
    context.ReplyError(session, request, *unit->fenced);
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
    case Message::kRefuseStatic:
      member->OnRefuseStatic(client.rank, request, message.refuse_static());
      break;
    case Message::kLeave:
      member->OnLeave(client.rank, request);
      TryOpens();
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
  if (body.epoch_number() == now.number && unit.fenced.has_value()) {
    return *unit.fenced;
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
  if (body.members_size() > 0) {
    if (const Status joined = Join(client, body); !joined.has_value()) {
      context.ReplyError(session, request, joined.error());
      return;
    }
  }
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
