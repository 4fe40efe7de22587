// How a node learns of an incarnation that another node's daemon opened: its own ranks bring it.

#include <set>
#include <utility>

#include "daemon/core/node_state.h"

namespace holdfast::daemon {
namespace {

constexpr int kMaxEndpoints = 8;
constexpr std::size_t kMaxEndpointBytes = 256;
constexpr std::size_t kUuidBytes = 16;

// Every rank is served by exactly one node.
Status CheckMembers(const proto::RegisterRequest& body) {
  std::set<std::string> nodes;
  std::set<Rank> ranks;
  for (const proto::MemberNode& member : body.members()) {
    if (member.node_uuid().size() != kUuidBytes || !nodes.insert(member.node_uuid()).second) {
      return Error(Errc::kInvalidArgument,
                   "a member's node uuid has no 16 bytes, or is given twice");
    }
    if (member.endpoints_size() > kMaxEndpoints) {
      return Error(Errc::kInvalidArgument, "a member has more than 8 endpoints");
    }
    for (const std::string& endpoint : member.endpoints()) {
      if (endpoint.size() > kMaxEndpointBytes) {
        return Error(Errc::kInvalidArgument, "an endpoint is longer than 256 bytes");
      }
    }
    for (const Rank rank : member.ranks()) {
      if (rank >= body.world_size() || !ranks.insert(rank).second) {
        return Error(Errc::kInvalidArgument,
                     "members: rank " + std::to_string(rank) +
                         " is above the world size, or served by two nodes");
      }
    }
  }
  if (ranks.size() != body.world_size()) {
    return Error(Errc::kInvalidArgument, "members: not every rank has a node");
  }
  return Ok();
}

const std::string& ServerOf(const proto::RegisterRequest& body, Rank rank) {
  for (const proto::MemberNode& member : body.members()) {
    for (const Rank served : member.ranks()) {
      if (served == rank) {
        return member.node_uuid();
      }
    }
  }
  return body.members(0).node_uuid();  // not reached: every rank has a node
}

}  // namespace

// The registration goes on with the usual checks; here only the incarnation is made known.
Status NodeState::Join(const ClientState& client, const proto::RegisterRequest& body) {
  JobUnit* unit = FindByUid(body.job_uid());
  // Each of a node's ranks brings the same thousands of members: they are checked once.
  const bool known_members = unit != nullptr && unit->job.SpansNodes() &&
                             unit->job.record.epoch_number() == body.epoch_number() &&
                             unit->job.record.world_size() == body.world_size() &&
                             unit->job.HasMembers(body.members());
  HF_TRYV(known_members ? Status(Ok()) : CheckMembers(body));
  HF_TRYV(CheckTiers(body.tiers()));
  if (ServerOf(body, body.rank()) != context.node_uuid) {
    return Error(Errc::kInvalidArgument,
                 "members: rank " + std::to_string(body.rank()) + " is served by node " +
                     NodeText(ServerOf(body, body.rank())) + ", this is " +
                     NodeText(context.node_uuid));
  }
  if (body.members_size() > 1 && !context.options.peers) {
    return Error(Errc::kUnavailable,
                 "the job has several nodes, but this daemon was given no peers (peer.listen)");
  }
  const JobUnit* named = FindByName(body.job_name());
  if (named != unit) {
    return Error(Errc::kAlreadyExists,
                 "this node has another job of the name " + body.job_name().substr(0, 128));
  }
  const bool opened_here = ServerOf(body, 0) == context.node_uuid;
  const std::uint64_t known = unit == nullptr ? 0 : unit->job.record.epoch_number();
  if (unit != nullptr && !MayUse(client, unit->job)) {
    return Ok();  // Register says so
  }
  if (!opened_here && body.epoch_number() > known) {
    HF_TRYV(CheckJoin(body));
    if (unit == nullptr) {
      proto::JobRecord record;
      record.set_job_uid(body.job_uid());
      record.set_name(body.job_name());
      record.set_owner_uid(client.identity.uid);
      unit = AddJob(std::move(record));
    }
    EnterEpoch(unit, {body.epoch_number(), body.epoch_token()}, body.world_size());
  }
  const Epoch asked{body.epoch_number(), body.epoch_token()};
  return unit == nullptr || unit->job.epoch() != asked ? Status(Ok()) : TakeMembers(unit, body);
}

Status NodeState::TakeMembers(JobUnit* unit, const proto::RegisterRequest& body) {
  Job& job = unit->job;
  if (job.SpansNodes()) {
    return job.HasMembers(body.members())
               ? Status(Ok())
               : Error(Errc::kInvalidArgument, "the ranks of this start name different members");
  }
  const bool mine = unit->coordinator != nullptr;
  const std::string& first = ServerOf(body, 0);
  const std::string heard = job.CoordinatorNode();
  if (mine != (first == context.node_uuid) || (!heard.empty() && heard != first)) {
    return Error(Errc::kInvalidArgument,
                 "members: rank 0 is said to be served by node " + NodeText(first) +
                     ", but another node opened this incarnation");
  }
  job.SetMembers(&context, body.members());
  if (mine) {
    unit->coordinator->OnMembers();
    return Ok();
  }
  *job.record.mutable_tiers() = body.tiers();
  job.Save(&context);
  return Ok();
}

// I8: in this Ready's batch, so synced before anything is done for the epoch.
void NodeState::EnterEpoch(JobUnit* unit, const Epoch& epoch, std::uint32_t world_size) {
  proto::JobRecord& record = unit->job.record;
  record.set_epoch_number(epoch.number);
  record.set_epoch_token(epoch.token);
  record.set_world_size(world_size);
  record.set_finished(false);
  record.set_last_active_unix_ms(context.WallMs());
  unit->job.Save(&context);
  unit->member->StartEpoch();
  unit->coordinator.reset();
  unit->commands.clear();
  unit->report = {};
  unit->fenced.reset();
  unit->opener = 0;
  unit->job.SaveIncarnation(&context, epoch.number);
}

}  // namespace holdfast::daemon
