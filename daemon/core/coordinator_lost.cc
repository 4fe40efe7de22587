// Snapshots of which nobody can have all any more.
//
// With groups an id goes only for one that is protected.  Where bad shards keep every id that is
// held from being protected, their slots would be missing for ever to those that come next (L).  So
// what is proven lost goes: wherever something is not known, it stays (I4).  Its outcome stays too:
// a restore names it (R).

#include <algorithm>

#include "daemon/core/coordinator.h"

namespace holdfast::daemon {

// Called while training runs, with every node heard.
void Coordinator::FindLost(const std::vector<SnapshotKey>& ids,
                           const std::map<SnapshotKey, std::uint64_t>& starts) {
  for (const SnapshotKey& id : ids) {
    const bool of_now = id.incarnation == epoch_.number;
    const bool newer = !protected_.has_value() || *protected_ < id;
    if (of_now && newer && IsLost(id, starts.at(id))) {
      lost_.insert(id);
    }
  }
}

// Whether a shard of it is nowhere in memory, cannot be decoded, and was never written.
bool Coordinator::IsLost(const SnapshotKey& id, std::uint64_t token) const {
  if (index_.ids().at(id).at(token).at_servers == world_size()) {
    return false;
  }
  const SealedShards sealed = ShardsAtServers(id, token);
  for (Rank rank = 0; rank < world_size(); ++rank) {
    if (!sealed.contains(rank) && !IsOnATier(id, rank) && !MayBeDecodable(id, token, rank)) {
      return true;
    }
  }
  return false;
}

bool Coordinator::IsOnATier(const SnapshotKey& id, Rank rank) const {
  if (!job_->DurableOn(id).empty()) {
    return true;
  }
  return std::any_of(reports_.begin(), reports_.end(), [&](const auto& entry) {
    const auto& roots = entry.second.flushed;
    return std::any_of(roots.begin(), roots.end(), [&](const auto& root) {
      const auto flushed = root.second.find(id);
      return flushed != root.second.end() && flushed->second.contains(rank);
    });
  });
}

// By the rows of the group that serves it.  True also where that cannot be told: of rows of other
// groups, or without the length of each shard.
bool Coordinator::MayBeDecodable(const SnapshotKey& id, std::uint64_t token, Rank rank) const {
  const auto server = servers_.find(rank);
  const auto group = server == servers_.end() ? group_of_.end() : group_of_.find(server->second);
  if (group == group_of_.end()) {
    return true;
  }
  SealedShards known;  // bad ones too: of the lengths that their rows were made for
  using SetName = std::pair<std::uint32_t, proto::ImageKind>;  // with the local rank
  std::map<std::string, std::map<SetName, std::set<std::uint32_t>>> rows;
  for (const auto& [node, report] : reports_) {
    for (const ShardEntry& entry : report.shards) {
      if (entry.id == id && entry.token == token && ServedBy(entry.rank, node) &&
          entry.state != ShardEntry::State::kFilling) {
        known[entry.rank] = &entry;
      }
    }
    for (const ParityEntry& entry : report.parity) {
      if (entry.id != id || entry.token != token) {
        continue;
      }
      if (entry.epoch != epoch_.number || entry.version != group_version_) {
        return true;
      }
      rows[node][{entry.local_rank, entry.kind}] = entry.rows;
    }
  }
  if (rows.empty()) {
    return false;
  }
  const auto sets = SetsOf(groups_[group->second], known);
  if (!sets.has_value()) {
    return true;
  }
  // Of the dynamic images, and of the static ones where it has one.
  std::size_t wanted = known.at(rank)->static_bytes != 0 ? 2 : 1;
  for (const CodeSet& set : *sets) {
    HeldSet held{set, std::vector<CodeHolder>(set.Count())};
    for (std::uint32_t position = 0; position < set.Count(); ++position) {
      const std::string& node = set.geometry.members[position];
      const bool has = set.HasShard(position) &&
                       known.at(set.ranks[position])->state == ShardEntry::State::kSealed;
      held.holders[position].shard_node = has ? node : "";
      for (const std::uint32_t row : rows[node][{set.local_rank, set.kind}]) {
        held.holders[position].rows[row] = set.Groups();
      }
    }
    const auto position = set.PositionOfRank(rank);
    wanted -= position.has_value() && IsDecodable(held, *position) ? 1 : 0;
  }
  return wanted == 0;
}

}  // namespace holdfast::daemon
