// Decides which durable snapshots of one job a tier may delete.  Pure: no file is touched here.
//
// Threads:   any; no state.
// Errors:    none: an input that cannot be satisfied deletes less, never more.
#pragma once

#include <cstdint>
#include <vector>

#include "proto/manifest.pb.h"

namespace holdfast::storage_tiers {

struct RetentionPolicy {
  // The newest so many are kept.  0 counts as 1: the last durable one is never deleted.
  std::uint64_t keep_last = 3;
  // Steps that are multiples of it are kept for ever; 0: none.
  std::uint64_t keep_every_steps = 0;
};

// The ids to delete, oldest first, in order of (incarnation, step).  "durable" are published ids of
// one job in any order; "pinned" ids (the parent of a live incarnation, a fallback, what a user
// holds) are never among the result, nor is the greatest of "durable".  Pinned and kept-for-ever
// ids do not use up places of keep_last that newer ids would otherwise have: keep_last counts from
// the newest, whatever else keeps an id.
[[nodiscard]] std::vector<proto::SnapshotId> SelectForDeletion(
    const std::vector<proto::SnapshotId>& durable,
    const std::vector<proto::SnapshotId>& pinned,
    const RetentionPolicy& policy);

// Order of snapshots of one job: incarnation, then step.  Two histories can have the same step.
[[nodiscard]] bool OlderThan(const proto::SnapshotId& a, const proto::SnapshotId& b);

[[nodiscard]] bool SameSnapshot(const proto::SnapshotId& a, const proto::SnapshotId& b);

}  // namespace holdfast::storage_tiers
