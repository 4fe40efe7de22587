// What a member has under way of other nodes' bytes: rows for a snapshot, shards for its own ranks.
//
// Threads: value types; io thread only.
#pragma once

#include <cstdint>
#include <optional>
#include <utility>

#include "daemon/core/core_context.h"
#include "daemon/core/job.h"
#include "daemon/core/messages.h"
#include "proto/manifest.pb.h"

namespace holdfast::daemon {

using RowTryKey = std::pair<SnapshotKey, RowName>;

// A snapshot of one start: two may have taken the same number.
struct IdOfStart {
  SnapshotKey id;
  std::uint64_t token = 0;
};

struct RowTry {
  std::uint64_t ticket = 0;     // 0: nothing is under way
  std::optional<SlotRef> slot;  // its place, perhaps still being made
  CodeSet set;
  std::uint64_t token = 0;
  std::uint64_t length_bytes = 0;
  std::uint32_t failures = 0;
  Retry retry;
};

// A shard on its way here: its static image first, where it has one, then the dynamic one.
struct Bringing {
  SnapshotKey id;
  std::uint32_t attempt = 0;
  Source source;
  std::uint64_t token = 0;   // of the start that took the id
  std::uint64_t ticket = 0;  // of what is under way
  std::optional<proto::Sidecar> sidecar;
  proto::ImageKind image = proto::DYNAMIC;  // that is brought now
  std::optional<SlotRef> slot;              // for it
};

}  // namespace holdfast::daemon
