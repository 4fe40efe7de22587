#include "cli/render/restorable.h"

#include "cli/snapshot_state.h"
#include "cli/text.h"

namespace holdfast::cli {
namespace {

// Sealed by every rank is as good as complete: the next daemon decides so.
bool MayBeChosen(const proto::SnapshotInfo& snapshot) {
  return !snapshot.discarded() && (IsComplete(snapshot) || snapshot.state() == kStateSealed);
}

void Consider(const proto::SnapshotInfo& snapshot, const std::string& place, Restorable* found) {
  const std::vector<std::uint32_t> missing = MissingRanks(snapshot);
  if (missing.empty() && snapshot.world_size() > 0) {
    found->from.push_back(place);
  }
  for (const std::string& root : snapshot.durable_on()) {
    if (root != place) {
      found->from.push_back(root);
    }
  }
  if (!found->from.empty()) {
    found->newest = snapshot.id();
  } else if (found->why_not.empty()) {
    found->why_not = "of " + Count(snapshot.world_size(), "rank") + " of " + IdText(snapshot.id()) +
                     " not here: " + RankRanges(missing);
  }
}

}  // namespace

Restorable FindRestorable(const Listing& listing,
                          const std::string& job,
                          const std::string& place) {
  Restorable found;
  for (const proto::SnapshotInfo& snapshot : listing.reply.snapshots()) {
    if (snapshot.job_name() != job) {
      continue;
    }
    ++found.snapshots;
    for (const proto::ShardInfo& shard : snapshot.shards()) {
      found.shards += Readable(shard) ? 1 : 0;
      found.bytes += Readable(shard) ? shard.image_bytes() : 0;
    }
    if (!found.newest && MayBeChosen(snapshot)) {
      Consider(snapshot, place, &found);
    }
  }
  if (found.newest) {
    found.why_not.clear();
  } else if (found.why_not.empty()) {
    found.why_not = found.snapshots == 0 ? "there is no snapshot"
                                         : "no snapshot is complete, durable, and not discarded";
  }
  return found;
}

}  // namespace holdfast::cli
