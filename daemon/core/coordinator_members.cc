// The coordinator's view of its members, present and former: who must answer, who has not.

#include <algorithm>

#include "daemon/core/coordinator.h"

namespace holdfast::daemon {

void Coordinator::OnMembers() {
  servers_ = job_->ServersOfRanks();
  ranks_of_.clear();
  for (const auto& [rank, node] : servers_) {
    ranks_of_[node].push_back(rank);
  }
  LearnNodes(job_->KnownNodes());
  groups_stale_ = true;
  ++tailored_;
  Reindex();
}

// Where this daemon has no peers nobody else can be asked: what an earlier node of the job left in
// the incarnation's file must not hold up every restore.
void Coordinator::LearnNodes(const NodeHints& nodes) {
  if (!context_->options.peers) {
    return;
  }
  for (const auto& [node, endpoints] : nodes) {
    if (node != context_->node_uuid) {
      std::vector<std::string>& known = asked_[node];
      known = known.empty() ? endpoints : known;
    }
  }
}

bool Coordinator::ServedBy(Rank rank, const std::string& node) const {
  const auto server = servers_.find(rank);
  // A start on one node names no members: this one serves them all.
  return servers_.empty() ? node == context_->node_uuid
                          : server != servers_.end() && server->second == node;
}

const RankReport* Coordinator::RankOf(Rank rank) const {
  if (!servers_.empty()) {
    return rank < states_.size() ? states_[rank] : nullptr;
  }
  for (const auto& [node, report] : reports_) {
    if (const auto it = report.ranks.find(rank); it != report.ranks.end()) {
      return &it->second;
    }
  }
  return nullptr;
}

// Its report is another one, or (null) is gone.
void Coordinator::NoteStates(const std::string& node, const Report* report) {
  const auto served = ranks_of_.find(node);
  if (served == ranks_of_.end()) {
    return;
  }
  for (const Rank rank : served->second) {
    states_[rank] = nullptr;
    if (report != nullptr) {
      const auto it = report->ranks.find(rank);
      states_[rank] = it == report->ranks.end() ? nullptr : &it->second;
    }
  }
}

// Who serves whom, or who protects whom, is not what it was.
void Coordinator::Reindex() {
  states_.assign(servers_.empty() ? 0 : std::size_t{servers_.rbegin()->first} + 1, nullptr);
  for (const auto& [node, report] : reports_) {
    NoteStates(node, &report);
  }
  index_.Rebuild(reports_);
  due_ = true;
}

bool Coordinator::DecidesEachReport() const {
  return ranks_of_.size() <= context_->options.decide_each_report;
}

// Of a job of many nodes: whether a decision that somebody waits for may be due before the tick.
bool Coordinator::CanDecide(const std::vector<ReportIndex::Touched>& touched) const {
  if (phase_ != Phase::kRun) {
    return false;
  }
  return std::any_of(touched.begin(), touched.end(), [&](const ReportIndex::Touched& part) {
    const ReportIndex::Taken* taken = index_.Find(part.id);
    if (!job_->IsComplete(part.id)) {
      return taken != nullptr && taken->sealed >= world_size() && !job_->IsAbandoned(part.id);
    }
    const bool counts = !protected_.has_value() || *protected_ <= part.id;
    const bool whole = taken != nullptr && taken->whole_nodes == ranks_of_.size() &&
                       protected_ != part.id && IsCoded();
    return counts && (part.shrunk || whole);
  });
}

// Nothing is known of what its node holds: neither that it has the shard nor that it lost it.
bool Coordinator::IsOutOfSight(Rank rank) const {
  const auto server = servers_.find(rank);
  return server != servers_.end() && !reports_.contains(server->second);
}

std::vector<std::string> Coordinator::Silent() const {
  std::vector<std::string> silent;
  for (const auto& [node, endpoints] : asked_) {
    const auto report = reports_.find(node);
    if (report == reports_.end() || report->second.answers_attempt != attempt()) {
      silent.push_back(node);
    }
  }
  return silent;
}

// While training runs nothing becomes complete without them: whoever looks is to know whom to mend.
// A coordinator that has just started has heard nobody yet: a command for each that it hears,
// before it knows what is to be protected, would make members give up rows that they are making.
std::set<std::string> Coordinator::SilentServers() const {
  std::set<std::string> silent;
  for (const auto& [node, ranks] : ranks_of_) {
    if (phase_ == Phase::kRun && heard_.contains(node) && !reports_.contains(node)) {
      silent.insert(node);
    }
  }
  return silent;
}

// An older incarnation's decision that only another node recorded: its boundary counts (R, I11).
void Coordinator::TakeDecisions(const Report& report) {
  if (phase_ != Phase::kCollect) {
    return;
  }
  for (const DecisionOf& heard : report.decisions) {
    if (heard.epoch.number < epoch_.number) {
      job_->AdoptDecision(context_, heard);
    }
  }
}

// Which start's shards count, of each id.
std::map<SnapshotKey, std::uint64_t> Coordinator::StartsOfIds() const {
  std::map<SnapshotKey, std::uint64_t> starts;
  for (const auto& [id, by_token] : index_.ids()) {
    starts[id] = *index_.StartOf(id);
  }
  return starts;
}

// Without groups a shard can be had from the node that serves its rank now alone.
void Coordinator::AddHeld(const std::string& node,
                          const ShardEntry& entry,
                          Inventory* inventory) const {
  auto& sources = inventory->sources[entry.id];
  if (entry.world_size != 0) {
    inventory->world_sizes[entry.id] = entry.world_size;
  }
  const bool sealed = entry.state == ShardEntry::State::kSealed;
  if (!ServedBy(entry.rank, node) && context_->options.code_parity > 0) {
    if (sealed) {
      sources[entry.rank].push_back(Source{Source::Kind::kPeer, "", node});
    }
    return;
  }
  if (!ServedBy(entry.rank, node)) {
    inventory->out_of_reach[entry.id].push_back("the shard of rank " + std::to_string(entry.rank) +
                                                " lies on node " + NodeText(node) +
                                                ", which does not serve that rank now");
    return;
  }
  if (sealed) {
    sources[entry.rank].push_back(Source{});
    return;
  }
  const Shard* here = job_->FindShard(entry.id, entry.rank);
  inventory->bad[{entry.id, entry.rank}][Source{}] =
      here != nullptr && here->poisoned ? here->poison_reason : "found bad on its node";
}

// An incarnation can end before anybody records what every rank had sealed.  Where nodes that do
// not serve those ranks now hold it, that must not look as if there were nothing (I3, R).
void Coordinator::AddUnrecorded(Inventory* inventory) const {
  for (const auto& [id, by_token] : index_.ids()) {
    const auto world = inventory->world_sizes.find(id);
    if (world != inventory->world_sizes.end() && index_.Find(id)->held.size() == world->second) {
      inventory->was_complete.insert(id);
    }
  }
}

// A node that did not answer counts as lost for this incarnation; who misses its shards is told so.
void Coordinator::NameSilent(Inventory* inventory) const {
  const std::vector<std::string> silent = Silent();
  for (const auto& [id, sources] : inventory->sources) {
    const auto world = inventory->world_sizes.find(id);
    const bool whole = world != inventory->world_sizes.end() && sources.size() >= world->second;
    for (const std::string& node : silent) {
      if (!whole) {
        inventory->out_of_reach[id].push_back("node " + NodeText(node) + " did not answer");
      }
    }
  }
}

// Another start of the job has gone past this one, or has taken its number: nothing more is decided
// for the ranks of this one.
void Coordinator::OnFenced(const Error& error) {
  TakeFence(error);
  fenced_ = error.message;
}

}  // namespace holdfast::daemon
