// Decides for one incarnation of a job: the restore, what is complete or abandoned, what is
// flushed, published and deleted.  Lives on the node that serves rank 0.
//
// Everything it knows is in reports, in the tiers, and in the recorded decision, so one that comes
// back after a crash goes on from the same facts (docs/peers.md).
//
// Threads:   io thread only.
// Ownership: borrows the context and the job; both outlive it.
// Lifecycle: constructed for the job's present epoch; replaced when a newer incarnation opens.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "daemon/core/core_context.h"
#include "daemon/core/flush_scheduler.h"
#include "daemon/core/job.h"
#include "daemon/core/messages.h"
#include "daemon/core/recovery_planner.h"
#include "daemon/core/report_index.h"
#include "ec/grouping.h"

namespace holdfast::daemon {

class Coordinator {
 public:
  // Reads the recorded decision: committed means running, anything else the next attempt.
  Coordinator(CoreContext* context, Job* job);

  // Drops a report of another epoch, or one that is not newer than the sender's last; then decides,
  // if that is due.
  void OnReport(Report report);
  // The same without deciding yet: of many that come at once, the last one decides for all.
  void TakeReport(Report report);

  // Whether reports wait to be decided by.  In a job of many nodes
  // (CoreOptions::decide_each_report) that is where one can make an id complete or protected, or
  // takes from one that was; what else reports say is decided by at the next tick.
  bool IsDue() const { return due_; }

  // The session with a member is gone: its report counts no more.
  void OnMemberLost(const std::string& node_uuid);
  // The job has said which nodes it has.
  void OnMembers();
  // A node has refused this incarnation: nothing more is decided for it.
  void OnFenced(const Error& error);

  void OnTierListed(const std::string& root,
                    std::uint32_t attempt,
                    Result<std::vector<TierSnapshot>> listed);
  // "asker": of the coordinator that asked, which may be one of an older incarnation.
  void OnPublished(const std::string& root,
                   const SnapshotKey& id,
                   const Epoch& asker,
                   const Status& status);
  // What the tier said of a flush that this incarnation, or an older one, began.
  void OnFlushFenced(const Epoch& asker, const Error& error);
  void OnDurableDeleted(const std::string& root, const SnapshotKey& id, const Status& status);
  void OnTick();

  // The whole state, newly stamped, but for what concerns single nodes.
  Command MakeCommand();
  // Adds that: the receiver's sources, group and parity.
  void Tailor(const std::string& node, Command* command) const;

  Phase phase() const { return phase_; }

  // Rises when anything changes that Tailor adds and MakeCommand does not show.
  std::uint64_t tailored() const { return tailored_; }

  // Nodes that commands go to: members present and former, but for this one.
  const NodeHints& asked() const { return asked_; }

  std::uint32_t attempt() const;

  // Every attempt's findings, for status: what was passed over, and why.
  const std::vector<std::string>& log() const { return log_; }

  const std::map<std::string, std::string>& tier_errors() const { return tier_errors_; }

  const std::vector<GroupView>& groups() const { return groups_; }

  // Why parity takes long, as members say it; empty: they do not.
  std::string ParityError() const;

 private:
  struct TierListing {
    bool answered = false;
    std::optional<std::string> error;
    std::vector<TierSnapshot> snapshots;
  };

  void Decide();
  // restore
  void StartAttempt(std::uint32_t number);
  void ListTiers();
  bool InventoryClosed() const;
  void DecideCollect();
  Inventory TakeInventory() const;
  void AddTiers(Inventory* inventory) const;
  void AddListing(const proto::TierPolicy& tier,
                  const TierListing& listing,
                  Inventory* inventory) const;
  void AddUnanswered(const std::string& root, const std::string& why, Inventory* inventory) const;
  void TakeListing(const std::string& root, const std::vector<TierSnapshot>& snapshots);
  void Choose(const RestoreWish& wish);
  void StartWithoutRestore();
  bool EveryoneAnswered() const;
  void ReopenFallback();
  void CloseFallback();
  void DecideLoading();
  bool TakeFailures();
  void MarkDurable(const Source& source, const SnapshotKey& id, bool bad);
  void MarkLoadedSources(const SnapshotKey& base);
  bool TakeFatal();
  void GiveUpWaiting(const char* what, bool (*done)(const RankReport& rank, std::uint32_t attempt));
  void Commit();
  void DecideError();
  void FailAttempt(const std::string& why, Errc code = Errc::kNotFound);
  void RecordDecision();
  // deadline of a restore
  [[nodiscard]] bool EndOverdue();
  [[nodiscard]] std::string WhatIsMissing() const;
  // run
  void CountFromDurables();
  void DecideOutcomes();
  void DecideOne(const SnapshotKey& id, const ReportIndex::Taken& taken);
  void DecideOlder(const SnapshotKey& id, const ReportIndex::Taken& taken);
  void ScheduleFlushes();
  void ConsiderTier(FlushScheduler* scheduler, const SnapshotKey& newest, bool drains);
  bool TargetIsLost(const std::string& root, const SnapshotKey& id) const;
  std::set<Rank> FlushedRanks(const std::string& root,
                              const SnapshotKey& id,
                              std::uint32_t again) const;
  void Publish(const std::string& root, const SnapshotKey& id);
  void TakeFence(const Error& error);
  // FlushTarget::again of that target.
  std::uint32_t Again(const std::string& root, const SnapshotKey& id) const;
  bool IsHopeless(const std::string& root, const SnapshotKey& id) const;
  void MakeRoom(const FlushScheduler& scheduler, const SnapshotKey& newest);
  void DropHalfFlushed(const std::string& root, const SnapshotKey& newest);
  void Retain(const FlushScheduler& scheduler);
  std::optional<SnapshotKey> NewestCompleteHere() const;

  // groups and parity (coordinator_groups.cc, coordinator_protect.cc)
  using SealedShards = std::map<Rank, const ShardEntry*>;
  bool WantsGroups() const;

  bool IsCoded() const { return WantsGroups() && not_coded_.empty(); }

  std::optional<std::vector<ec::Node>> NodesToGroup() const;
  void UpdateGroups();
  void TakeGroups(std::vector<GroupView> groups, std::uint64_t digest);
  void DropGroups();
  std::optional<std::vector<CodeSet>> SetsOf(const GroupView& group,
                                             const SealedShards& shards) const;
  SealedShards ShardsAtServers(const SnapshotKey& id, std::uint64_t token) const;
  std::uint32_t MarginNow(const SnapshotKey& id, bool* full) const;
  std::vector<SnapshotKey> OfThisHistory() const;
  void DecideProtect();
  bool AimAt(const SnapshotKey& id, std::uint64_t token);
  bool AllHeard() const;

  // what nobody can have any more (coordinator_lost.cc)
  void FindLost(const std::vector<SnapshotKey>& ids,
                const std::map<SnapshotKey, std::uint64_t>& starts);
  bool IsLost(const SnapshotKey& id, std::uint64_t token) const;
  bool MayBeDecodable(const SnapshotKey& id, std::uint64_t token, Rank rank) const;
  bool IsOnATier(const SnapshotKey& id, Rank rank) const;

  // what other nodes have, and decode (coordinator_rebuild.cc)
  // Nodes that have the shard, and the sidecar, of a rank: of the start that counts for the
  // id.
  struct Whereabouts {
    std::map<SnapshotKey, std::uint64_t> starts;
    std::map<std::pair<SnapshotKey, Rank>, std::set<std::string>> shards;
    std::map<std::pair<SnapshotKey, Rank>, std::set<std::string>> sidecars;
  };

  Whereabouts FindAll() const;
  std::map<SnapshotKey, std::vector<HeldSet>> HeldSets(const Whereabouts& all) const;
  void FindShards(const SnapshotKey& id, const Whereabouts& all, HeldSet* held) const;
  static std::uint32_t MarginOf(const SnapshotKey& id, const Whereabouts& all, const HeldSet& held);
  static const HeldSet* StaticsOf(const HeldSet& held, const std::vector<HeldSet>& sets);
  static bool IsShardDecodable(const HeldSet& held, const HeldSet* statics, std::uint32_t position);
  void AddRebuilds(Inventory* inventory) const;
  void MakeOrders();
  bool KnowsTheLastStart(const SnapshotKey& id) const;
  bool IsGreatestObtainable() const;

  // members (coordinator_members.cc)
  void LearnNodes(const NodeHints& nodes);
  void NoteStates(const std::string& node, const Report* report);
  void Reindex();
  bool DecidesEachReport() const;
  bool CanDecide(const std::vector<ReportIndex::Touched>& touched) const;
  bool ServedBy(Rank rank, const std::string& node) const;
  bool IsOutOfSight(Rank rank) const;
  std::vector<std::string> Silent() const;
  std::set<std::string> SilentServers() const;
  void TakeDecisions(const Report& report);
  std::map<SnapshotKey, std::uint64_t> StartsOfIds() const;
  void AddHeld(const std::string& node, const ShardEntry& entry, Inventory* inventory) const;
  void AddUnrecorded(Inventory* inventory) const;
  void NameSilent(Inventory* inventory) const;

  std::uint32_t WorldOf(const SnapshotKey& id) const;
  const RankReport* RankOf(Rank rank) const;
  proto::RestoreDecision* MutableDecision();
  const proto::RestoreDecision& decision() const;
  std::optional<SnapshotKey> Base() const;

  std::uint32_t world_size() const { return job_->record.world_size(); }

  void Log(std::string line);

  CoreContext* const context_;
  Job* const job_;
  const Epoch epoch_;
  Phase phase_ = Phase::kCollect;
  MonotonicTime attempt_started_;
  std::map<std::string, Report> reports_;  // newest of each member whose session is up
  // Of the last report of each member, also of a session that is gone: what it sent before it is
  // late.
  std::map<std::string, MessageStamp> heard_;
  std::map<Rank, std::string> servers_;                // node of each rank; empty: this node alone
  std::map<std::string, std::vector<Rank>> ranks_of_;  // of each node, rising
  // What each rank's server says of it, in reports_; null: nothing.  By rank.
  std::vector<const RankReport*> states_;
  bool due_ = true;
  NodeHints asked_;
  std::map<std::string, TierListing> listings_;
  RestorePlan plan_;
  std::optional<std::string> error_;
  Errc error_code_ = Errc::kNotFound;
  std::optional<MonotonicTime> waiting_since_;  // in this attempt, for ranks that are behind
  std::map<SnapshotKey, std::uint32_t> tries_;
  std::map<SnapshotKey, std::string> last_failures_;  // of the last attempt with each that failed
  std::map<std::pair<SnapshotKey, Rank>, std::map<Source, std::string>> bad_sources_;
  std::map<std::pair<SnapshotKey, Rank>, std::map<Source, std::uint32_t>> source_failures_;
  std::vector<std::string> log_;
  std::map<Rank, MonotonicTime> asked_at_;  // of ranks that wait for a choice, and say how long

  std::string not_coded_;  // why there are no groups, though they are wished for
  std::vector<GroupView> groups_;
  std::map<std::string, std::size_t> group_of_;  // by node
  std::uint32_t group_version_ = 0;
  bool groups_stale_ = true;  // what they are made of has changed since they were made
  ReportIndex index_{{ranks_of_, groups_, group_of_, group_version_, epoch_.number}};

  struct Target {
    SnapshotKey id;
    std::uint64_t token = 0;
    std::vector<std::vector<CodeSet>> sets;  // by group
  };

  void SetTarget(std::optional<Target> target);

  std::optional<Target> target_;
  std::uint64_t tailored_ = 0;
  std::optional<SnapshotKey> protected_;
  std::map<SnapshotKey, std::uint32_t> margins_;
  std::set<SnapshotKey> lost_;
  std::map<Rank, ShardOrder> orders_;  // of the plan's sources that are other nodes

  std::vector<FlushScheduler> schedulers_;  // one for each tier

  struct Publishing {
    bool under_way = false;
    std::uint32_t again = 0;  // of the flush target
    Retry retry;
  };

  std::map<std::pair<std::string, SnapshotKey>, Publishing> publishing_;
  bool drains_ = false;  // some rank waits for its newest snapshot
  std::set<std::pair<std::string, SnapshotKey>> deleting_;
  std::map<std::string, Retry> delete_retries_;  // of tiers whose last deletion failed
  std::map<std::string, std::string> tier_errors_;
  // A tier knows a higher incarnation, in its words: publish and delete nothing any more.
  std::optional<std::string> superseded_;
  std::optional<std::string> fenced_;  // a node has refused this incarnation, in its words
};

}  // namespace holdfast::daemon
