// What members (one a node and job) and the job's coordinator tell each other.
//
// Reports and commands are whole states, never events: a lost one is repaired by the next, a late
// one is dropped by its stamp.  Within a node they pass in memory, in one call into the core;
// between nodes the same values travel by RPC (action.h).
//
// Threads: value types.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "common/result.h"
#include "daemon/core/code_set.h"
#include "daemon/core/ids.h"
#include "daemon/core/states.h"

namespace holdfast::daemon {

// Orders the messages of one sender.  A message counts only if its epoch is the receiver's and
// (boot, sequence) is above the last accepted from that sender.
struct MessageStamp {
  Epoch epoch;
  std::uint64_t boot = 0;
  std::uint64_t sequence = 0;

  bool NewerThan(const MessageStamp& last) const {
    return std::pair(boot, sequence) > std::pair(last.boot, last.sequence);
  }

  friend bool operator==(const MessageStamp&, const MessageStamp&) = default;
};

// Nodes by uuid, each with its endpoints: hints for who connects, never identity.
using NodeHints = std::map<std::string, std::vector<std::string>>;

// Where the bytes of one rank's shard can come from.
struct Source {
  // In the order in which they are taken: memory of the node that serves the rank now, of another
  // one, parity, a persistent root.
  enum class Kind : std::uint8_t { kArena, kPeer, kRebuild, kTier };
  Kind kind = Kind::kArena;
  std::string root;  // of kTier
  std::string node;  // of kPeer

  // Whether its bytes come from other nodes' memory, into this one's, before they are loaded.
  bool IsElsewhere() const { return kind == Kind::kPeer || kind == Kind::kRebuild; }

  std::string Text() const {
    switch (kind) {
      case Kind::kArena:
        return "arena";
      case Kind::kPeer:
        return "node " + NodeText(node);
      case Kind::kRebuild:
        return "parity";
      case Kind::kTier:
        break;
    }
    return "persistent " + root;
  }

  friend auto operator<=>(const Source&, const Source&) = default;
};

struct ShardEntry {
  enum class State : std::uint8_t { kFilling, kSealed, kPoisoned };
  SnapshotKey id;
  Rank rank = 0;
  State state = State::kFilling;
  std::uint32_t world_size = 0;    // that the id was taken with; 0: not sealed yet
  std::uint64_t token = 0;         // of the start that took it: two may have had one number
  std::uint64_t image_bytes = 0;   // of the dynamic image; 0: not sealed yet
  std::uint64_t static_bytes = 0;  // of its static image; 0: it has none

  friend bool operator==(const ShardEntry&, const ShardEntry&) = default;
};

// What a user asked of the restore; the same on every rank.
struct RestoreWish {
  std::optional<Step> named_step;
  bool include_discarded = false;

  friend bool operator==(const RestoreWish&, const RestoreWish&) = default;
};

// No client waits longer for its restore, whatever it says.
inline constexpr std::chrono::milliseconds kLongestRestore = std::chrono::hours(24);

struct RankReport {
  Step last_begun = kNoStep;  // of this epoch: every step up to it was begun or missed
  bool connected = false;
  // A restore request is waiting for an attempt above "asked_after".
  bool asked = false;
  std::uint32_t asked_after = 0;
  RestoreWish wish;
  std::chrono::milliseconds restore_limit{0};  // from when it asked; 0: none
  std::uint32_t prepared = 0;      // highest attempt for which its source is present and checked
  std::uint32_t loaded = 0;        // highest attempt that it has loaded
  bool overwritten = false;        // a failed attempt wrote into its initial state
  bool drains = false;             // wants its newest snapshot durable now
  std::uint64_t image_bytes = 0;   // of its layout's dynamic image; 0: not registered
  std::uint64_t static_bytes = 0;  // of its layout's static image

  friend bool operator==(const RankReport&, const RankReport&) = default;
};

struct RestoreFailure {
  std::uint32_t attempt = 0;
  Rank rank = 0;
  SnapshotKey id;
  Source source;
  bool source_is_bad = false;          // never use it again in this incarnation
  bool fatal = false;                  // no attempt can help: the restore ends for all ranks
  Errc code = Errc::kInvalidArgument;  // of a fatal one
  std::string reason;

  friend bool operator==(const RestoreFailure&, const RestoreFailure&) = default;
};

// What an incarnation decided, as a node recorded it.
struct DecisionOf {
  Epoch epoch;
  std::uint32_t world_size = 0;
  proto::RestoreDecision decision;
};

// The rows of one code set of one id that a node has recorded.
struct ParityEntry {
  SnapshotKey id;
  std::uint64_t token = 0;  // of the start that took it
  std::uint32_t local_rank = 0;
  std::uint64_t epoch = 0;  // with the version: of the groups that they count for
  std::uint32_t version = 0;
  std::set<std::uint32_t> rows;
  std::optional<CodeSet> set;  // while an inventory may be taken
  proto::ImageKind kind = proto::DYNAMIC;
  // Of DYNAMIC: its shards have static images, whose rows are in an entry of their own.
  bool shares_static = false;

  friend bool operator==(const ParityEntry&, const ParityEntry&) = default;
};

// Sidecars that a node has recorded, of shards that other nodes hold.
struct SidecarEntry {
  SnapshotKey id;
  std::uint64_t token = 0;  // of the start that took it
  std::vector<Rank> ranks;  // rising

  friend bool operator==(const SidecarEntry&, const SidecarEntry&) = default;
};

struct Report {
  MessageStamp stamp;
  std::string node_uuid;
  std::uint32_t answers_attempt = 0;  // the attempt whose inventory this is
  std::map<Rank, RankReport> ranks;
  std::vector<ShardEntry> shards;        // of all incarnations
  std::set<SnapshotKey> known_complete;  // among ids of which shards are held
  std::vector<RestoreFailure> failures;  // of answers_attempt
  // Files that are fsynced under their final names, by tier root and id.
  std::map<std::string, std::map<SnapshotKey, std::set<Rank>>> flushed;
  // FlushTarget::again of targets that the node has followed, where it is not 0.
  std::map<std::pair<std::string, SnapshotKey>, std::uint32_t> looked_again;
  // Why steps of this epoch were missed, newest kept.
  std::map<std::pair<Step, Rank>, std::string> missed_reasons;
  // Members of the incarnations that may have left something, as this node recorded them.
  NodeHints known_nodes;
  std::vector<DecisionOf> decisions;  // of older incarnations, the newest few
  std::string failure_domain;         // of this node; empty: not known
  std::vector<ParityEntry> parity;    // of all incarnations
  std::vector<SidecarEntry> sidecars;
  std::string parity_error;  // why the last row or sidecar was not made; for people
};

struct FlushTarget {
  std::string root;
  SnapshotKey id;
  bool must_finish = false;  // a drain: never gives way
  // Another one than before: files that were flushed are gone, and all ranks' are looked at again.
  std::uint32_t again = 0;

  friend auto operator<=>(const FlushTarget&, const FlushTarget&) = default;
};

// Nodes that protect each other.
struct GroupView {
  std::vector<std::string> nodes;  // by position
  std::uint32_t data = 0;
  std::uint32_t parity = 0;
  bool reduced = false;                        // fewer rows than are wished for
  std::vector<std::string> uncovered_domains;  // whose loss takes more than "parity" of them

  friend bool operator==(const GroupView&, const GroupView&) = default;
};

// An id whose parity is being made, with the code sets of the receiver's group.
struct ProtectTarget {
  SnapshotKey id;
  std::uint64_t token = 0;  // of the start that took it
  std::vector<CodeSet> sets;

  friend bool operator==(const ProtectTarget&, const ProtectTarget&) = default;
};

// Where the shard of a rank can be had, beyond the memory of the node that serves it.
struct ShardOrder {
  std::uint64_t image_bytes = 0;
  std::vector<std::string> sidecar_nodes;  // that have its sidecar
  std::optional<HeldSet> held;             // of kRebuild: by which it is decoded
  std::optional<HeldSet> static_held;      // the same of its static image, where it has one

  friend bool operator==(const ShardOrder&, const ShardOrder&) = default;
};

struct Command {
  MessageStamp stamp;
  Phase phase = Phase::kCollect;
  std::uint32_t attempt = 1;
  bool decided = false;  // choice (or none) stands for this attempt
  std::optional<SnapshotKey> choice;
  std::map<Rank, Source> sources;        // of the choice, for the receiver's ranks
  std::vector<std::string> passed_over;  // newer ids that could not be had, with reasons
  std::optional<std::string> error;      // of kError
  Errc error_code = Errc::kNotFound;
  std::map<SnapshotKey, std::string> abandoned;  // of this epoch, with reasons
  std::set<SnapshotKey> complete;                // known complete, newest few
  std::set<SnapshotKey> discarded;
  std::vector<FlushTarget> flush;
  std::set<std::pair<std::string, SnapshotKey>> durable;  // published
  // Why nothing of this incarnation can become durable any more: a tier knows a newer one.
  std::optional<std::string> superseded;
  // A node has refused this incarnation: no rank of it goes on.
  std::optional<std::string> fenced;
  // What a member records of the incarnation, so that a later one finds it on every node.
  std::uint32_t world_size = 0;
  std::uint32_t owner_uid = 0;
  proto::RestoreDecision decision;
  // Groups protect the job: from now on only what is protected lets an older id be freed (I4), also
  // while no group is made yet.
  bool coded = false;
  std::string not_coded;            // why it is not, though it is wished for
  std::uint32_t group_version = 0;  // 0: no groups are made yet
  std::optional<GroupView> group;   // the receiver's
  std::optional<ProtectTarget> protect;
  std::optional<SnapshotKey> protected_id;       // the newest at full margin
  std::map<SnapshotKey, std::uint32_t> margins;  // of ids that have parity
  std::map<Rank, ShardOrder> orders;             // of sources elsewhere, for the receiver's ranks
  std::uint64_t choice_token = 0;                // of the start that took the choice
  // Complete once, of this epoch, and nobody can have them any more: what is left of them goes.
  std::set<SnapshotKey> lost;
  // Nodes that serve ranks and are out of the coordinator's sight while training runs: without them
  // nothing becomes complete.  For people.
  std::set<std::string> silent;
};

// Whether two say the same, whenever they were sent.
inline bool SameContent(const Report& a, const Report& b) {
  const auto same_decision = [](const DecisionOf& one, const DecisionOf& other) {
    return one.epoch == other.epoch &&
           one.decision.SerializeAsString() == other.decision.SerializeAsString();
  };
  return a.stamp.epoch == b.stamp.epoch && a.answers_attempt == b.answers_attempt &&
         a.ranks == b.ranks && a.shards == b.shards && a.known_complete == b.known_complete &&
         a.failures == b.failures && a.flushed == b.flushed && a.looked_again == b.looked_again &&
         a.missed_reasons == b.missed_reasons && a.known_nodes == b.known_nodes &&
         a.failure_domain == b.failure_domain && a.parity == b.parity && a.sidecars == b.sidecars &&
         a.parity_error == b.parity_error &&
         std::equal(a.decisions.begin(),
                    a.decisions.end(),
                    b.decisions.begin(),
                    b.decisions.end(),
                    same_decision);
}

inline bool SameContent(const Command& a, const Command& b) {
  return a.stamp.epoch == b.stamp.epoch && a.phase == b.phase && a.attempt == b.attempt &&
         a.choice == b.choice && a.sources == b.sources && a.passed_over == b.passed_over &&
         a.error == b.error && a.error_code == b.error_code && a.abandoned == b.abandoned &&
         a.complete == b.complete && a.discarded == b.discarded && a.flush == b.flush &&
         a.durable == b.durable && a.superseded == b.superseded && a.fenced == b.fenced &&
         a.world_size == b.world_size && a.owner_uid == b.owner_uid && a.coded == b.coded &&
         a.not_coded == b.not_coded && a.group_version == b.group_version && a.group == b.group &&
         a.protect == b.protect && a.protected_id == b.protected_id && a.margins == b.margins &&
         a.orders == b.orders && a.choice_token == b.choice_token && a.lost == b.lost &&
         a.silent == b.silent && a.decision.SerializeAsString() == b.decision.SerializeAsString();
}

}  // namespace holdfast::daemon
