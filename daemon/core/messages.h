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
  enum class Kind : std::uint8_t { kArena, kTier };
  Kind kind = Kind::kArena;
  std::string root;  // of kTier

  std::string Text() const { return kind == Kind::kArena ? "arena" : "persistent " + root; }

  friend auto operator<=>(const Source&, const Source&) = default;
};

struct ShardEntry {
  enum class State : std::uint8_t { kFilling, kSealed, kPoisoned };
  SnapshotKey id;
  Rank rank = 0;
  State state = State::kFilling;
  std::uint32_t world_size = 0;  // that the id was taken with; 0: not sealed yet
  std::uint64_t token = 0;       // of the start that took it: two may have had one number

  friend bool operator==(const ShardEntry&, const ShardEntry&) = default;
};

// What a user asked of the restore; the same on every rank.
struct RestoreWish {
  std::optional<Step> named_step;
  bool include_discarded = false;

  friend bool operator==(const RestoreWish&, const RestoreWish&) = default;
};

struct RankReport {
  Step last_begun = kNoStep;  // of this epoch: every step up to it was begun or missed
  bool connected = false;
  // A restore request is waiting for an attempt above "asked_after".
  bool asked = false;
  std::uint32_t asked_after = 0;
  RestoreWish wish;
  std::uint32_t prepared = 0;  // highest attempt for which its source is present and checked
  std::uint32_t loaded = 0;    // highest attempt that it has loaded
  bool overwritten = false;    // a failed attempt wrote into its initial state
  bool drains = false;         // wants its newest snapshot durable now

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
  // Why steps of this epoch were missed, newest kept.
  std::map<std::pair<Step, Rank>, std::string> missed_reasons;
  // Members of the incarnations that may have left something, as this node recorded them.
  NodeHints known_nodes;
  std::vector<DecisionOf> decisions;  // of older incarnations, the newest few
};

struct FlushTarget {
  std::string root;
  SnapshotKey id;
  bool must_finish = false;  // a drain: never gives way

  friend auto operator<=>(const FlushTarget&, const FlushTarget&) = default;
};

struct Command {
  MessageStamp stamp;
  Phase phase = Phase::kCollect;
  std::uint32_t attempt = 1;
  bool decided = false;  // choice (or none) stands for this attempt
  std::optional<SnapshotKey> choice;
  std::map<Rank, Source> sources;        // of the choice, one for each rank
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
};

// Whether two say the same, whenever they were sent.
inline bool SameContent(const Report& a, const Report& b) {
  const auto same_decision = [](const DecisionOf& one, const DecisionOf& other) {
    return one.epoch == other.epoch &&
           one.decision.SerializeAsString() == other.decision.SerializeAsString();
  };
  return a.stamp.epoch == b.stamp.epoch && a.answers_attempt == b.answers_attempt &&
         a.ranks == b.ranks && a.shards == b.shards && a.known_complete == b.known_complete &&
         a.failures == b.failures && a.flushed == b.flushed &&
         a.missed_reasons == b.missed_reasons && a.known_nodes == b.known_nodes &&
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
         a.world_size == b.world_size && a.owner_uid == b.owner_uid &&
         a.decision.SerializeAsString() == b.decision.SerializeAsString();
}

}  // namespace holdfast::daemon
