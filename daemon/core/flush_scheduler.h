// Decides which complete snapshot goes to a persistent tier next.  Pure.
//
// One snapshot at a time for each tier, so that a slow disk pins at most one slot a rank; what
// becomes due meanwhile is not queued: when the flush ends, the newest complete snapshot goes.
//
// Threads: any; a value type.
#pragma once

#include <cstdint>
#include <optional>

#include "common/clock.h"
#include "daemon/core/ids.h"
#include "proto/catalog.pb.h"

namespace holdfast::daemon {

class FlushScheduler {
 public:
  FlushScheduler(proto::TierPolicy policy, MonotonicTime now);

  const proto::TierPolicy& policy() const { return policy_; }

  const std::optional<SnapshotKey>& target() const { return target_; }

  bool must_finish() const { return must_finish_; }

  // What this incarnation restored: intervals count from it.  Where the tier does not have it yet,
  // it is due at once, since the newest state of this history would else be in memory only.
  void OnBase(const SnapshotKey& base, bool durable_here);

  // Considers the newest complete snapshot; "drain" makes it due whatever the interval says.
  // Returns true when the target changed.
  bool Consider(const SnapshotKey& newest_complete,
                bool durable_here,
                bool drain,
                MonotonicTime now);

  // The target is durable, or was given up (its shards are gone or bad).
  void OnDurable(const SnapshotKey& id);
  void OnGivenUp(const SnapshotKey& id);

 private:
  bool Due(const SnapshotKey& id, MonotonicTime now) const;

  proto::TierPolicy policy_;
  MonotonicTime last_start_;
  std::optional<SnapshotKey> target_;
  bool must_finish_ = false;
  // Newest snapshot of this history on this tier (or the base): intervals count from its step.
  std::optional<SnapshotKey> last_;
  bool base_due_ = false;
};

}  // namespace holdfast::daemon
