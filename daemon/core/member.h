// A node's part in one job: the sessions of its ranks, their slots, shards, flushes and restores.
//
// Takes what clients and the job's coordinator say, keeps the invariants of memory (I2, I4, I7,
// I9), and reports its whole state.  Decides nothing about other nodes.
//
// Threads:   io thread only.
// Ownership: borrows the context and the job; both outlive it.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "daemon/core/core_context.h"
#include "daemon/core/job.h"
#include "daemon/core/making.h"
#include "daemon/core/messages.h"
#include "daemon/core/node_hooks.h"
#include "daemon/core/rank_session.h"
#include "daemon/core/report_progress.h"

namespace holdfast::daemon {

class Member {
 public:
  Member(CoreContext* context, Job* job);

  // ---- sessions ----
  // The caller has checked job, uid and epoch.
  void OnRegister(SessionId session,
                  const ClientIdentity& identity,
                  RequestId request,
                  const proto::RegisterRequest& body,
                  const LayoutFacts& layout);
  // The rank whose connection this is, or nothing.
  std::optional<Rank> RankOfSession(SessionId session) const;
  void OnDisconnected(SessionId session);
  // Returns whether the token was one of this job's.
  bool OnProcessDead(std::uint64_t token);
  // A newer incarnation: every older session is fenced, what it may still write to is quarantined.
  void StartEpoch();
  // The same for ranks of the present incarnation, once a newer start is known to exist.
  void Fence(const Error& error);
  // After a restart of the daemon: nothing volatile is left, the coordinator speaks anew.
  void StartEpochAfterRestart();
  // The client of that token did not come back in time: its limbo slots are quarantined.
  void OnLimboOver(std::uint64_t token);

  // ---- snapshots ----
  void OnBegin(Rank rank, RequestId request, const proto::BeginRequest& body);
  void OnMissed(Rank rank, RequestId request, const proto::MissedRequest& body);
  void OnTorn(Rank rank, RequestId request, const proto::TornRequest& body);
  void OnCopiesDone(Rank rank, RequestId request, const proto::CopiesDoneRequest& body);
  void OnSeal(Rank rank, RequestId request, const proto::SealRequest& body);
  void OnDigested(SlotRef slot, Result<std::vector<std::uint32_t>> digests);
  void OnLeave(Rank rank, RequestId request);
  void OnRefuseStatic(Rank rank, RequestId request, const proto::RefuseStaticRequest& body);
  void OnSlotReady(SlotRef slot, const Status& status);
  void OnGrantRefused(SlotRef slot);  // it was not sent: the slot's file is not what was made

  // ---- restore ----
  void OnRestore(Rank rank, RequestId request, const proto::RestoreRequest& body);
  void OnLoaded(Rank rank, RequestId request, const proto::LoadedRequest& body);
  void OnShardOpened(std::uint32_t attempt,
                     Rank rank,
                     std::uint64_t ticket,
                     Result<proto::Sidecar> sidecar);

  // ---- parity, and shards from elsewhere: false where the ticket is none of this job's ----
  bool OnRowMade(std::uint64_t ticket, Result<std::vector<std::uint32_t>> digests);
  bool OnSidecarsFetched(std::uint64_t ticket, Result<std::vector<proto::Sidecar>> sidecars);
  bool OnShardMade(std::uint64_t ticket, const Status& status);
  // Groups protect the job, and nothing newer than the id is protected.
  bool NeedsForProtection(const SnapshotKey& id) const;

  const std::string& parity_error() const { return parity_error_; }

  // ---- tiers ----
  // The incarnation that began it.
  Epoch OnFlushed(const std::string& root,
                  const SnapshotKey& id,
                  Rank rank,
                  const Status& status,
                  proto::ImageKind bad_image);
  void OnDrain(Rank rank, RequestId request, const proto::DrainRequest& body);

  // ---- coordinator ----
  Report MakeReport(bool introduces);  // with the nodes that the coordinator may not know yet
  // What the next report will say more of, so that mere progress can wait; null: all is told at
  // once.
  std::optional<UnderWay> StillMaking() const;
  // kFenced where the command's epoch is not the job's; an old one changes nothing.  Returns
  // whether anything changed that a report would show.
  Result<bool> OnCommand(const Command& command);
  // Does what the last command asks for, as far as it can be done now; a coordinator elsewhere does
  // not repeat it for a rank that comes later.
  void Obey();

  // The coordinator was heard since this daemon or the incarnation started.
  bool heard() const { return command_.stamp.boot != 0; }

  // At each tick: the coordinator, elsewhere, is out of sight.  Who waits for it is told.
  void OnCoordinatorSilent(bool silent);
  // Nodes that are out of sight, so that nothing becomes complete, as a sentence; else empty.
  std::string WhoIsSilent() const;

  // ---- memory ----
  // Of STATIC also every other shard that shares the image.
  void Poison(const SnapshotKey& id,
              Rank rank,
              const std::string& reason,
              proto::ImageKind image = proto::DYNAMIC);
  void PoisonStatic(SlotRef slot, const std::string& reason);
  // A row was found bad: it is nothing any more, and is made anew while its id is protected.
  void DropRow(SlotRef slot, const std::string& reason);
  // Frees what retirement allows, then hands out slots.
  void Settle();
  // Frees every sealed shard and free slot; returns the bytes given back.
  std::uint64_t FreeAll();
  // The rank's client is done: its idle slot is not touched any more.  True when every living rank
  // of this node is done, so that the job's memory is nobody's.
  bool OnFinished(Rank rank);
  // Frees what is held of one snapshot; false (and nothing done) while any of it is in use.
  bool RemoveShards(const SnapshotKey& id);
  void OnTick();

  bool live() const;
  // "rank 0 is process 12, rank 1 is process 13": ranks whose processes live and are not done, but
  // for those of the asker's own process; empty: none.
  std::string LiveTrainers(const ClientIdentity& asker, bool only_connected) const;
  // Bytes of slots of this job, quarantined ones left out.
  std::uint64_t ArenaBytes() const;
  // What FreeAll would give back now.
  std::uint64_t FreeableBytes() const;
  // Bytes promised to its ranks and not allocated yet.
  std::uint64_t ReservedBytes() const;

  const std::map<Rank, RankSession>& ranks() const { return ranks_; }

  const Command& command() const { return command_; }

  const std::map<std::string, std::string>& tier_errors() const { return tier_errors_; }

  std::uint64_t flushed_bytes(const std::string& root) const;

  // A snapshot on its way to a tier, as far as this node writes it.
  struct FlushView {
    SnapshotKey id;
    std::uint64_t bytes = 0;
    std::uint64_t done_bytes = 0;  // of shards that are whole on the tier
  };

  std::optional<FlushView> FlushTo(const std::string& root) const;

  void SetNodeHooks(NodeHooks hooks) { hooks_ = std::move(hooks); }

 private:
  // sessions
  bool RefuseTwin(SessionId session,
                  const ClientIdentity& identity,
                  RequestId request,
                  const proto::RegisterRequest& body);

  // admission (member_admission.cc)
  struct Room {
    std::uint64_t capacity = 0;  // of one slot
    std::uint64_t frozen = 0;    // of the static image
    std::uint64_t parity = 0;    // of its two parities, as far as they are not there
    std::uint64_t free = 0;
    std::uint64_t promised = 0;  // of it, to other ranks
    std::uint64_t mine = 0;      // what this rank holds

    std::uint64_t available() const;
    // So much must be freed before two slots and the static image fit.
    std::uint64_t missing() const;
  };

  Room RoomFor(Rank rank, const RankSession& state);
  Status AdmitOrReclaim(Rank rank, RankSession* state, std::uint32_t wanted);
  Status Admit(Rank rank, RankSession* state, std::uint32_t wanted);
  std::uint64_t PromisedBytes(const RankSession& state) const;
  std::uint64_t ParityBillOf(const RankSession& state) const;
  std::uint64_t ParityBill() const;
  std::uint64_t ParityBytes() const;
  void NoteRowBill(const ProtectTarget& target);
  bool MayGrow() const;
  std::uint64_t OutstandingBytes(Rank rank, const RankSession& state) const;
  std::uint64_t AwaitedBytes() const;
  bool DropGrowth();
  void TakeBackSlots(Rank rank,
                     RankSession* state,
                     const proto::RegisterRequest& body,
                     bool resumed,
                     proto::RegisterReply* reply);
  bool Vouch(Slot* slot, RankSession* state, const proto::HeldSlot& held);
  void LoseOwner(Slot* slot);
  // static images (member_static.cc)
  std::uint64_t StaticCapacityOf(const RankSession& state) const;
  bool IsUsableStatic(const Slot& slot) const;
  bool IsInUseByRank(SlotRef slot) const;
  std::uint64_t StuckStaticBytes(Rank rank, const RankSession& state);
  void TakeBackStatic(Rank rank,
                      RankSession* state,
                      const proto::RegisterRequest& body,
                      proto::RegisterReply* reply);
  bool KeepStatic(Slot* slot, const RankSession& state);
  void EnsureStatic(Rank rank, RankSession* state);
  bool MayBringStatic(const RankSession& state) const;
  bool ReuseStatic(Rank rank, RankSession* state);
  Status CreateStatic(Rank rank, RankSession* state);
  void GrantStatic(Slot* slot, RankSession* state);
  Result<Slot*> StaticOfSeal(Rank rank, const Slot& slot, const proto::SealRequest& seal);
  void SealStatic(Slot* slot, const SnapshotKey& id, const proto::StaticSeal& seal);
  void AddStaticImage(const Slot& slot, proto::Sidecar* sidecar) const;
  void LetGoOfStatic(SlotRef slot);
  void DropIdleStatics(bool also_in_use);
  // slots
  std::uint64_t CapacityOf(const RankSession& state) const;
  std::uint64_t CapacityFor(std::uint64_t image_bytes) const;
  std::vector<Slot*> SlotsOf(Rank rank, proto::ImageKind kind = proto::DYNAMIC);
  Slot* OwnSlot(Rank rank,
                std::uint32_t number,
                std::uint64_t generation,
                proto::ImageKind kind = proto::DYNAMIC);
  void EnsureGrant(Rank rank);
  void EnsureDynamicGrant(Rank rank, RankSession* state);
  bool ReuseFreeSlot(Rank rank, RankSession* state);
  bool CreateSlot(Rank rank, RankSession* state);
  void FlushGivesWay(Rank rank, RankSession* state);
  void Grant(Slot* slot, RankSession* state);
  void Revoke(SlotRef ref);
  void DropFile(SlotRef ref);
  void DropSpoilt(Rank rank);
  void DropFreeSlotsOfAbsentRanks();
  void GiveUp(Slot* slot, bool copies_done);
  void FreeShard(const SnapshotKey& id, Rank rank);
  void Retire();
  bool MayRetire(const SnapshotKey& id, const std::optional<SnapshotKey>& newest) const;
  std::optional<SnapshotKey> NewestCompleteOfEpoch() const;
  std::optional<SnapshotKey> NewestSafe() const;

  // parity (member_parity.cc, member_rows.cc)
  void Protect();
  void AdoptRows(const ProtectTarget& target, const CodeSet& set);
  void ShareRows(const ProtectTarget& target, const CodeSet& set);
  bool HaveSameStatics(const CodeSet& set, const IdOfStart& a, const IdOfStart& b) const;
  bool HasSidecars(const ProtectTarget& target);
  void TryRow(const ProtectTarget& target,
              const CodeSet& set,
              std::uint32_t position,
              std::uint32_t row);
  void StartRow(const ProtectTarget& target,
                const RowName& name,
                std::uint32_t stripe,
                RowTry* attempt);
  bool TakeRowSlot(RowTry* attempt);
  void RecordRow(const RowTryKey& key, std::vector<std::uint32_t> digests);
  void GiveUpOtherRows(const ProtectTarget* target);
  void GiveUpMaking(std::uint64_t ticket, SlotRef slot);
  bool EndMaking(std::uint64_t ticket);
  bool MayFreeRow(const SnapshotKey& id, const RowName& name) const;
  void FreeRow(const SnapshotKey& id, const RowName& name);
  void FreeParity(const SnapshotKey& id);
  void RetireRows();
  void ReportShards(Report* report) const;
  void ReportParity(Report* report) const;

  // shards from elsewhere (member_rebuild.cc)
  bool IsSidecarOf(const proto::Sidecar& sidecar, const SnapshotKey& id) const;
  bool Bring(Rank rank, const Source& source);
  bool TakeSidecar(Rank rank, const ShardOrder& order, Bringing* bringing);
  bool OnSidecarOfShard(std::uint64_t ticket, Result<std::vector<proto::Sidecar>> sidecars);
  bool TakeNextImage(Rank rank, Bringing* bringing);
  Slot* FindSameStatic(Rank rank, const proto::ImageDigest& image);
  bool TakeShardSlot(Rank rank, const proto::ImageDigest& image, Bringing* bringing);
  void SealBroughtStatic(Slot* slot, Bringing* bringing);
  void StartBytes(Rank rank, const ShardOrder& order, Bringing* bringing);
  void DropOther(const SnapshotKey& id, Rank rank);
  void GiveUpBringing();
  void GiveUpPlace(SlotRef ref, const std::string& why);
  // seal
  proto::Sidecar MakeSidecar(Rank rank,
                             const Slot& slot,
                             const proto::SealRequest& seal,
                             const std::vector<std::uint32_t>& digests) const;
  void TearUnbegun(RankSession* state, Rank rank, Slot* slot, const proto::TornRequest& body);
  void RefuseSeal(Rank rank,
                  RequestId request,
                  Slot* slot,
                  const proto::SealRequest& seal,
                  const std::string& why);
  void RecordSeal(Rank rank,
                  RequestId request,
                  Slot* slot,
                  const proto::SealRequest& seal,
                  const std::vector<std::uint32_t>& digests);
  // restore
  void PrepareSources();
  void PrepareRank(Rank rank, RankSession* state, const Source& source);
  void TellChoice(Rank rank, RankSession* state);
  void TellStaticSource(const RankSession& state);
  void AnswerRestores();
  void TellRestoreError(RankSession* state);
  void AnswerLoaded(RankSession* state, bool committed);
  void TakeEarlyLoads();
  std::string WhatIsMissing(Rank rank, const RankSession& state) const;
  void GiveUpRestore(Rank rank, RankSession* state, const Error& error);
  void ReleaseRestore(RankSession* state);
  void FailRestore(Rank rank, const Source& source, bool is_bad, std::string reason);
  // flush and drains
  void StartFlushes();
  void StartFlush(const FlushTarget& target, Rank rank, const Shard& shard);
  void ForgetFlushed(const FlushTarget& target, Rank rank);
  bool HasLookedAgain(const FlushTarget& target) const;
  void PlaceStatic(const std::string& root, const Shard& shard, FlushShard* action);
  bool MustFlush(const SnapshotKey& id) const;
  void AnswerDrains();
  std::optional<proto::DrainReply> DrainAnswer(const RankSession& state) const;
  bool DrainIsDue(const RankSession& state) const;
  // what another node's coordinator decided (member_mirror.cc)
  void Mirror();
  void MirrorOutcome(const SnapshotKey& id, proto::Outcome outcome, const std::string& reason);
  void MirrorDurables();
  bool IsFlushing(const std::string& root, const SnapshotKey& id) const;
  // outcomes
  void ApplyAbandoned();
  void Announce();
  void AnnounceOne(const SnapshotKey& id,
                   proto::OutcomeEvent::Kind kind,
                   const std::string& reason);

  void ReplyTo(const RankSession& state, RequestId request, proto::ServerMessage message);
  // A later request of the same kind takes the place of this one (0: there was none).
  void AnswerSuperseded(const RankSession& state, RequestId request);
  // Ends whatever this rank's session waits for.
  void AnswerWaiting(RankSession* state, const Error& error);
  void EndSessions(const Error& error, std::uint64_t newer_epoch);
  void GoOn();
  void Miss(RankSession* state, Rank rank, Step step, const std::string& reason);

  CoreContext* const context_;
  Job* const job_;
  std::map<Rank, RankSession> ranks_;
  Command command_;
  std::vector<RestoreFailure> failures_;
  bool coordinator_is_silent_ = false;
  std::optional<MonotonicTime> silent_since_;  // of the coordinator, while a rank waits for it
  std::map<std::pair<Step, Rank>, std::string> missed_reasons_;

  struct Flush {
    bool under_way = false;
    std::vector<SlotRef> pinned;
    bool must_finish = false;
    bool cancelled = false;
    std::uint32_t again = 0;  // as in the target that it was begun for
    Epoch epoch;              // of the incarnation that began it
    Retry retry;
  };

  using FlushKey = std::tuple<std::string, SnapshotKey, Rank>;
  std::map<FlushKey, Flush> flushes_;
  std::map<std::string, Retry> root_retries_;  // of tiers whose last flush failed
  std::map<std::string, std::string> tier_errors_;
  std::set<std::string> missing_roots_;  // of tiers whose last flush did not find its folder
  std::map<std::string, std::uint64_t> flushed_bytes_;
  std::set<std::pair<SnapshotKey, int>> announced_;

  std::map<RowTryKey, RowTry> row_tries_;
  std::uint64_t row_bill_ = 0;  // two parities of its rows, once the group's longest shard is known

  struct {
    std::uint64_t ticket = 0;  // 0: nothing is under way
    SnapshotKey id;
    std::uint64_t token = 0;
    Retry retry;
  } sidecar_fetch_;

  std::map<Rank, Bringing> bringing_;
  std::map<std::uint64_t, SlotRef> given_up_;  // still written to, until their tickets are answered
  std::string parity_error_;
  NodeHooks hooks_;
};

}  // namespace holdfast::daemon
