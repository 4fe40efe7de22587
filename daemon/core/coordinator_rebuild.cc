// What parity of present and former members can bring back (docs/peers.md).

#include <algorithm>
#include <utility>

#include "daemon/core/coordinator.h"

namespace holdfast::daemon {
// Once over all reports: a job of thousands of nodes is asked about each of its ranks.
Coordinator::Whereabouts Coordinator::FindAll() const {
  Whereabouts all;
  all.starts = StartsOfIds();
  const auto is_of_start = [&](const SnapshotKey& id, std::uint64_t token) {
    const auto start = all.starts.find(id);
    return start != all.starts.end() && start->second == token;
  };
  for (const auto& [node, report] : reports_) {
    for (const ShardEntry& entry : report.shards) {
      if (entry.state == ShardEntry::State::kFilling || !is_of_start(entry.id, entry.token)) {
        continue;
      }
      all.sidecars[{entry.id, entry.rank}].insert(node);
      if (entry.state == ShardEntry::State::kSealed) {
        all.shards[{entry.id, entry.rank}].insert(node);
      }
    }
    for (const SidecarEntry& entry : report.sidecars) {
      for (const Rank rank : entry.ranks) {
        if (is_of_start(entry.id, entry.token)) {
          all.sidecars[{entry.id, rank}].insert(node);
        }
      }
    }
  }
  return all;
}

// A shard counts wherever it lies: what was brought back before is as good as the first.
void Coordinator::FindShards(const SnapshotKey& id, const Whereabouts& all, HeldSet* held) const {
  for (std::uint32_t position = 0; position < held->set.Count(); ++position) {
    if (!held->set.HasShard(position)) {
      continue;
    }
    const Rank rank = held->set.ranks[position];
    const auto nodes = all.shards.find({id, rank});
    const auto bad = bad_sources_.find({id, rank});
    std::string& where = held->holders[position].shard_node;
    if (nodes == all.shards.end()) {
      continue;
    }
    for (const std::string& node : nodes->second) {
      const bool failed =
          bad != bad_sources_.end() && bad->second.contains(Source{Source::Kind::kPeer, "", node});
      const bool first = where.empty() || node == held->set.geometry.members[position];
      where = first && !failed ? node : where;
    }
  }
}

// As MarginNow, of an id of older groups: members count whole where they were when it was
// protected.
std::uint32_t Coordinator::MarginOf(const SnapshotKey& id,
                                    const Whereabouts& all,
                                    const HeldSet& held) {
  const CodeSet& set = held.set;
  std::uint32_t whole = 0;
  for (std::uint32_t position = 0; position < set.Count(); ++position) {
    const std::string& node = set.geometry.members[position];
    const CodeHolder& holder = held.holders[position];
    bool has_all = holder.rows.size() == set.geometry.code.parity &&
                   (!set.HasShard(position) || holder.shard_node == node);
    for (std::uint32_t other = 0; other < set.Count() && has_all; ++other) {
      const auto sidecar = all.sidecars.find({id, set.ranks[other]});
      has_all =
          !set.HasShard(other) || (sidecar != all.sidecars.end() && sidecar->second.contains(node));
    }
    whole += has_all ? 1 : 0;
  }
  const std::uint32_t data = set.geometry.code.data;
  return std::min(whole > data ? whole - data : 0, set.geometry.code.parity);
}

// The sets that rows are recorded for, each with all that is left of it.  Rows of one code count
// together, whichever start made them.
std::map<SnapshotKey, std::vector<HeldSet>> Coordinator::HeldSets(const Whereabouts& all) const {
  std::map<SnapshotKey, std::vector<HeldSet>> found;
  for (const auto& [node, report] : reports_) {
    for (const ParityEntry& entry : report.parity) {
      const auto start = all.starts.find(entry.id);
      const auto position = entry.set.has_value() ? entry.set->PositionOfNode(node) : std::nullopt;
      if (start == all.starts.end() || start->second != entry.token || !position.has_value()) {
        continue;
      }
      std::vector<HeldSet>& sets = found[entry.id];
      auto set = std::find_if(sets.begin(), sets.end(), [&](const HeldSet& known) {
        return IsSameCode(known.set, *entry.set);
      });
      if (set == sets.end()) {
        set = sets.insert(sets.end(), {*entry.set, {}});
        set->holders.resize(set->set.Count());
      }
      for (const std::uint32_t row : entry.rows) {
        set->holders[*position].rows[row] = {entry.epoch, entry.version};
      }
    }
  }
  for (auto& [id, sets] : found) {
    for (HeldSet& held : sets) {
      FindShards(id, all, &held);
    }
  }
  return found;
}

// What is left of the static images of a dynamic set's shards; null: nothing.
const HeldSet* Coordinator::StaticsOf(const HeldSet& held, const std::vector<HeldSet>& sets) {
  const std::optional<CodeSet> set = StaticSetOf(held.set);
  const auto found = std::find_if(sets.begin(), sets.end(), [&](const HeldSet& other) {
    return set.has_value() && IsSameCode(other.set, *set);
  });
  return found == sets.end() ? nullptr : &*found;
}

// Both images of the shard.
bool Coordinator::IsShardDecodable(const HeldSet& held,
                                   const HeldSet* statics,
                                   std::uint32_t position) {
  const bool frozen = held.set.SharesStatic(position);
  return IsDecodable(held, position) &&
         (!frozen || (statics != nullptr && IsDecodable(*statics, position)));
}

void Coordinator::AddRebuilds(Inventory* inventory) const {
  const Whereabouts all = FindAll();
  for (const auto& [id, sets] : HeldSets(all)) {
    if (id.incarnation == epoch_.number) {
      continue;
    }
    inventory->was_complete.insert(id);  // parity is made of nothing else
    std::map<Rank, std::uint32_t> margins;
    for (const HeldSet& held : sets) {
      if (held.set.kind != proto::DYNAMIC) {
        continue;
      }
      const HeldSet* statics = StaticsOf(held, sets);
      std::uint32_t both = MarginOf(id, all, held);
      if (!held.set.static_bytes.empty()) {
        both = statics == nullptr ? 0 : std::min(both, MarginOf(id, all, *statics));
      }
      for (std::uint32_t position = 0; position < held.set.Count(); ++position) {
        if (!held.set.HasShard(position)) {
          continue;
        }
        const Rank rank = held.set.ranks[position];
        std::uint32_t& margin = margins[rank];
        margin = std::max(margin, both);
        const Source rebuild{Source::Kind::kRebuild, "", ""};
        std::vector<Source>& sources = inventory->sources[id][rank];
        if (std::find(sources.begin(), sources.end(), rebuild) == sources.end() &&
            all.sidecars.contains({id, rank}) && IsShardDecodable(held, statics, position)) {
          sources.push_back(rebuild);
        }
      }
    }
    const auto world = inventory->world_sizes.find(id);
    if (world != inventory->world_sizes.end() && margins.size() == world->second) {
      inventory->margins[id] =
          std::min_element(margins.begin(), margins.end(), [](const auto& a, const auto& b) {
            return a.second < b.second;
          })->second;
    }
  }
  for (auto& [id, by_rank] : inventory->sources) {
    std::erase_if(by_rank, [](const auto& entry) { return entry.second.empty(); });
    for (auto& [rank, sources] : by_rank) {
      std::stable_sort(sources.begin(), sources.end(), [](const Source& a, const Source& b) {
        return a.kind < b.kind;
      });
    }
  }
}

// For the ranks of the choice whose shard comes from elsewhere: where from.
void Coordinator::MakeOrders() {
  orders_.clear();
  ++tailored_;
  const SnapshotKey& id = *plan_.choice;
  const Whereabouts all = FindAll();
  const auto start = all.starts.find(id);
  plan_.choice_token = start == all.starts.end() ? 0 : start->second;
  const auto by_id = HeldSets(all);
  const auto sets = by_id.find(id);
  for (const auto& [rank, source] : plan_.sources) {
    if (!source.IsElsewhere()) {
      continue;
    }
    ShardOrder& order = orders_[rank];
    if (const auto nodes = all.sidecars.find({id, rank}); nodes != all.sidecars.end()) {
      order.sidecar_nodes.assign(nodes->second.begin(), nodes->second.end());
    }
    const std::size_t count = sets == by_id.end() ? 0 : sets->second.size();
    for (std::size_t i = 0; i < count && !order.held.has_value(); ++i) {
      const HeldSet& held = sets->second[i];
      const auto position = held.set.PositionOfRank(rank);
      const HeldSet* statics = StaticsOf(held, sets->second);
      if (held.set.kind != proto::DYNAMIC || !position.has_value() ||
          !IsShardDecodable(held, statics, *position)) {
        continue;
      }
      order.held = held;
      order.image_bytes = held.set.geometry.shard_bytes[*position];
      if (held.set.SharesStatic(*position)) {
        order.static_held = *statics;
      }
    }
    if (const auto report = reports_.find(source.node); report != reports_.end()) {
      for (const ShardEntry& entry : report->second.shards) {
        if (entry.id == id && entry.rank == rank) {
          order.image_bytes = entry.image_bytes;
        }
      }
    }
  }
}

// Whether some node that trained in the last start has answered, and still has that id.  What is
// complete and newer it would have sealed as well, so nobody else can know more.
bool Coordinator::KnowsTheLastStart(const SnapshotKey& id) const {
  const std::uint64_t last = epoch_.number - 1;
  const auto record = job_->incarnations.find(last);
  if (record == job_->incarnations.end()) {
    return false;
  }
  const proto::RestoreDecision& decision = record->second.decision();
  const auto& members = record->second.member_node_uuids();
  const bool base = decision.has_choice() && KeyOf(decision.choice()) == id;
  for (const auto& [node, report] : reports_) {
    const bool member = std::find(members.begin(), members.end(), node) != members.end();
    const bool trained = id.incarnation == last || (base && member);
    const bool has =
        std::any_of(report.shards.begin(), report.shards.end(), [&](const ShardEntry& entry) {
          return entry.id == id && entry.state == ShardEntry::State::kSealed;
        });
    if (trained && has && report.answers_attempt == attempt()) {
      return true;
    }
  }
  return false;
}

// Who is silent cannot change the choice then.  What else the silent ones may hold is kept: the
// fallback is open.
bool Coordinator::IsGreatestObtainable() const {
  if (context_->options.code_parity == 0) {
    return false;
  }
  for (const auto& [node, ranks] : ranks_of_) {
    const auto report = reports_.find(node);
    if (report == reports_.end() || report->second.answers_attempt != attempt()) {
      return false;
    }
  }
  for (const auto& [root, listing] : listings_) {
    if (!listing.answered) {
      return false;
    }
  }
  const Inventory inventory = TakeInventory();
  if (inventory.sources.empty()) {
    return false;
  }
  SnapshotKey greatest = inventory.sources.rbegin()->first;
  if (!inventory.was_complete.empty()) {
    greatest = std::max(greatest, *inventory.was_complete.rbegin());
  }
  return KnowsTheLastStart(greatest) && PlanRestore(inventory, world_size(), {}).choice == greatest;
}

std::string Coordinator::ParityError() const {
  for (const auto& [node, report] : reports_) {
    if (!report.parity_error.empty()) {
      return "node " + NodeText(node) + ": " + report.parity_error;
    }
  }
  return "";
}

}  // namespace holdfast::daemon
