#include "daemon/core/recovery_planner.h"

#include <algorithm>
#include <limits>
#include <tuple>

namespace holdfast::daemon {
namespace {

std::string RankList(const std::vector<Rank>& ranks) {
  std::string text;
  for (std::size_t i = 0; i < ranks.size() && i < 8; ++i) {
    text += (i == 0 ? "" : ", ") + std::to_string(ranks[i]);
  }
  return ranks.size() > 8 ? text + ", ..." : text;
}

std::uint32_t FailuresOf(const Inventory& inventory,
                         const SnapshotKey& id,
                         Rank rank,
                         const Source& source) {
  const auto failures = inventory.failures.find({id, rank});
  if (failures == inventory.failures.end()) {
    return 0;
  }
  const auto count = failures->second.find(source);
  return count == failures->second.end() ? 0 : count->second;
}

// Of those that are not known to be bad the one that failed least, of equals the best: a node that
// hangs would else use up every try of the id.
std::optional<Source> GoodSource(const Inventory& inventory, const SnapshotKey& id, Rank rank) {
  const auto& by_rank = inventory.sources.at(id);
  const auto sources = by_rank.find(rank);
  if (sources == by_rank.end()) {
    return std::nullopt;
  }
  const auto bad = inventory.bad.find({id, rank});
  std::optional<Source> best;
  std::uint32_t least = 0;
  for (const Source& source : sources->second) {
    if (bad != inventory.bad.end() && bad->second.contains(source)) {
      continue;
    }
    const std::uint32_t failures = FailuresOf(inventory, id, rank, source);
    if (!best.has_value() || failures < least) {
      best = source;
      least = failures;
    }
  }
  return best;
}

class Planner {
 public:
  Planner(const Inventory& inventory, std::uint32_t world_size, const RestoreWish& wish)
      : inventory_(inventory), world_size_(world_size), wish_(wish) {}

  RestorePlan Run() {
    std::vector<std::string> lost;
    for (auto it = inventory_.sources.rbegin(); it != inventory_.sources.rend(); ++it) {
      const SnapshotKey& id = it->first;
      if (wish_.named_step.has_value() && id.step != *wish_.named_step) {
        continue;
      }
      if (inventory_.discarded.contains(id) && !wish_.include_discarded) {
        plan_.passed_over.push_back(ToText(id) + ": discarded by an earlier choice of the user");
        continue;
      }
      const std::string problem = TryToTake(id);
      if (problem.empty()) {
        plan_.fallback = PlanFallback(inventory_, id);
        return std::move(plan_);
      }
      plan_.passed_over.push_back(ToText(id) + ": " + problem);
      if (inventory_.was_complete.contains(id)) {
        lost.push_back(ToText(id) + ": " + problem);
      }
    }
    Fail(lost);
    return std::move(plan_);
  }

 private:
  // Empty when every rank has a source; else what is missing.
  std::string TryToTake(const SnapshotKey& id) {
    const auto world = inventory_.world_sizes.find(id);
    if (world != inventory_.world_sizes.end() && world->second != world_size_) {
      return "taken with world size " + std::to_string(world->second) + ", the job has " +
             std::to_string(world_size_);
    }
    if (const auto tried = inventory_.tried_too_often.find(id);
        tried != inventory_.tried_too_often.end()) {
      return "tried too often in this incarnation; at last " + tried->second;
    }
    if (inventory_.ended_too_many_starts.contains(id) && !wish_.named_step.has_value()) {
      return "the last starts of the job ended while they loaded it; name its step to try again";
    }
    std::vector<Rank> missing;
    std::string bad;
    std::map<Rank, Source> chosen;
    for (Rank rank = 0; rank < world_size_; ++rank) {
      if (const auto source = BestSource(id, rank, &bad); source.has_value()) {
        chosen[rank] = *source;
      } else {
        missing.push_back(rank);
      }
    }
    if (!missing.empty()) {
      return "no usable shard of rank " + RankList(missing) + bad + OutOfReach(id);
    }
    plan_.choice = id;
    plan_.sources = std::move(chosen);
    if (!bad.empty()) {
      plan_.passed_over.push_back(ToText(id) + ": taken from other sources" + bad);
    }
    return "";
  }

  std::optional<Source> BestSource(const SnapshotKey& id, Rank rank, std::string* bad) const {
    const auto bad_sources = inventory_.bad.find({id, rank});
    if (bad_sources != inventory_.bad.end()) {
      for (const auto& [source, reason] : bad_sources->second) {
        *bad += "; rank " + std::to_string(rank) + ", " + source.Text() + ": " + reason;
      }
    }
    return GoodSource(inventory_, id, rank);
  }

  std::string OutOfReach(const SnapshotKey& id) const {
    std::string text;
    if (const auto it = inventory_.out_of_reach.find(id); it != inventory_.out_of_reach.end()) {
      for (const std::string& why : it->second) {
        text += "; " + why;
      }
    }
    return text;
  }

  void Fail(const std::vector<std::string>& lost) {
    if (wish_.named_step.has_value()) {
      plan_.error = "step " + std::to_string(*wish_.named_step) +
                    " cannot be restored (a step that was named is never replaced by an older one)";
      for (const std::string& text : plan_.passed_over) {
        *plan_.error += "; " + text;
      }
      AddUnanswered();
      return;
    }
    const bool any_discarded =
        std::any_of(inventory_.discarded.begin(), inventory_.discarded.end(), [&](const auto& id) {
          return inventory_.was_complete.contains(id);
        });
    if (lost.empty() && !any_discarded && inventory_.unanswered.empty()) {
      return;
    }
    plan_.error = lost.empty() && !any_discarded ? "nothing was found, but not all could be asked"
                                                 : "snapshots exist, but none can be restored";
    for (const std::string& text : lost) {
      *plan_.error += "; " + text;
    }
    for (const SnapshotKey& id : inventory_.discarded) {
      *plan_.error += "; " + ToText(id) + " is discarded, and can be had by naming its step";
    }
    AddUnanswered();
  }

  void AddUnanswered() {
    for (const std::string& text : inventory_.unanswered) {
      if (plan_.error->find(text) == std::string::npos) {
        *plan_.error += "; " + text;
      }
    }
    if (!inventory_.unanswered.empty()) {
      *plan_.error += "; make it answer, or start the job without this root";
    }
  }

  const Inventory& inventory_;
  const std::uint32_t world_size_;
  const RestoreWish& wish_;
  RestorePlan plan_;
};

bool HasEveryShard(const Inventory& inventory, const SnapshotKey& id) {
  const auto& by_rank = inventory.sources.at(id);
  const auto world = inventory.world_sizes.find(id);
  if (world == inventory.world_sizes.end() || by_rank.size() < world->second) {
    return false;
  }
  return std::all_of(by_rank.begin(), by_rank.end(), [&](const auto& entry) {
    return GoodSource(inventory, id, entry.first).has_value();
  });
}

}  // namespace

// The safest id, where that is safer than the choice: a shared tier, or else the most parity.  Of
// equals one that is not discarded, then the greatest.
std::optional<SnapshotKey> PlanFallback(const Inventory& inventory, const SnapshotKey& choice) {
  const auto margin_of = [&](const SnapshotKey& id) -> std::uint64_t {
    if (inventory.safe.contains(id)) {
      return std::numeric_limits<std::uint64_t>::max();
    }
    const auto margin = inventory.margins.find(id);
    const bool had = margin != inventory.margins.end() && HasEveryShard(inventory, id);
    return had ? margin->second : 0;
  };
  std::optional<SnapshotKey> best;
  std::tuple<std::uint64_t, bool, SnapshotKey> best_rank{margin_of(choice), true, {}};
  for (const auto& [id, sources] : inventory.sources) {
    const std::tuple rank(margin_of(id), !inventory.discarded.contains(id), id);
    if (std::get<0>(rank) > margin_of(choice) && rank > best_rank) {
      best = id;
      best_rank = rank;
    }
  }
  return best;
}

std::optional<SnapshotKey> PlanKept(const Inventory& inventory) {
  std::optional<SnapshotKey> complete;  // but out of reach now
  std::optional<SnapshotKey> out_of_reach;
  std::optional<SnapshotKey> discarded;
  for (auto it = inventory.sources.rbegin(); it != inventory.sources.rend(); ++it) {
    const SnapshotKey& id = it->first;
    const bool whole = HasEveryShard(inventory, id);
    if (inventory.discarded.contains(id)) {
      discarded = whole && !discarded.has_value() ? id : discarded;
    } else if (whole) {
      return id;
    } else if (inventory.out_of_reach.contains(id)) {
      // What is known to be whole somewhere goes before a newer one that perhaps is not (I3).
      const bool known = inventory.was_complete.contains(id);
      complete = known && !complete.has_value() ? id : complete;
      out_of_reach = out_of_reach.has_value() ? out_of_reach : id;
    }
  }
  out_of_reach = complete.has_value() ? complete : out_of_reach;
  return out_of_reach.has_value() ? out_of_reach : discarded;
}

RestorePlan PlanRestore(const Inventory& inventory,
                        std::uint32_t world_size,
                        const RestoreWish& wish) {
  return Planner(inventory, world_size, wish).Run();
}

}  // namespace holdfast::daemon
