#include "daemon/core/report_progress.h"

#include <algorithm>
#include <map>
#include <set>

namespace holdfast::daemon {
namespace {

template <typename Set>
bool Includes(const Set& all, const Set& part) {
  return std::includes(all.begin(), all.end(), part.begin(), part.end());
}

// Whether each of the older entries has one that it may have become.  Members list both in one
// order; entries in another count as news, which costs a message.
template <typename Entries, typename Became>
bool AllBecame(const Entries& last, const Entries& now, const Became& became) {
  auto next = now.begin();
  return std::all_of(last.begin(), last.end(), [&](const auto& entry) {
    next = std::find_if(next, now.end(), [&](const auto& other) { return became(entry, other); });
    return next != now.end();
  });
}

bool IsHeld(const Report& report, const SnapshotKey& id, Rank rank) {
  return std::any_of(report.shards.begin(), report.shards.end(), [&](const ShardEntry& shard) {
    return shard.id == id && shard.rank == rank;
  });
}

bool RanksGoOn(const Report& last, const Report& now) {
  return std::equal(last.ranks.begin(),
                    last.ranks.end(),
                    now.ranks.begin(),
                    now.ranks.end(),
                    [&](const auto& before, const auto& after) {
                      RankReport same = before.second;
                      same.last_begun = after.second.last_begun;
                      const SnapshotKey begun{now.stamp.epoch.number, same.last_begun};
                      return before.first == after.first && same == after.second &&
                             (before.second == after.second || IsHeld(now, begun, after.first));
                    });
}

bool ShardsGoOn(const Report& last, const Report& now) {
  using State = ShardEntry::State;
  // Sealed shards are listed before those that are being filled: each is looked for by itself.
  const bool kept = std::all_of(last.shards.begin(), last.shards.end(), [&](const auto& before) {
    return std::any_of(now.shards.begin(), now.shards.end(), [&](const ShardEntry& after) {
      const bool sealed = before.state == State::kFilling && after.state == State::kSealed &&
                          before.id == after.id && before.rank == after.rank &&
                          before.token == after.token;
      return before == after || sealed;
    });
  });
  const auto bad = [](const Report& report) {
    return std::count_if(report.shards.begin(), report.shards.end(), [](const ShardEntry& shard) {
      return shard.state == State::kPoisoned;
    });
  };
  return kept && bad(last) == bad(now);
}

// Ids that all ranks of the node have sealed: its part of them is done.
std::set<SnapshotKey> SealedByAll(const Report& report) {
  std::map<SnapshotKey, std::set<Rank>> sealed;
  for (const ShardEntry& shard : report.shards) {
    if (shard.state == ShardEntry::State::kSealed && report.ranks.contains(shard.rank)) {
      sealed[shard.id].insert(shard.rank);
    }
  }
  std::set<SnapshotKey> ids;
  for (const auto& [id, ranks] : sealed) {
    if (ranks.size() == report.ranks.size()) {
      ids.insert(id);
    }
  }
  return ids;
}

bool ParityGoesOn(const Report& last, const Report& now) {
  const bool rows =
      AllBecame(last.parity, now.parity, [](const ParityEntry& before, const ParityEntry& after) {
        return before.id == after.id && before.token == after.token &&
               before.local_rank == after.local_rank && before.epoch == after.epoch &&
               before.version == after.version && before.kind == after.kind &&
               Includes(after.rows, before.rows);
      });
  return rows && AllBecame(last.sidecars,
                           now.sidecars,
                           [](const SidecarEntry& before, const SidecarEntry& after) {
                             return before.id == after.id && before.token == after.token &&
                                    Includes(after.ranks, before.ranks);
                           });
}

bool FlushesGoOn(const Report& last, const Report& now) {
  return std::all_of(last.flushed.begin(), last.flushed.end(), [&](const auto& tier) {
    const auto root = now.flushed.find(tier.first);
    return root != now.flushed.end() &&
           std::all_of(tier.second.begin(), tier.second.end(), [&](const auto& flushed) {
             const auto id = root->second.find(flushed.first);
             return id != root->second.end() && Includes(id->second, flushed.second);
           });
  });
}

}  // namespace

bool IsMereProgress(const Report& last, const Report& now, const UnderWay& makes) {
  const bool same_parity = last.parity == now.parity && last.sidecars == now.sidecars;
  const bool same_files = last.flushed == now.flushed;
  return last.stamp.epoch == now.stamp.epoch && last.answers_attempt == now.answers_attempt &&
         last.looked_again == now.looked_again && last.failures == now.failures &&
         last.missed_reasons == now.missed_reasons && last.known_nodes == now.known_nodes &&
         last.failure_domain == now.failure_domain && last.parity_error == now.parity_error &&
         last.decisions.size() == now.decisions.size() &&
         Includes(now.known_complete, last.known_complete) && RanksGoOn(last, now) &&
         ShardsGoOn(last, now) && SealedByAll(last) == SealedByAll(now) &&
         (same_parity || (makes.rows && ParityGoesOn(last, now))) &&
         (same_files || (makes.files && FlushesGoOn(last, now)));
}

}  // namespace holdfast::daemon
