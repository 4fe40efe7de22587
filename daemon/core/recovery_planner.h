// Chooses what a restore attempt brings back.  Pure: an inventory in, a plan out.
//
// The greatest id, ordered by (incarnation, step), of which every rank has a source; discarded ids,
// ids tried too often, and sources known to be bad are left out (docs/peers.md).
//
// Threads: any; no state.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "daemon/core/ids.h"
#include "daemon/core/messages.h"

namespace holdfast::daemon {

struct Inventory {
  // For each id known to anyone: where each rank's shard can be had, best source first.  Of those
  // that failed equally often the first is taken.
  std::map<SnapshotKey, std::map<Rank, std::vector<Source>>> sources;
  // The world size that each id was taken with, where it is known.
  std::map<SnapshotKey, std::uint32_t> world_sizes;
  // Ids that were complete once: losing one of these is worth an error, never silence.
  std::set<SnapshotKey> was_complete;
  // Where else an id lies, and why it cannot be read from there now.
  std::map<SnapshotKey, std::vector<std::string>> out_of_reach;
  // Tiers that said nothing: they may hold what nobody here knows.
  std::vector<std::string> unanswered;
  std::set<SnapshotKey> discarded;
  // Published on a shared tier: as safe as full margin.
  std::set<SnapshotKey> safe;
  // Members that each group could still lose, by the parity that is there; not given: 0.
  std::map<SnapshotKey, std::uint32_t> margins;
  // Ids of which every attempt of this incarnation failed, and why the last one did.
  std::map<SnapshotKey, std::string> tried_too_often;
  // Starts of the job ended while they loaded it; a user who names its step may try again.
  std::set<SnapshotKey> ended_too_many_starts;
  // Sources that failed in this incarnation, with what was wrong.
  std::map<std::pair<SnapshotKey, Rank>, std::map<Source, std::string>> bad;
  // How often a source failed in this incarnation, also where nothing is wrong with its bytes.
  std::map<std::pair<SnapshotKey, Rank>, std::map<Source, std::uint32_t>> failures;
};

struct RestorePlan {
  // Absent and no error: start afresh.  Never while a tier that could hold more was not heard.
  std::optional<SnapshotKey> choice;
  std::map<Rank, Source> sources;
  std::uint64_t choice_token = 0;  // of the start that took it; the caller's to fill
  std::optional<SnapshotKey> fallback;
  std::vector<std::string> passed_over;  // newest first
  std::optional<std::string> error;
};

// "world_size" is that of the job now: an id of another one is passed over by name (restoring into
// another world size is redistribution, which needs a plan of its own).
RestorePlan PlanRestore(const Inventory& inventory,
                        std::uint32_t world_size,
                        const RestoreWish& wish);

// The fallback beside a choice that was made before.
std::optional<SnapshotKey> PlanFallback(const Inventory& inventory, const SnapshotKey& choice);

// What is kept beside a training that loads nothing: the newest id that somebody could still name,
// also one that no attempt would choose by itself (another world size, tried too often, discarded).
std::optional<SnapshotKey> PlanKept(const Inventory& inventory);

}  // namespace holdfast::daemon
