// Protect: which id's parity is made now, and which are protected (docs/peers.md).
//
// Nothing here is remembered that reports do not show: what is protected, and at what margin, is
// computed anew from them each time.

#include <algorithm>
#include <utility>

#include "daemon/core/coordinator.h"

namespace holdfast::daemon {

// Sealed shards on the nodes that serve their ranks: only those can be protected.
Coordinator::SealedShards Coordinator::ShardsAtServers(const SnapshotKey& id,
                                                       std::uint64_t token) const {
  SealedShards shards;
  for (const auto& [node, report] : reports_) {
    for (const ShardEntry& entry : report.shards) {
      if (entry.id == id && entry.token == token && ServedBy(entry.rank, node) &&
          entry.state == ShardEntry::State::kSealed) {
        shards[entry.rank] = &entry;
      }
    }
  }
  return shards;
}

// I10: so many members of each group can be lost, whoever they are, and k whole ones are left.
std::uint32_t Coordinator::MarginNow(const SnapshotKey& id, bool* full) const {
  const ReportIndex::Taken* taken = index_.Find(id);
  std::uint32_t margin = groups_.empty() ? 0 : context_->options.code_parity;
  *full = !groups_.empty();
  for (std::size_t i = 0; i < groups_.size(); ++i) {
    const GroupView& group = groups_[i];
    const auto count = taken->whole.find(i);
    const auto whole = static_cast<std::uint32_t>(count == taken->whole.end() ? 0 : count->second);
    margin = std::min(margin, whole > group.data ? whole - group.data : 0);
    *full = *full && group.parity > 0 && whole == group.nodes.size();
  }
  return margin;
}

// Complete ids of this history that anybody holds, oldest first: the base is the oldest.
std::vector<SnapshotKey> Coordinator::OfThisHistory() const {
  std::vector<SnapshotKey> ids;
  for (const auto& [id, by_token] : index_.ids()) {
    const bool of_now = id.incarnation == epoch_.number || id == Base();
    if (of_now && job_->IsComplete(id)) {
      ids.push_back(id);
    }
  }
  return ids;
}

bool Coordinator::AllHeard() const {
  return std::all_of(ranks_of_.begin(), ranks_of_.end(), [&](const auto& entry) {
    return reports_.contains(entry.first);
  });
}

void Coordinator::SetTarget(std::optional<Target> target) {
  tailored_ += target.has_value() || target_.has_value() ? 1 : 0;
  target_ = std::move(target);
}

void Coordinator::DecideProtect() {
  margins_.clear();
  protected_.reset();
  if (!IsCoded() || groups_.empty()) {
    SetTarget(std::nullopt);
    return;
  }
  const std::map<SnapshotKey, std::uint64_t> starts = StartsOfIds();
  const std::vector<SnapshotKey> ids = OfThisHistory();
  for (const SnapshotKey& id : ids) {
    bool full = false;
    margins_[id] = MarginNow(id, &full);
    protected_ = full ? id : protected_;
  }
  if (protected_.has_value()) {  // what is older is about to be freed
    margins_.erase(margins_.begin(), margins_.find(*protected_));
  }
  lost_.clear();
  if (!AllHeard()) {
    return;  // what they hold is not known: the target stays
  }
  FindLost(ids, starts);
  // The oldest first, and until it is done: newest first would leave rows of three ids, and stuck.
  for (const SnapshotKey& id : ids) {
    if ((!protected_.has_value() || *protected_ < id) && AimAt(id, starts.at(id))) {
      return;
    }
  }
  SetTarget(std::nullopt);
}

// False where it cannot be protected any more: a shard of it is gone or was found bad.
bool Coordinator::AimAt(const SnapshotKey& id, std::uint64_t token) {
  const ReportIndex::Taken& taken = index_.ids().at(id).at(token);
  if (taken.at_servers != world_size() || taken.measured != world_size()) {
    return false;
  }
  if (target_.has_value() && target_->id == id && target_->token == token) {
    return true;
  }
  const SealedShards shards = ShardsAtServers(id, token);
  Target target{id, token, {}};
  for (const GroupView& group : groups_) {
    auto sets = SetsOf(group, shards);
    if (!sets.has_value()) {
      return false;
    }
    target.sets.push_back(std::move(*sets));
  }
  SetTarget(std::move(target));
  return true;
}

// What one node alone is to hear: nobody is told of everybody.
void Coordinator::Tailor(const std::string& node, Command* command) const {
  const auto served = ranks_of_.find(node);
  if (servers_.empty()) {
    command->sources = plan_.sources;
    command->orders = orders_;
  }
  for (const Rank rank : served == ranks_of_.end() ? std::vector<Rank>() : served->second) {
    if (const auto source = plan_.sources.find(rank); source != plan_.sources.end()) {
      command->sources[rank] = source->second;
    }
    if (const auto order = orders_.find(rank); order != orders_.end()) {
      command->orders[rank] = order->second;
    }
  }
  const auto group = group_of_.find(node);
  if (group == group_of_.end() || groups_.empty()) {
    return;
  }
  command->group = groups_[group->second];
  if (target_.has_value() && phase_ == Phase::kRun) {
    command->protect = ProtectTarget{target_->id, target_->token, target_->sets[group->second]};
  }
}

}  // namespace holdfast::daemon
