// The nodes of a job: who serves which rank now, and who did.

#include <algorithm>

#include "daemon/core/job.h"
#include "storage_tiers/catalog_records.h"

namespace holdfast::daemon {

bool Job::SpansNodes() const {
  const auto present = incarnations.find(record.epoch_number());
  return present != incarnations.end() && present->second.members_size() > 0;
}

std::string Job::CoordinatorNode() const {
  const auto present = incarnations.find(record.epoch_number());
  return present == incarnations.end() ? "" : present->second.coordinator_uuid();
}

std::map<Rank, std::string> Job::ServersOfRanks() const {
  std::map<Rank, std::string> servers;
  if (const auto it = incarnations.find(record.epoch_number()); it != incarnations.end()) {
    for (const proto::MemberNode& member : it->second.members()) {
      for (const Rank rank : member.ranks()) {
        servers[rank] = member.node_uuid();
      }
    }
  }
  return servers;
}

// Back to the newest older incarnation that was committed: what came before was then chosen or
// freed.
NodeHints Job::KnownNodes() const {
  NodeHints nodes;
  for (auto it = incarnations.rbegin(); it != incarnations.rend(); ++it) {
    for (const std::string& uuid : it->second.member_node_uuids()) {
      nodes[uuid];
    }
    for (const proto::MemberNode& member : it->second.members()) {
      std::vector<std::string>& endpoints = nodes[member.node_uuid()];
      if (endpoints.empty()) {
        endpoints.assign(member.endpoints().begin(), member.endpoints().end());
      }
    }
    if (it->first < record.epoch_number() && it->second.decision().committed()) {
      break;
    }
  }
  // Whoever had a part of an id that may have to be decoded, however long ago (R).
  for (const auto& [id, by_name] : rows) {
    for (const auto& [name, row] : by_name) {
      for (const std::string& uuid : row.set.geometry.members) {
        nodes[uuid];
      }
    }
  }
  return nodes;
}

NodeHints Job::FormerNodes() const {
  if (incarnations.size() < 2 && rows.empty()) {
    return {};  // a first start asks for them often, and has thousands of members
  }
  NodeHints nodes = KnownNodes();
  if (const auto it = incarnations.find(record.epoch_number()); it != incarnations.end()) {
    for (const proto::MemberNode& member : it->second.members()) {
      nodes.erase(member.node_uuid());
    }
  }
  return nodes;
}

std::vector<std::string> Job::EndpointsOf(const std::string& node) const {
  for (auto it = incarnations.rbegin(); it != incarnations.rend(); ++it) {
    for (const proto::MemberNode& member : it->second.members()) {
      if (member.node_uuid() == node && !member.endpoints().empty()) {
        return {member.endpoints().begin(), member.endpoints().end()};
      }
    }
  }
  return {};
}

void Job::SetMembers(CoreContext* context, const Members& members) {
  proto::IncarnationRecord* present = Present();
  *present->mutable_members() = members;
  present->clear_member_node_uuids();
  for (const proto::MemberNode& member : members) {
    present->add_member_node_uuids(member.node_uuid());
    const bool first = std::count(member.ranks().begin(), member.ranks().end(), 0U) > 0;
    if (first && member.node_uuid() != context->node_uuid) {
      present->set_coordinator_uuid(member.node_uuid());
    }
  }
  SaveIncarnation(context, record.epoch_number());
}

bool Job::HasMembers(const Members& members) const {
  const auto& known = incarnations.at(record.epoch_number()).members();
  return std::equal(
      known.begin(),
      known.end(),
      members.begin(),
      members.end(),
      [](const proto::MemberNode& a, const proto::MemberNode& b) {
        return a.node_uuid() == b.node_uuid() &&
               std::equal(a.ranks().begin(), a.ranks().end(), b.ranks().begin(), b.ranks().end());
      });
}

std::vector<DecisionOf> Job::OlderDecisions() const {
  constexpr std::size_t kNewest = 16;
  std::vector<DecisionOf> decisions;
  for (auto it = incarnations.rbegin(); it != incarnations.rend() && decisions.size() < kNewest;
       ++it) {
    if (it->first < record.epoch_number() && it->second.decision().attempt() > 0) {
      decisions.push_back(
          {{it->first, it->second.token()}, it->second.world_size(), it->second.decision()});
    }
  }
  return decisions;
}

// Every member keeps the record of an incarnation; the one that knows of the latest attempt, and of
// its commit, counts.
bool Job::AdoptDecision(CoreContext* context, const DecisionOf& heard) {
  proto::IncarnationRecord fresh_record;
  fresh_record.set_job_uid(uid());
  fresh_record.set_number(heard.epoch.number);
  fresh_record.set_token(heard.epoch.token);
  fresh_record.set_world_size(heard.world_size);
  fresh_record.set_last_begun_step(kNoStep);
  *fresh_record.mutable_decision() = heard.decision;
  // One that no start would read would make the whole batch unwritable.
  if (!storage_tiers::ValidateRecord(fresh_record).has_value()) {
    return false;
  }
  const auto [it, fresh] = incarnations.try_emplace(heard.epoch.number, fresh_record);
  proto::IncarnationRecord& known = it->second;
  const auto rank = [](const proto::RestoreDecision& decision) {
    return std::pair(decision.attempt(), decision.committed());
  };
  const bool better =
      known.token() == heard.epoch.token && rank(heard.decision) > rank(known.decision());
  if (better) {
    *known.mutable_decision() = heard.decision;
  }
  if (fresh || better) {
    SaveIncarnation(context, heard.epoch.number);
  }
  return fresh || better;
}

}  // namespace holdfast::daemon
