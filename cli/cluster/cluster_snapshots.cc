// The snapshots of a cluster: who holds what, and what can be had of it.

#include <algorithm>
#include <limits>
#include <optional>
#include <tuple>
#include <utility>

#include "cli/cluster/cluster_merge.h"
#include "cli/snapshot_state.h"
#include "cli/source.h"

namespace holdfast::cli {
namespace {

// The further on, the greater: what one node knows another may not have heard yet.
int RankOfState(const std::string& state) {
  return state == kStateDurable     ? 4
         : state == kStateComplete  ? 3
         : state == kStateAbandoned ? 2
         : state == kStateSealed    ? 1
                                    : 0;
}

void AddRoots(const google::protobuf::RepeatedPtrField<std::string>& from,
              google::protobuf::RepeatedPtrField<std::string>* into) {
  for (const std::string& root : from) {
    if (std::find(into->begin(), into->end(), root) == into->end()) {
      *into->Add() = root;
    }
  }
}

void MergeInfo(const proto::SnapshotInfo& from, proto::SnapshotInfo* into) {
  if (RankOfState(from.state()) >= RankOfState(into->state())) {
    into->set_state(from.state());
  }
  if (into->reason().empty()) {
    into->set_reason(from.reason());
  }
  into->set_world_size(std::max(into->world_size(), from.world_size()));
  into->set_discarded(into->discarded() || from.discarded());
  into->set_restore_base(into->restore_base() || from.restore_base());
  into->set_fallback(into->fallback() || from.fallback());
  AddRoots(from.durable_on(), into->mutable_durable_on());
  AddRoots(from.damaged_on(), into->mutable_damaged_on());
  into->set_parity_rows(into->parity_rows() + from.parity_rows());
}

using SetName =
    std::tuple<std::uint64_t, std::uint32_t, std::uint32_t, std::string, proto::ImageKind>;

// Epoch, version, local rank, first node: sets of several groups have the same numbers.
SetName NameOf(const proto::CodeSetRecord& set) {
  return {set.epoch_number(), set.version(), set.local_rank(), set.node_uuids(0), set.kind()};
}

// The set of the static images of a dynamic set's shards; null: nothing of it is left.
const SeenSet* StaticsOf(const ClusterSnapshot& snapshot, const SeenSet& set) {
  SetName name = NameOf(set.set);
  std::get<proto::ImageKind>(name) = proto::STATIC;
  const auto found = std::find_if(snapshot.sets.begin(),
                                  snapshot.sets.end(),
                                  [&](const SeenSet& other) { return NameOf(other.set) == name; });
  return found == snapshot.sets.end() ? nullptr : &*found;
}

bool SharesStatic(const SeenSet& set, std::uint32_t position) {
  const int at = static_cast<int>(position);
  return at < set.set.static_bytes_size() && set.set.static_bytes(at) != 0;
}

void AddRows(const std::string& node, const proto::HeldRows& held, ClusterSnapshot* snapshot) {
  auto seen = std::find_if(snapshot->sets.begin(), snapshot->sets.end(), [&](const SeenSet& set) {
    return NameOf(set.set) == NameOf(held.set());
  });
  if (seen == snapshot->sets.end()) {
    SeenSet set;
    set.set = held.set();
    set.rows.resize(static_cast<std::size_t>(held.set().node_uuids_size()));
    seen = snapshot->sets.insert(seen, std::move(set));
  }
  for (std::uint32_t position = 0; position < seen->Count(); ++position) {
    if (seen->set.node_uuids(static_cast<int>(position)) == node) {
      for (const proto::HeldRow& row : held.rows()) {
        seen->rows[position][row.row()] = row;
      }
    }
  }
}

void AddNode(const std::string& node, const proto::SnapshotInfo& info, ClusterSnapshot* snapshot) {
  MergeInfo(info, &snapshot->info);
  for (const proto::ShardInfo& shard : info.shards()) {
    snapshot->shards[shard.rank()].push_back({node, shard});
  }
  for (const proto::HeldRows& held : info.held_rows()) {
    AddRows(node, held, snapshot);
  }
  if (!info.sidecar_ranks().empty()) {
    snapshot->sidecars[node].insert(info.sidecar_ranks().begin(), info.sidecar_ranks().end());
  }
}

// On that node; on any, if "node" is empty.
bool IsReadable(const ClusterSnapshot& snapshot, std::uint32_t rank, const std::string& node) {
  const auto held = snapshot.shards.find(rank);
  return held != snapshot.shards.end() &&
         std::any_of(held->second.begin(), held->second.end(), [&](const Holding& one) {
           return (node.empty() || one.node == node) && Readable(one.shard);
         });
}

bool HasSidecar(const ClusterSnapshot& snapshot, std::uint32_t rank, const std::string& node) {
  const auto of_node = snapshot.sidecars.find(node);
  return (of_node != snapshot.sidecars.end() && of_node->second.contains(rank)) ||
         IsReadable(snapshot, rank, node);
}

bool IsWhole(const ClusterSnapshot& snapshot, const SeenSet& set, std::uint32_t position) {
  const std::string& node = set.set.node_uuids(static_cast<int>(position));
  if (set.rows[position].size() < set.set.parity_shards()) {
    return false;
  }
  for (int i = 0; i < set.set.ranks_size(); ++i) {
    const bool there = set.set.shard_bytes(i) > 0;
    const bool own = static_cast<std::uint32_t>(i) == position;
    if (there && (own ? !IsReadable(snapshot, set.set.ranks(i), node)
                      : !HasSidecar(snapshot, set.set.ranks(i), node))) {
      return false;
    }
  }
  return true;
}

void LookAtSet(const ClusterSnapshot& snapshot, SeenSet* set) {
  for (std::uint32_t position = 0; position < set->Count(); ++position) {
    const int at = static_cast<int>(position);
    set->shards.push_back(set->set.shard_bytes(at) == 0 ||
                          IsReadable(snapshot, set->set.ranks(at), ""));
    set->whole.push_back(IsWhole(snapshot, *set, position));
  }
}

std::optional<std::uint32_t> PositionOf(const SeenSet& set, std::uint32_t rank) {
  for (std::uint32_t position = 0; position < set.Count(); ++position) {
    const int at = static_cast<int>(position);
    if (set.set.shard_bytes(at) > 0 && set.set.ranks(at) == rank) {
      return position;
    }
  }
  return std::nullopt;
}

bool IsDecodable(const ClusterSnapshot& snapshot, const SeenSet& set, std::uint32_t rank) {
  const auto position = PositionOf(set, rank);
  const bool described =
      std::any_of(snapshot.sidecars.begin(), snapshot.sidecars.end(), [&](const auto& entry) {
        return entry.second.contains(rank);
      });
  if (!position.has_value() || !described) {
    return false;
  }
  const SeenSet* statics = SharesStatic(set, *position) ? StaticsOf(snapshot, set) : nullptr;
  if (SharesStatic(set, *position) &&
      (statics == nullptr || !IsDecodable(snapshot, *statics, rank))) {
    return false;
  }
  for (std::uint32_t stripe = 0; stripe < set.Count(); ++stripe) {
    if (!set.OwnsRowOf(*position, stripe) && set.Available(stripe) < set.set.data_shards()) {
      return false;
    }
  }
  return true;
}

// Groups and their sets of the latest geometry: a member counts if it is whole in every one.
std::uint32_t MarginOf(const ClusterSnapshot& snapshot) {
  std::pair<std::uint64_t, std::uint32_t> latest;
  for (const SeenSet& set : snapshot.sets) {
    latest = std::max(latest, std::pair(set.set.epoch_number(), set.set.version()));
  }
  std::map<std::string, std::vector<bool>> whole;  // by first node of the group
  std::map<std::string, std::uint32_t> data;
  std::set<std::uint32_t> covered;
  for (const SeenSet& set : snapshot.sets) {
    if (std::pair(set.set.epoch_number(), set.set.version()) != latest) {
      continue;
    }
    std::vector<bool>& members = whole[set.set.node_uuids(0)];
    members.resize(set.Count(), true);
    data[set.set.node_uuids(0)] = set.set.data_shards();
    const bool coded = set.set.static_bytes().empty() || StaticsOf(snapshot, set) != nullptr;
    for (std::uint32_t position = 0; position < set.Count(); ++position) {
      members[position] = members[position] && set.whole[position] && coded;
      if (set.set.shard_bytes(static_cast<int>(position)) > 0) {
        covered.insert(set.set.ranks(static_cast<int>(position)));
      }
    }
  }
  if (covered.size() < snapshot.info.world_size() || whole.empty()) {
    return 0;
  }
  auto margin = std::numeric_limits<std::uint32_t>::max();
  for (const auto& [group, members] : whole) {
    const auto count = static_cast<std::uint32_t>(std::count(members.begin(), members.end(), true));
    margin = std::min(margin, count - std::min(count, data[group]));
  }
  return margin;
}

void LookAt(ClusterSnapshot* snapshot) {
  std::stable_sort(snapshot->sets.begin(), snapshot->sets.end(), [](const auto& a, const auto& b) {
    return NameOf(a.set) < NameOf(b.set);
  });
  for (SeenSet& set : snapshot->sets) {
    LookAtSet(*snapshot, &set);
  }
  snapshot->margin_seen = MarginOf(*snapshot);
  for (std::uint32_t rank = 0; rank < snapshot->info.world_size(); ++rank) {
    if (IsReadable(*snapshot, rank, "")) {
      continue;
    }
    snapshot->missing.push_back(rank);
    const bool decodable =
        std::any_of(snapshot->sets.begin(), snapshot->sets.end(), [&](const SeenSet& set) {
          return set.set.kind() == proto::DYNAMIC && IsDecodable(*snapshot, set, rank);
        });
    if (!decodable && snapshot->info.durable_on().empty()) {
      snapshot->lost.push_back(rank);
    }
  }
}

}  // namespace

bool SeenSet::OwnsRowOf(std::uint32_t position, std::uint32_t stripe) const {
  return (position + Count() - stripe) % Count() < set.parity_shards();
}

std::uint32_t SeenSet::Available(std::uint32_t stripe) const {
  std::uint32_t available = 0;
  for (std::uint32_t position = 0; position < Count(); ++position) {
    const std::uint32_t row = (position + Count() - stripe) % Count();
    available += (OwnsRowOf(position, stripe) ? rows[position].contains(row) : shards[position]);
  }
  return available;
}

std::string ClusterSnapshot::LastSeen(std::uint32_t rank) const {
  for (auto set = sets.rbegin(); set != sets.rend(); ++set) {
    if (const auto position = PositionOf(*set, rank); position.has_value()) {
      return set->set.node_uuids(static_cast<int>(*position));
    }
  }
  const auto server = servers.find(rank);
  return server == servers.end() ? "" : server->second;
}

std::set<std::string> ClusterSnapshot::Nodes() const {
  std::set<std::string> nodes;
  for (const auto& [rank, held] : shards) {
    for (const Holding& one : held) {
      nodes.insert(one.node);
    }
  }
  for (const auto& [node, ranks] : sidecars) {
    nodes.insert(node);
  }
  for (const SeenSet& set : sets) {
    for (std::uint32_t position = 0; position < set.Count(); ++position) {
      if (!set.rows[position].empty()) {
        nodes.insert(set.set.node_uuids(static_cast<int>(position)));
      }
    }
  }
  return nodes;
}

std::vector<ClusterSnapshot> MergeSnapshots(const std::vector<proto::NodeAnswer>& nodes,
                                            const std::vector<ClusterJob>& jobs) {
  std::map<std::string, const ClusterJob*> by_uid;
  for (const ClusterJob& job : jobs) {
    by_uid[job.status.job_uid()] = &job;
  }
  using Key = std::tuple<std::string, std::string, std::uint64_t, std::int64_t>;
  std::map<Key, ClusterSnapshot> by_id;
  std::set<Key> decided;
  for (const proto::NodeAnswer& answer : nodes) {
    for (const proto::SnapshotInfo& info : answer.view().list().snapshots()) {
      const proto::SnapshotId& id = info.id();
      // Falling incarnations and steps: the newest first.
      const Key key(info.job_name(), id.job_uid(), ~id.incarnation(), -id.step());
      ClusterSnapshot& snapshot = by_id[key];
      *snapshot.info.mutable_id() = id;
      snapshot.info.set_job_name(info.job_name());
      AddNode(answer.node_uuid(), info, &snapshot);
      const auto job = by_uid.find(id.job_uid());
      if (job != by_uid.end() && job->second->decider == answer.node_uuid()) {
        decided.insert(key);
        snapshot.info.set_margin(info.margin());
        snapshot.info.set_is_protected(info.is_protected());
      } else if (!decided.contains(key)) {
        // The best that anybody has heard of who decides.
        snapshot.info.set_margin(std::max(snapshot.info.margin(), info.margin()));
        snapshot.info.set_is_protected(snapshot.info.is_protected() || info.is_protected());
      }
      if (job != by_uid.end() && job->second->status.incarnation() == id.incarnation()) {
        snapshot.servers = job->second->servers;
      }
    }
  }
  std::vector<ClusterSnapshot> snapshots;
  snapshots.reserve(by_id.size());
  for (auto& [key, snapshot] : by_id) {
    LookAt(&snapshot);
    snapshots.push_back(std::move(snapshot));
  }
  return snapshots;
}

}  // namespace holdfast::cli
