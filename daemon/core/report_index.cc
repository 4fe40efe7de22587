#include "daemon/core/report_index.h"

#include <algorithm>
#include <tuple>
#include <utility>

namespace holdfast::daemon {
namespace {

const ParityEntry* AllRowsOf(const Report& report,
                             const SnapshotKey& id,
                             std::uint64_t token,
                             const CodeSet& name,
                             std::uint32_t parity) {
  for (const ParityEntry& entry : report.parity) {
    if (entry.id == id && entry.token == token && entry.local_rank == name.local_rank &&
        entry.epoch == name.epoch && entry.version == name.geometry.version &&
        entry.kind == name.kind && entry.rows.size() == parity) {
      return &entry;
    }
  }
  return nullptr;
}

// Of the local rank, and of its static images where the shards have any.
bool HasAllRows(const Report& report,
                const SnapshotKey& id,
                std::uint64_t token,
                CodeSet name,
                std::uint32_t parity) {
  name.kind = proto::DYNAMIC;
  const ParityEntry* dynamic = AllRowsOf(report, id, token, name, parity);
  name.kind = proto::STATIC;
  return dynamic != nullptr &&
         (!dynamic->shares_static || AllRowsOf(report, id, token, name, parity) != nullptr);
}

const SidecarEntry* SidecarsOf(const Report& report, const SnapshotKey& id, std::uint64_t token) {
  for (const SidecarEntry& entry : report.sidecars) {
    if (entry.id == id && entry.token == token) {
      return &entry;
    }
  }
  return nullptr;
}

void Add(std::size_t* count, bool add, bool counts) {
  *count = add ? *count + (counts ? 1 : 0) : *count - (counts ? 1 : 0);
}

}  // namespace

ReportIndex::ReportIndex(View view) : view_(view) {
  ListRanks();
}

void ReportIndex::ListRanks() {
  ranks_of_group_.clear();
  local_ranks_.clear();
  for (const GroupView& group : view_.groups) {
    std::vector<Rank>& ranks = ranks_of_group_.emplace_back();
    std::size_t& most = local_ranks_.emplace_back(0);
    for (const std::string& node : group.nodes) {
      const std::vector<Rank>& served = view_.ranks_of.at(node);
      ranks.insert(ranks.end(), served.begin(), served.end());
      most = std::max(most, served.size());
    }
    std::sort(ranks.begin(), ranks.end());
  }
}

// Its shards, all its rows, and the sidecars of all that it may have to help decode (I10).
bool ReportIndex::IsWhole(const Report& report,
                          const SnapshotKey& id,
                          std::uint64_t token,
                          const Part& part,
                          const std::vector<Rank>& own,
                          std::size_t group) const {
  const auto sealed = static_cast<std::size_t>(
      std::count_if(part.entries.begin(), part.entries.end(), [](const Entry& entry) {
        return entry.at_server;
      }));
  const SidecarEntry* sidecars = SidecarsOf(report, id, token);
  if (sealed != own.size()) {
    return false;
  }
  const std::vector<Rank> none;
  const std::vector<Rank>& has = sidecars == nullptr ? none : sidecars->ranks;
  auto next = has.begin();  // both rise
  for (const Rank rank : ranks_of_group_[group]) {
    next = std::find_if(next, has.end(), [&](Rank known) { return known >= rank; });
    const bool knows = next != has.end() && *next == rank;
    if (!knows && !std::binary_search(own.begin(), own.end(), rank)) {
      return false;
    }
  }
  CodeSet name;
  name.epoch = view_.epoch;
  name.geometry.version = view_.group_version;
  for (; name.local_rank < local_ranks_[group]; ++name.local_rank) {
    if (!HasAllRows(report, id, token, name, view_.groups[group].parity)) {
      return false;
    }
  }
  return true;
}

ReportIndex::Parts ReportIndex::PartsOf(const Report& report) const {
  const auto served = view_.ranks_of.find(report.node_uuid);
  const auto serves = [&](Rank rank) {
    return view_.ranks_of.empty() ||
           (served != view_.ranks_of.end() &&
            std::binary_search(served->second.begin(), served->second.end(), rank));
  };
  const auto group = view_.group_of.find(report.node_uuid);
  const bool in_group = group != view_.group_of.end() && group->second < ranks_of_group_.size() &&
                        served != view_.ranks_of.end();
  Parts parts;
  for (const ShardEntry& shard : report.shards) {
    const bool at_server = shard.state == ShardEntry::State::kSealed && serves(shard.rank);
    parts[{shard.id, shard.token}].entries.push_back(
        {shard.rank, shard.state, at_server, at_server && shard.image_bytes != 0});
  }
  for (auto& [name, part] : parts) {
    // One of a rank, the sealed one first: whatever a report says twice counts once.
    const auto order = [](const Entry& entry) {
      return std::tuple(entry.rank, entry.state != ShardEntry::State::kSealed, !entry.measured);
    };
    std::vector<Entry>& entries = part.entries;
    std::sort(entries.begin(), entries.end(), [&](const Entry& a, const Entry& b) {
      return order(a) < order(b);
    });
    entries.erase(std::unique(entries.begin(),
                              entries.end(),
                              [](const Entry& a, const Entry& b) { return a.rank == b.rank; }),
                  entries.end());
    if (in_group && IsWhole(report, name.first, name.second, part, served->second, group->second)) {
      part.whole_in = group->second;
    }
  }
  return parts;
}

void ReportIndex::Count(const SnapshotKey& id, std::uint64_t token, const Part& part, bool add) {
  Taken& taken = ids_[id][token];
  for (const Entry& entry : part.entries) {
    Holding& holding = taken.held[entry.rank];
    std::uint32_t& nodes = entry.state == ShardEntry::State::kSealed     ? holding.sealed
                           : entry.state == ShardEntry::State::kPoisoned ? holding.poisoned
                                                                         : holding.filling;
    const bool before = holding.sealed > 0;
    nodes = add ? nodes + 1 : nodes - 1;
    Add(&taken.sealed, add, before != (holding.sealed > 0));
    Add(&taken.at_servers, add, entry.at_server);
    Add(&taken.measured, add, entry.measured);
    if (holding == Holding()) {
      taken.held.erase(entry.rank);
    }
  }
  if (part.whole_in.has_value()) {
    Add(&taken.whole_nodes, add, true);
    std::size_t& whole = taken.whole[*part.whole_in];
    Add(&whole, add, true);
    if (whole == 0) {
      taken.whole.erase(*part.whole_in);
    }
  }
  if (taken.held.empty()) {
    ids_[id].erase(token);
  }
  if (ids_[id].empty()) {
    ids_.erase(id);
  }
}

std::vector<ReportIndex::Touched> ReportIndex::Put(const Report& report) {
  Parts next = PartsOf(report);
  Parts& last = parts_[report.node_uuid];
  std::vector<Touched> touched;
  // First what is new: most of it takes the place of what is subtracted then.
  for (const auto& [name, part] : next) {
    const auto before = last.find(name);
    if (before != last.end() && before->second == part) {
      continue;
    }
    Count(name.first, name.second, part, /*add=*/true);
    if (before == last.end()) {
      touched.push_back({name.first, name.second, false});
    }
  }
  for (const auto& [name, part] : last) {
    const auto now = next.find(name);
    if (now != next.end() && now->second == part) {
      continue;
    }
    Count(name.first, name.second, part, /*add=*/false);
    const bool shrunk = now == next.end() || HasLess(now->second, part);
    touched.push_back({name.first, name.second, shrunk});
  }
  last = std::move(next);
  return touched;
}

bool ReportIndex::HasLess(const Part& now, const Part& before) {
  const auto has = [&](const Entry& entry) {
    return std::any_of(now.entries.begin(), now.entries.end(), [&](const Entry& other) {
      return other.rank == entry.rank && other.at_server;
    });
  };
  return (before.whole_in.has_value() && !now.whole_in.has_value()) ||
         std::any_of(before.entries.begin(), before.entries.end(), [&](const Entry& entry) {
           return entry.at_server && !has(entry);
         });
}

void ReportIndex::Erase(const std::string& node) {
  const auto parts = parts_.extract(node);
  if (parts.empty()) {
    return;
  }
  for (const auto& [name, part] : parts.mapped()) {
    Count(name.first, name.second, part, /*add=*/false);
  }
}

void ReportIndex::Rebuild(const std::map<std::string, Report>& reports) {
  parts_.clear();
  ids_.clear();
  ListRanks();
  for (const auto& [node, report] : reports) {
    Put(report);
  }
}

std::optional<std::uint64_t> ReportIndex::StartOf(const SnapshotKey& id) const {
  const auto by_token = ids_.find(id);
  if (by_token == ids_.end()) {
    return std::nullopt;
  }
  return std::max_element(by_token->second.begin(),
                          by_token->second.end(),
                          [](const auto& a, const auto& b) {
                            return a.second.held.size() < b.second.held.size();
                          })
      ->first;
}

const ReportIndex::Taken* ReportIndex::Find(const SnapshotKey& id) const {
  const auto start = StartOf(id);
  return start.has_value() ? &ids_.at(id).at(*start) : nullptr;
}

}  // namespace holdfast::daemon
