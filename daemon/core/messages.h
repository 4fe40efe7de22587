// What members (one a node and job) and the job's coordinator tell each other.
//
// Reports and commands are whole states, never events: a lost one is repaired by the next, a late
// one is dropped by its stamp.  On one node they pass in memory within one call into the core; with
// peers the same values travel by RPC.
//
// Threads: value types.
#pragma once

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
};

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
};

struct RestoreFailure {
  std::uint32_t attempt = 0;
  Rank rank = 0;
  SnapshotKey id;
  Source source;
  bool source_is_bad = false;  // never use it again in this incarnation
  bool fatal = false;          // no attempt can help: the restore ends for all ranks
  std::string reason;
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
};

}  // namespace holdfast::daemon
