// One rank of the present incarnation, as its node knows it.
//
// Threads: io thread only.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "common/clock.h"
#include "daemon/core/ids.h"
#include "daemon/core/messages.h"
#include "daemon/core/node_core.h"
#include "proto/client.pb.h"

namespace holdfast::daemon {

// What a rank is promised: one slot keeps the last complete snapshot while the other fills.
inline constexpr std::uint32_t kPromisedSlots = 2;

// One rank of the present incarnation that trains on this node.
struct RankSession {
  SessionId session = 0;  // 0: the connection is gone, the process may live
  std::uint64_t token = 0;
  ClientIdentity process;
  bool dead = false;
  bool finished = false;  // its client is done with the job

  std::string layout_hash;
  std::uint64_t image_bytes = 0;
  std::string static_hash;  // empty: the layout has no static image
  std::uint64_t static_bytes = 0;
  std::optional<SlotRef> static_slot;  // of this rank's static image: being made, granted or sealed
  std::set<SlotRef> refused_statics;   // sealed ones that do not hold this process's frozen tensors
  std::uint32_t layout_generation = 0;
  std::int32_t numa_node = -1;  // of its device; not checked: the arena knows the nodes
  std::uint32_t slots_wanted = 0;
  std::uint32_t slots_admitted = 0;  // so many may fit; promised are kPromisedSlots
  std::set<SlotRef> has_fd;          // slots whose descriptor this connection was given
  std::uint32_t flushes_gave_way = 0;
  MonotonicTime no_create_before;

  Step last_begun = kNoStep;
  Step last_sealed = kNoStep;
  std::uint64_t sealed = 0;
  std::uint64_t missed = 0;   // begun, and torn or failed; of older clients, skipped too
  std::uint64_t skipped = 0;  // as the client counts them
  std::string last_missed_reason;

  struct PendingSeal {
    RequestId request = 0;  // 0: the connection that asked is gone
    proto::SealRequest seal;
  };

  // Seals that wait for their digest; a rank can have more than one.
  std::map<SlotRef, PendingSeal> digesting;

  std::optional<RequestId> restore_request;
  RestoreWish wish;
  std::chrono::milliseconds restore_limit{0};
  std::uint32_t asked_after = 0;
  std::uint32_t prepared = 0;
  std::uint32_t answered = 0;  // the attempt whose choice this rank was told

  struct Told {
    std::uint32_t attempt = 0;
    SnapshotKey id;
    Source source;
  };

  Told told;  // that choice, where there was one
  std::uint32_t loaded = 0;
  bool overwritten = false;
  std::optional<RequestId> loaded_request;
  std::uint32_t loaded_request_attempt = 0;
  // What it said of its loading before this daemon had heard its coordinator.
  std::optional<proto::LoadedRequest> early_load;
  std::vector<SlotRef> restore_pins;          // the dynamic image's slot, then the static one's
  std::optional<std::uint64_t> restore_file;  // ticket of OpenShardFile
  std::optional<proto::Sidecar> restore_sidecar;

  struct Drain {
    RequestId request = 0;
    MonotonicTime began;
    MonotonicTime deadline;
  };

  std::optional<Drain> drain;
};

}  // namespace holdfast::daemon
