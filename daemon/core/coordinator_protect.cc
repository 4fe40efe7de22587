// Protect: which id's parity is made now, and which are protected (design section 4.7).
//
// Nothing here is remembered that reports do not show: what is protected, and at what margin, is
// computed anew from them each time.

#include <algorithm>
#include <utility>

#include "daemon/core/coordinator.h"

namespace holdfast::daemon {
namespace {

bool HasAllRows(const Report& report,
                const SnapshotKey& id,
                std::uint64_t token,
                const CodeSet& name,
                std::uint32_t parity) {
  return std::any_of(report.parity.begin(), report.parity.end(), [&](const ParityEntry& entry) {
    return entry.id == id && entry.token == token && entry.local_rank == name.local_rank &&
           entry.epoch == name.epoch && entry.version == name.geometry.version &&
           entry.rows.size() == parity;
  });
}

const SidecarEntry* SidecarsOf(const Report& report, const SnapshotKey& id, std::uint64_t token) {
  for (const SidecarEntry& entry : report.sidecars) {
    if (entry.id == id && entry.token == token) {
      return &entry;
    }
  }
  return nullptr;
}

}  // namespace

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

// Its shards, all its rows, and the sidecars of all that it may have to help decode.
bool Coordinator::IsWholeMember(const std::string& node,
                                const GroupView& group,
                                const SnapshotKey& id,
                                std::uint64_t token,
                                const SealedShards& shards) const {
  const auto report = reports_.find(node);
  if (report == reports_.end()) {
    return false;
  }
  const SidecarEntry* sidecars = SidecarsOf(report->second, id, token);
  std::size_t local_ranks = 0;
  for (const std::string& member : group.nodes) {
    const std::vector<Rank>& ranks = ranks_of_.at(member);
    local_ranks = std::max(local_ranks, ranks.size());
    for (const Rank rank : ranks) {
      const bool known = member == node ? shards.contains(rank)
                                        : sidecars != nullptr && sidecars->ranks.contains(rank);
      if (!known) {
        return false;
      }
    }
  }
  CodeSet name;
  name.epoch = epoch_.number;
  name.geometry.version = group_version_;
  for (; name.local_rank < local_ranks; ++name.local_rank) {
    if (!HasAllRows(report->second, id, token, name, group.parity)) {
      return false;
    }
  }
  return true;
}

// I10: so many members of each group can be lost, whoever they are, and k whole ones are left.
std::uint32_t Coordinator::MarginNow(const SnapshotKey& id, std::uint64_t token, bool* full) const {
  const SealedShards shards = ShardsAtServers(id, token);
  std::uint32_t margin = groups_.empty() ? 0 : context_->options.code_parity;
  *full = !groups_.empty();
  for (const GroupView& group : groups_) {
    const auto whole = static_cast<std::uint32_t>(
        std::count_if(group.nodes.begin(), group.nodes.end(), [&](const std::string& node) {
          return IsWholeMember(node, group, id, token, shards);
        }));
    margin = std::min(margin, whole > group.data ? whole - group.data : 0);
    *full = *full && group.parity > 0 && whole == group.nodes.size();
  }
  return margin;
}

// Complete ids of this history that anybody holds, oldest first: the base is the oldest.
std::vector<SnapshotKey> Coordinator::OfThisHistory() const {
  std::set<SnapshotKey> ids;
  for (const auto& [node, report] : reports_) {
    for (const ShardEntry& entry : report.shards) {
      const bool of_now = entry.id.incarnation == epoch_.number || entry.id == Base();
      if (of_now && job_->IsComplete(entry.id)) {
        ids.insert(entry.id);
      }
    }
  }
  return {ids.begin(), ids.end()};
}

void Coordinator::DecideProtect() {
  margins_.clear();
  protected_.reset();
  if (!IsCoded() || groups_.empty()) {
    target_.reset();
    return;
  }
  const std::map<SnapshotKey, std::uint64_t> starts = StartsOfIds();
  const std::vector<SnapshotKey> ids = OfThisHistory();
  for (const SnapshotKey& id : ids) {
    bool full = false;
    margins_[id] = MarginNow(id, starts.at(id), &full);
    protected_ = full ? id : protected_;
  }
  if (protected_.has_value()) {  // what is older is about to be freed
    margins_.erase(margins_.begin(), margins_.find(*protected_));
  }
  lost_.clear();
  const bool all_heard = std::all_of(ranks_of_.begin(), ranks_of_.end(), [&](const auto& entry) {
    return reports_.contains(entry.first);
  });
  if (!all_heard) {
    return;  // what they hold is not known: the target stays
  }
  FindLost(ids, starts);
  // The oldest first, and until it is done: newest first would leave rows of three ids, and stuck.
  for (const SnapshotKey& id : ids) {
    if ((!protected_.has_value() || *protected_ < id) && AimAt(id, starts.at(id))) {
      return;
    }
  }
  target_.reset();
}

// False where it cannot be protected any more: a shard of it is gone or was found bad.
bool Coordinator::AimAt(const SnapshotKey& id, std::uint64_t token) {
  const SealedShards shards = ShardsAtServers(id, token);
  const bool all_plain = std::all_of(shards.begin(), shards.end(), [](const auto& entry) {
    return !entry.second->shares_static && entry.second->image_bytes != 0;
  });
  if (shards.size() != world_size() || !all_plain) {
    return false;
  }
  if (target_.has_value() && target_->id == id && target_->token == token) {
    return true;
  }
  Target target{id, token, {}};
  for (const GroupView& group : groups_) {
    auto sets = SetsOf(group, shards);
    if (!sets.has_value()) {
      return false;
    }
    target.sets.push_back(std::move(*sets));
  }
  target_ = std::move(target);
  return true;
}

// What one node alone is to hear: nobody is told of everybody.
void Coordinator::Tailor(const std::string& node, Command* command) const {
  const auto served = ranks_of_.find(node);
  if (servers_.empty()) {
    command->sources = plan_.sources;
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
