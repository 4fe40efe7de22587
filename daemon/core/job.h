// What a node remembers of one job: identity, shards, outcomes, incarnations, durable snapshots.
//
// Member and Coordinator of the job share it on the node that has both.  Every change that must
// outlive the daemon is recorded in the same call (the batch of the Ready under construction).
//
// Threads:   io thread only.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "daemon/core/code_set.h"
#include "daemon/core/core_context.h"
#include "daemon/core/ids.h"
#include "daemon/core/messages.h"
#include "proto/catalog.pb.h"

namespace holdfast::daemon {

// A sealed shard in memory.
struct Shard {
  SlotRef slot;
  std::optional<SlotRef> static_slot;  // of the static image that it shares
  proto::Sidecar sidecar;              // without layout
  bool poisoned = false;
  std::string poison_reason;
  bool restored = false;
  std::uint64_t start_token = 0;  // of the start that took it; 0: its incarnation's record has it
};

// A row of an id among those that a node holds.  An id may have rows of two geometries: those that
// it was protected with stay until it is protected anew.
struct RowName {
  std::uint32_t local_rank = 0;
  std::uint64_t epoch = 0;
  std::uint32_t version = 0;
  proto::ImageKind kind = proto::DYNAMIC;
  std::uint32_t row = 0;

  friend auto operator<=>(const RowName&, const RowName&) = default;
};

struct Row {
  std::optional<SlotRef> slot;  // nothing: it is empty
  CodeSet set;
  proto::RowRecord record;
};

inline RowName NameOf(const CodeSet& set, std::uint32_t row) {
  return {set.local_rank, set.epoch, set.geometry.version, set.kind, row};
}

using RowsByName = std::map<RowName, Row>;

// The slot, for the two parties that hold their own pins on it; see Member.
using ShardsByRank = std::map<Rank, Shard>;

struct Job {
  proto::JobRecord record;  // name, uid, owner, epoch, world size, tiers
  std::map<SnapshotKey, ShardsByRank> shards;
  std::map<SnapshotKey, proto::OutcomeRecord> outcomes;
  std::map<std::uint64_t, proto::IncarnationRecord> incarnations;
  std::map<std::string, std::map<SnapshotKey, proto::DurableRecord>> durables;  // by root

  std::map<SnapshotKey, RowsByName> rows;                                // parity that lies here
  std::map<SnapshotKey, std::map<Rank, proto::SidecarRecord>> sidecars;  // of others' shards

  const JobUid& uid() const { return record.job_uid(); }

  Epoch epoch() const { return {record.epoch_number(), record.epoch_token()}; }

  proto::SnapshotId Id(const SnapshotKey& key) const { return ToProto(uid(), key); }

  bool IsComplete(const SnapshotKey& key) const;
  bool IsAbandoned(const SnapshotKey& key) const;
  // A boundary of a later incarnation puts it aside (docs/peers.md).
  bool IsDiscarded(const SnapshotKey& key) const;
  bool IsDurable(const SnapshotKey& key, const std::string& root) const;
  std::vector<std::string> DurableOn(const SnapshotKey& key) const;
  // Snapshots were published on the root, so the job must be found there.
  bool IsExpectedOn(const std::string& root) const;
  std::set<std::string> ExpectedRoots() const;
  // What the present incarnation restored, or keeps until that is as safe.
  bool IsBaseOrFallback(const SnapshotKey& key) const;
  // The fallback, which needs no memory: a shared tier has it.
  bool IsFallbackOnTier(const SnapshotKey& key) const;
  // The present incarnation's base is that id, and a safer one is kept beside it.
  bool HasSaferFallbackThan(const SnapshotKey& key) const;
  // A tier was silent when the present incarnation chose: what it knows may be the fallback.
  bool FallbackIsOpen() const;
  // Older incarnations that chose it and ended before all ranks had loaded, since one that had.
  std::uint32_t StartsThatFailedOn(const SnapshotKey& key) const;
  // No shard of it that is held here was found bad.
  bool IsSound(const SnapshotKey& key) const;
  // Of those not discarded whose shards are still held here, and sound.
  std::optional<SnapshotKey> NewestComplete() const;
  // Of those not discarded, held here or durable: what is durable is complete.
  std::optional<SnapshotKey> NewestCompleteAnywhere() const;

  const Shard* FindShard(const SnapshotKey& key, Rank rank) const;
  Shard* FindShard(const SnapshotKey& key, Rank rank);

  // Whether any sealed shard shares the static image in that slot; whether one of them is poisoned.
  bool SharesStatic(SlotRef slot, bool poisoned_only = false) const;

  // ---- parity (job_parity.cc) ----
  // A node obeys only one start of a number, so its record says whose ids are; 0: not known here.
  std::uint64_t TokenOf(std::uint64_t incarnation) const;
  std::uint64_t TokenOf(const SnapshotKey& key, const Shard& shard) const;
  // Of a shard that lies here, or of one that another node holds; of the start with that token
  // alone, where one is given.  Null: not known.
  const proto::Sidecar* FindSidecar(const SnapshotKey& key,
                                    Rank rank,
                                    std::optional<std::uint64_t> token = std::nullopt) const;
  void PutRow(CoreContext* context, const SnapshotKey& key, Row row);
  // Whether any row lies in that slot: those of static images that ids share are the same bytes.
  bool HasRowIn(SlotRef slot) const;
  // Its record alone: the slot is the caller's.
  void EraseRow(CoreContext* context, const SnapshotKey& key, const RowName& name);
  void PutSidecar(CoreContext* context, proto::Sidecar sidecar, std::uint64_t start_token);
  void EraseSidecars(CoreContext* context, const SnapshotKey& key);

  // The record of the present incarnation, made if missing.
  proto::IncarnationRecord* Present();

  // ---- nodes (job_members.cc) ----
  using Members = google::protobuf::RepeatedPtrField<proto::MemberNode>;
  // The job has said which node serves which rank; else this node serves all.
  bool SpansNodes() const;
  // The node that serves rank 0 of the present incarnation; empty: this one, or not known.
  std::string CoordinatorNode() const;
  std::map<Rank, std::string> ServersOfRanks() const;  // empty: this node alone
  // Members of the present incarnation, and of older ones that may have left something.
  NodeHints KnownNodes() const;
  // The same without the members of the present incarnation, whom its coordinator knows.
  NodeHints FormerNodes() const;
  // Where a member of an incarnation may be found; empty: not known.
  std::vector<std::string> EndpointsOf(const std::string& node) const;
  void SetMembers(CoreContext* context, const Members& members);
  bool HasMembers(const Members& members) const;
  std::vector<DecisionOf> OlderDecisions() const;
  // What another node recorded of an older incarnation; true if it was news.
  bool AdoptDecision(CoreContext* context, const DecisionOf& heard);

  void Save(CoreContext* context) const;
  void SaveIncarnation(CoreContext* context, std::uint64_t number) const;
  void PutShard(CoreContext* context, const SnapshotKey& key, Rank rank, Shard shard);
  void SaveShard(CoreContext* context, const SnapshotKey& key, Rank rank) const;
  void EraseShard(CoreContext* context, const SnapshotKey& key, Rank rank);
  void SetOutcome(CoreContext* context,
                  const SnapshotKey& key,
                  proto::Outcome outcome,
                  std::string reason,
                  std::optional<std::uint32_t> world_size = std::nullopt);
  const proto::DurableRecord* FindDurable(const std::string& root, const SnapshotKey& key) const;
  proto::DurableRecord* Durable(const std::string& root, const SnapshotKey& key);
  void SaveDurable(CoreContext* context, const std::string& root, const SnapshotKey& key) const;
  void EraseDurable(CoreContext* context, const std::string& root, const SnapshotKey& key);

  // The durable snapshot before "before" on the root whose folder has the static image "image" of
  // that rank; nothing where there is none, or a doubt about it.
  std::optional<proto::DurableStatic> FindStatic(const std::string& root,
                                                 Rank rank,
                                                 const SnapshotKey& image,
                                                 const SnapshotKey& before) const;
  // Says in the record of "key" where its static image of that rank is, or is about to be.
  void SetStatic(const std::string& root, const SnapshotKey& key, proto::DurableStatic where);
  // Its files were not found whole: nobody is sent to them again.
  void ForgetStatics(CoreContext* context, const std::string& root, const SnapshotKey& key);
  // Snapshots of the root whose static images others use.
  std::set<SnapshotKey> StaticOwners(const std::string& root) const;

  void ForgetPublished(CoreContext* context);
  // Removes every record of a job that holds no shards; what is left of it is the caller's.
  void Forget(CoreContext* context) const;

  // Outcomes of ids that nothing holds any more, but for the newest few: they would grow for ever.
  void PruneOutcomes(CoreContext* context);
};

}  // namespace holdfast::daemon
