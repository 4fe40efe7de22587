// What parity of present and former members can bring back (design section 4, restore).

#include <algorithm>
#include <utility>

#include "daemon/core/coordinator.h"

namespace holdfast::daemon {
namespace {

bool Has(const Report& report, const SnapshotKey& id, std::uint64_t token, Rank rank) {
  const bool own = std::any_of(report.shards.begin(), report.shards.end(), [&](const auto& entry) {
    return entry.id == id && entry.token == token && entry.rank == rank &&
           entry.state != ShardEntry::State::kFilling;
  });
  return own || std::any_of(
                    report.sidecars.begin(), report.sidecars.end(), [&](const SidecarEntry& entry) {
                      return entry.id == id && entry.token == token && entry.ranks.contains(rank);
                    });
}

bool HoldsShard(const Report& report, const SnapshotKey& id, std::uint64_t token, Rank rank) {
  return std::any_of(report.shards.begin(), report.shards.end(), [&](const ShardEntry& entry) {
    return entry.id == id && entry.token == token && entry.rank == rank &&
           entry.state == ShardEntry::State::kSealed && !entry.shares_static;
  });
}

}  // namespace

// Those that have the sidecar, holders of the shard among them.
std::vector<std::string> Coordinator::SidecarNodes(const SnapshotKey& id,
                                                   std::uint64_t token,
                                                   Rank rank) const {
  std::vector<std::string> nodes;
  for (const auto& [node, report] : reports_) {
    if (Has(report, id, token, rank)) {
      nodes.push_back(node);
    }
  }
  return nodes;
}

// A shard counts wherever it lies: what was brought back before is as good as the first.
void Coordinator::FindShards(const SnapshotKey& id, std::uint64_t token, HeldSet* held) const {
  for (std::uint32_t position = 0; position < held->set.Count(); ++position) {
    if (!held->set.HasShard(position)) {
      continue;
    }
    const Rank rank = held->set.ranks[position];
    const auto bad = bad_sources_.find({id, rank});
    std::string& where = held->holders[position].shard_node;
    for (const auto& [node, report] : reports_) {
      const bool failed =
          bad != bad_sources_.end() && bad->second.contains(Source{Source::Kind::kPeer, "", node});
      const bool first = where.empty() || node == held->set.geometry.members[position];
      if (!failed && first && HoldsShard(report, id, token, rank)) {
        where = node;
      }
    }
  }
}

// As MarginNow, of an id of older groups: members count whole where they were when it was
// protected.
std::uint32_t Coordinator::MarginOf(const SnapshotKey& id,
                                    std::uint64_t token,
                                    const HeldSet& held) const {
  const CodeSet& set = held.set;
  std::uint32_t whole = 0;
  for (std::uint32_t position = 0; position < set.Count(); ++position) {
    const std::string& node = set.geometry.members[position];
    const auto report = reports_.find(node);
    const CodeHolder& holder = held.holders[position];
    bool all = report != reports_.end() && holder.rows.size() == set.geometry.code.parity &&
               (!set.HasShard(position) || holder.shard_node == node);
    for (std::uint32_t other = 0; other < set.Count() && all; ++other) {
      all = !set.HasShard(other) || Has(report->second, id, token, set.ranks[other]);
    }
    whole += all ? 1 : 0;
  }
  const std::uint32_t data = set.geometry.code.data;
  return std::min(whole > data ? whole - data : 0, set.geometry.code.parity);
}

// The sets that rows are recorded for, each with all that is left of it.  Rows of one code count
// together, whichever start made them.
std::map<SnapshotKey, std::vector<Coordinator::HeldSet>> Coordinator::HeldSets() const {
  const std::map<SnapshotKey, std::uint64_t> starts = StartsOfIds();
  std::map<SnapshotKey, std::vector<HeldSet>> found;
  for (const auto& [node, report] : reports_) {
    for (const ParityEntry& entry : report.parity) {
      const auto start = starts.find(entry.id);
      const auto position = entry.set.has_value() ? entry.set->PositionOfNode(node) : std::nullopt;
      if (start == starts.end() || start->second != entry.token || !position.has_value()) {
        continue;
      }
      std::vector<HeldSet>& sets = found[entry.id];
      auto set = std::find_if(sets.begin(), sets.end(), [&](const HeldSet& known) {
        return IsSameCode(known.set, *entry.set);
      });
      if (set == sets.end()) {
        set = sets.insert(sets.end(), {*entry.set, {}, 0});
        set->holders.resize(set->set.Count());
      }
      set->holders[*position].rows.insert(entry.rows.begin(), entry.rows.end());
    }
  }
  for (auto& [id, sets] : found) {
    for (HeldSet& held : sets) {
      FindShards(id, starts.at(id), &held);
      held.margin = MarginOf(id, starts.at(id), held);
    }
  }
  return found;
}

void Coordinator::AddRebuilds(Inventory* inventory) const {
  const std::map<SnapshotKey, std::uint64_t> starts = StartsOfIds();
  for (const auto& [id, sets] : HeldSets()) {
    if (id.incarnation == epoch_.number) {
      continue;
    }
    inventory->was_complete.insert(id);  // parity is made of nothing else
    std::map<Rank, std::uint32_t> margins;
    for (const HeldSet& held : sets) {
      for (std::uint32_t position = 0; position < held.set.Count(); ++position) {
        if (!held.set.HasShard(position)) {
          continue;
        }
        const Rank rank = held.set.ranks[position];
        std::uint32_t& margin = margins[rank];
        margin = std::max(margin, held.margin);
        const Source rebuild{Source::Kind::kRebuild, "", ""};
        std::vector<Source>& sources = inventory->sources[id][rank];
        if (std::find(sources.begin(), sources.end(), rebuild) == sources.end() &&
            !SidecarNodes(id, starts.at(id), rank).empty() &&
            IsDecodable(held.set, position, held.holders)) {
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
  const SnapshotKey& id = *plan_.choice;
  const std::map<SnapshotKey, std::uint64_t> starts = StartsOfIds();
  const auto start = starts.find(id);
  plan_.choice_token = start == starts.end() ? 0 : start->second;
  const auto all = HeldSets();
  const auto sets = all.find(id);
  for (const auto& [rank, source] : plan_.sources) {
    if (!source.IsElsewhere()) {
      continue;
    }
    ShardOrder& order = orders_[rank];
    order.sidecar_nodes = SidecarNodes(id, plan_.choice_token, rank);
    for (const HeldSet& held : sets == all.end() ? std::vector<HeldSet>() : sets->second) {
      const auto position = held.set.PositionOfRank(rank);
      if (position.has_value() && !order.set.has_value() &&
          IsDecodable(held.set, *position, held.holders)) {
        order.set = held.set;
        order.holders = held.holders;
        order.image_bytes = held.set.geometry.shard_bytes[*position];
      }
    }
    for (const auto& [node, report] : reports_) {
      for (const ShardEntry& entry : report.shards) {
        if (entry.id == id && entry.rank == rank && node == source.node) {
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
