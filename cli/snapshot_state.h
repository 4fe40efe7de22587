// The words for the state of a snapshot, as the daemon sends them and docs/ARCHITECTURE.md defines
// them, and two that only a folder has.
#pragma once

#include <string_view>

#include "proto/client.pb.h"

namespace holdfast::cli {

inline constexpr std::string_view kStateFilling = "filling";
inline constexpr std::string_view kStateSealed = "sealed";
inline constexpr std::string_view kStateComplete = "complete";
inline constexpr std::string_view kStateAbandoned = "abandoned";
inline constexpr std::string_view kStatePoisoned = "poisoned";  // of a shard: digests do not match

// Of a shard that a dead daemon left, or that a manifest names: a file of it is not there any more,
// or has another length.
inline constexpr std::string_view kStateLost = "lost";

// Of a snapshot: its manifest is on a persistent root.  What is durable is complete.
inline constexpr std::string_view kStateDurable = "durable";
// Its manifest is not there: a flush under way, or one that never ended.  No restore chooses it.
inline constexpr std::string_view kStateUnfinished = "unfinished";
// Its manifest is there but cannot be believed, or names a file that is gone or of another length.
inline constexpr std::string_view kStateDamaged = "damaged";

[[nodiscard]] inline bool IsComplete(const proto::SnapshotInfo& snapshot) {
  return snapshot.state() == kStateComplete || snapshot.state() == kStateDurable;
}

}  // namespace holdfast::cli
