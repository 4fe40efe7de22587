// What one training process knows: its side of the protocol, as plain facts.
//
// Threads:   one.
// Ownership: value type, kept by the harness; outlives the daemon, as trainers do.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>

#include "common/units.h"
#include "daemon/core/ids.h"
#include "daemon/core/layout_facts.h"
#include "daemon/core/messages.h"
#include "proto/client.pb.h"

namespace holdfast::daemon {

struct FakeClient {
  std::string name;  // "r1"; "r1b": another process of the same rank; "eval/r0": of job eval
  std::string job;
  Rank rank = 0;
  std::int32_t pid = 0;
  std::uint32_t uid = 1000;
  bool alive = false;
  SessionId session = 0;

  std::uint64_t token = 0;
  Epoch epoch;
  google::protobuf::RepeatedPtrField<proto::MemberNode> members;  // of the start that it is of
  bool registered = false;
  bool resuming = false;         // its registration repeats one that an earlier connection made
  bool other_token = false;      // of a launcher that took the same number elsewhere
  bool next_is_refused = false;  // its next request does not reach the core
  std::optional<std::uint32_t> hears;  // so many messages more, and none before it connects again

  struct Layout {
    std::string name = "a";
    std::uint64_t image_bytes = kMiB;
    std::uint64_t static_bytes = 0;  // of the image of its frozen tensors; 0: it has none
  };

  Layout layout;
  Layout registered_layout;             // the last that was not refused
  std::uint32_t layout_generation = 0;  // the daemon's number of that one
  std::string base = "base";            // what its frozen tensors hold
  std::uint32_t slots_wanted = 0;
  std::optional<std::int32_t> numa_node;  // of its GPU
  std::uint32_t slots_admitted = 0;

  // A copy into a slot that was begun and whose seal was not confirmed.
  struct Copy {
    Step step = kNoStep;
    bool landed = false;    // every issued copy has finished
    bool given_up = false;  // torn, or abandoned by the daemon
    bool sealing = false;
    bool daemon_digests = false;
    std::optional<SlotRef> frozen;  // the static image that it was begun with
  };

  Step last_begun = kNoStep;
  std::optional<SlotRef> granted;
  std::uint32_t granted_for = 0;  // generation of the layout whose header that slot has
  std::map<SlotRef, Copy> copies;
  std::uint64_t sealed = 0;
  std::uint64_t missed = 0;

  // Restore: what was asked, told, loaded, and whether restore() has returned.
  bool asks = false;
  RestoreWish wish;
  std::uint64_t restore_timeout_ms = 0;  // 0: it waits for ever
  std::uint32_t attempt = 0;
  std::optional<SnapshotKey> told;
  bool told_nothing = false;
  std::string told_content;
  std::string told_static;
  proto::Sidecar told_sidecar;
  bool reports_loaded = false;  // a Loaded request waits
  bool load_ok = false;
  bool returned = false;
  std::optional<std::string> restore_error;

  bool fenced = false;
  std::string last_error;
  std::optional<proto::DrainReply> drained;
  std::uint64_t freed_bytes = 0;
  std::map<std::pair<SnapshotKey, int>, std::string> outcomes;

  struct Waiting {
    proto::ClientMessage message;
    SlotRef slot;
    bool names_slots = true;
  };

  // The slot of its static image.
  struct Static {
    SlotRef slot;
    std::string hash;
    bool offered = false;  // sealed by another process: compared before it is shared
    bool sealed = false;   // the daemon has said so
  };

  std::optional<Static> frozen;

  LayoutFacts Facts() const { return FactsOf(layout); }

  static LayoutFacts FactsOf(const Layout& layout) {
    const auto padded = [](std::string text) { return text + std::string(16 - text.size(), '-'); };
    LayoutFacts facts{padded(layout.name), layout.image_bytes, "", layout.static_bytes};
    if (layout.static_bytes != 0) {
      facts.static_hash = padded("s" + std::to_string(layout.static_bytes / kMiB));
      facts.hash = padded(layout.name + facts.static_hash.substr(0, 3));
    }
    return facts;
  }

  bool HasNewLayout() const { return Facts().hash != FactsOf(registered_layout).hash; }

  // A slot that it may begin to copy into.
  bool HasSlot() const { return granted.has_value() && granted_for == layout_generation; }

  RequestId next_request = 1;
  std::map<RequestId, Waiting> waiting;
};

}  // namespace holdfast::daemon
