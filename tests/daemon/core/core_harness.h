// One node around NodeCore: a runtime that carries out Readys, and everything that outlives it.
//
// The catalog is a map, the arena and the tiers are maps, trainers are structs.  So a test can kill
// the daemon between any two steps of the contract in action.h, look at what is left, and start the
// next daemon from exactly that.  After every call the invariants are checked (core_checks.h).
//
// Threads:   one.
// Ownership: owns the core and all that surrounds it; the core dies at a crash, the rest stays.
// Errors:    a broken invariant or contract is noted in violations(); nothing throws.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "common/clock.h"
#include "common/units.h"
#include "daemon/core/action.h"
#include "daemon/core/node_core.h"
#include "storage_tiers/catalog_contents.h"
#include "tests/daemon/core/fake_arena.h"
#include "tests/daemon/core/fake_client.h"
#include "tests/daemon/core/fake_tier.h"
#include "tests/daemon/core/fake_world.h"

namespace holdfast::daemon {

// Where the daemon dies while it carries out its next Ready.
enum class CrashPoint : std::uint8_t {
  kNone,
  kBeforeSync,  // nothing of the batch is on disk, no action was started
  kAfterSync,   // the batch is on disk, so many of its actions were started
};

struct CrashPlan {
  CrashPoint point = CrashPoint::kNone;
  std::size_t actions = 0;
};

class CoreHarness {
 public:
  // Alone, or as one node of a world that outlives it.
  explicit CoreHarness(CoreOptions options);
  CoreHarness(CoreOptions options, std::string name, std::shared_ptr<FakeWorld> world);
  CoreHarness(const CoreHarness&) = delete;
  CoreHarness& operator=(const CoreHarness&) = delete;
  ~CoreHarness();

  const std::string& name() const { return name_; }

  // A node that lost its catalog is another one when it comes back.
  std::string node_uuid() const;

  const FakeWorld& world() const { return *world_; }

  // ---- trainers; "name" as in FakeClient ----
  FakeClient& Client(const std::string& name);
  FakeJob& JobOf(const std::string& name);
  // A new process of that rank; whoever had the name before must be dead or fenced.
  void Spawn(const std::string& name);
  void Connect(const std::string& name);
  void Open(const std::string& name, bool take_over = false);  // by rank 0
  // Its connection breaks before the answer to its registration comes.
  void LoseRegistration(const std::string& name);
  // Also: resume, and a new layout; "names_slots": the client says what it holds.
  void Register(const std::string& name, bool names_slots = true);
  // A connection again, its session resumed, and every request repeated whose answer is missing.
  void Resume(const std::string& name);
  void Begin(const std::string& name, Step step);
  void Torn(const std::string& name, bool copies_done, const std::string& reason);
  // "late": also of a snapshot that the daemon gave up while it digested it.
  void CopiesDone(const std::string& name, bool late = false);
  // "late": also of a snapshot that the daemon has given up meanwhile.
  void Seal(const std::string& name, bool daemon_digests, bool late = false);
  void Restore(const std::string& name, const RestoreWish& wish);
  // Reports what the client found: its own digest check decides, unless it "failed" otherwise.
  void Loaded(const std::string& name, bool failed);
  // No snapshot fits this rank.
  void Refuse(const std::string& name);
  void Drain(const std::string& name, std::chrono::milliseconds timeout);
  void Finish(const std::string& name);
  void Request(const std::string& name, proto::ClientMessage message);
  void Leave(const std::string& name);
  void Disconnect(const std::string& name);
  // The process is dead; a forked worker may keep its mappings (and so its queued copies alive).
  void Die(const std::string& name, bool worker_lives);
  // The daemon is told that the process is dead, while another that shares its memory and its token
  // goes on.
  void CalledDead(const std::string& name);
  void WorkerGone(const std::string& name);
  // Every worker of every process that is dead.
  void AllWorkersGone();
  // A copy that was issued before lands now, whoever has the memory meanwhile.
  void Land(const std::string& name, SlotRef ref);

  // ---- the daemon ----
  void Crash();

  void CrashAtNextReady(CrashPoint point, std::size_t actions = 0) {
    crash_plan_ = {point, actions};
  }

  // Readys taken so far, by all daemons.
  std::uint64_t readies() const { return readies_; }

  // At the "number"-th Ready (from 1) the daemon dies; a new one starts at once, and every client
  // that was connected comes back and repeats what was not answered.
  void DieOnceAtReady(std::uint64_t number, CrashPoint point, std::size_t actions = 0) {
    die_once_ = {number, {point, actions}};
  }

  // After such a death the clients stay away until ClientsComeBack.
  void ClientsComeLate() { clients_come_late_ = true; }

  void ClientsComeBack();

  // Actions of the last Ready.
  std::size_t last_actions() const { return last_actions_; }

  void Restart();

  bool up() const { return core_ != nullptr; }

  NodeCore* core() { return core_.get(); }

  void Tick(std::chrono::milliseconds elapsed);
  // Where the clock of the world was moved by another.
  void TickCore();

  // ---- the world ----
  // Actions of that kind ("prepare", "digest", "flush", "publish", "list", "open", "delete",
  // "claim", "make", "fetch", "bring") wait for Finish instead of being answered at once.
  void Hold(const std::string& kind) { held_kinds_.insert(kind); }

  void Unhold(const std::string& kind) { held_kinds_.erase(kind); }

  // Answers the oldest held action of the kind; false if there is none.  "outcome" as in
  // ErrorOf; "ok" lets it succeed if the world allows.
  bool FinishHeld(const std::string& kind, const std::string& outcome);
  std::size_t HeldCount(const std::string& kind) const;

  FakeTier& Tier(const std::string& root) { return tiers_[root]; }

  void DamageSlot(SlotRef ref);

  void CutSlot(SlotRef ref) { arena_.Cut(ref); }

  // The node loses arena and catalog; what is on the tiers stays.
  void LoseMemory();
  // A reboot: the arena is empty, the catalog stays.
  void LoseArena();

  // ---- to look at ----
  const storage_tiers::CatalogContents& Records();

  const std::map<std::string, std::string>& catalog() const { return catalog_; }

  const std::map<std::string, FakeClient>& clients() const { return clients_; }

  std::map<std::string, FakeJob>& jobs() { return jobs_; }

  std::map<std::string, FakeTier>& tiers() { return tiers_; }

  const FakeArena& arena() const { return arena_; }

  const CoreOptions& options() const { return options_; }

  std::uint64_t boot() const { return boot_; }

  // What happened since the last call, a line for each message and action.
  std::string TakeLog();

  std::vector<std::string>& violations() { return world_->violations; }

  void Violation(const std::string& what);

  using History = FakeWorld::History;

  History& history() { return history_; }

  // Runs what is due, then checks the invariants (unless the test does so itself, less often).
  void Settle();

  void CheckEachCall(bool check) { check_each_call_ = check; }

 private:
  struct Held {
    std::string kind;
    std::function<void(const Status&)> finish;
  };

  RecoveredState Recover();
  void CarryOut();
  bool TakeOne();
  void DieAndComeBack();
  void ComeBack(const std::string& name);
  void RepeatRequests(const std::string& name);
  void ApplyBatch(const storage_tiers::CatalogBatch& batch);
  void Queue(std::string kind, std::function<void(const Status&)> finish);
  void Log(const std::string& line);

  void Start(const Send& action);
  void Start(const CloseSession& action);
  void Start(const PrepareSlot& action);
  void Start(const RemoveSlot& action);
  void Start(const QuarantineSlot& action);
  void Start(const DigestSlot& action);
  void Start(const VerifySlot& action);
  void Start(const ClaimIncarnation& action);
  void Start(const WriteIncarnation& action);
  void Start(const ListTier& action);
  void Start(const OpenShardFile& action);
  void Start(const CloseShardFile& action);
  void Start(const FlushShard& action);
  void Start(const CancelFlush& action);
  void Start(const PublishManifest& action);
  void Start(const DeleteDurable& action);
  void Start(const SendReport& action);
  void Start(const SendCommand& action);
  void Start(const AnswerPeer& action);
  // parity (core_harness_parity.cc)
  void Start(const MakeRow& action);
  void Start(const CancelMaking& action);
  void Start(const FetchSidecars& action);
  void Start(const PullShard& action);
  void Start(const RebuildShard& action);
  CoreHarness* Reach(const std::string& node);
  std::optional<std::string> ReadImage(const std::string& node,
                                       const proto::Sidecar& sidecar,
                                       proto::ImageKind kind);
  std::optional<std::string> ReadRow(const CodeSet& set,
                                     const GroupsName& groups,
                                     std::uint32_t stripe,
                                     std::uint32_t row,
                                     std::uint32_t position,
                                     const proto::SnapshotId& id);
  std::optional<std::string> Encode(const MakeRow& make);
  Result<std::string> RowOf(const MakeRow& make);
  Result<std::string> Decode(const RebuildShard& action);
  void FinishShard(std::uint64_t ticket, SlotRef slot, const Result<std::string>& bytes);
  Result<ClaimedIncarnation> Claim(const ClaimIncarnation& action);
  void ReleaseQuarantines();

  // client side of messages (core_harness_replies.cc)
  void Receive(FakeClient* client, const Send& send);
  std::string ReceiveSealed(FakeClient* client, const FakeClient::Waiting& request);
  std::string ReceiveReply(FakeClient* client, const Send& send);
  std::string ReceiveError(FakeClient* client, const FakeClient::Waiting& request, const Error& e);
  std::string ReceiveRestore(FakeClient* client, const Send& send);
  std::string ReceiveRegister(FakeClient* client,
                              const proto::RegisterReply& reply,
                              bool named_slots);
  std::string ReceiveEvent(FakeClient* client, const Send& send);
  void AskAgain(FakeClient* client);
  void SendTo(FakeClient* client,
              proto::ClientMessage message,
              SlotRef slot = {},
              bool names_slots = true);
  void SendSeal(FakeClient* client, SlotRef ref);
  bool FillStatic(FakeClient* client);
  std::string ReceiveGrant(FakeClient* client, const proto::GrantEvent& grant);
  std::string ContentOf(const Send& send, proto::ImageKind kind);
  void CheckBase(FakeClient* client);

  std::shared_ptr<FakeWorld> world_;
  const std::string name_;
  std::uint32_t lives_ = 0;  // how often it lost its catalog
  CoreOptions options_;
  std::map<std::string, FakeTier>& tiers_;
  std::map<std::string, FakeJob>& jobs_;
  std::map<std::string, std::string> catalog_;
  FakeArena arena_;
  std::map<std::string, FakeClient> clients_;
  std::vector<std::uint64_t> left_;  // sessions of processes that live on without a rank
  // Contents by ticket: of the dynamic image, of the static one.
  std::map<std::uint64_t, std::pair<std::string, std::string>> opened_files_;
  std::set<SlotRef> quarantined_;

  std::unique_ptr<NodeCore> core_;
  std::deque<std::function<void()>> due_;
  bool clients_come_late_ = false;
  std::deque<std::function<void()>> late_;
  std::vector<Held> held_;
  std::set<std::string> held_kinds_;
  std::set<std::tuple<JobUid, std::string, SnapshotKey, Rank>> cancelled_;
  std::set<std::uint64_t> cancelled_makings_;
  CrashPlan crash_plan_;
  std::uint64_t readies_ = 0;
  std::size_t last_actions_ = 0;
  std::pair<std::uint64_t, CrashPlan> die_once_;
  std::uint64_t boot_ = 0;
  SessionId next_session_ = 1;
  storage_tiers::CatalogContents records_;
  bool records_fresh_ = false;
  History& history_;
  bool settling_ = false;
  bool check_each_call_ = true;
};

// "(1,2)": incarnation, step.
std::string ShortText(const SnapshotKey& id);

// Its memory holds what its record says.
bool IsIntact(const CoreHarness& harness, const proto::ShardRecord& shard);
bool IsIntact(const CoreHarness& harness, const proto::RowRecord& row);

// Checks what must hold in every state (core_checks.cc); called after every step.
void CheckInvariants(CoreHarness* harness);

// Nodes lost memory: what can be restored from nowhere now is not asked for any more (I3).
void ForgetLost(CoreHarness* harness);

// Checks one transition; "erased" are the records that it removed, already applied.
void CheckErased(CoreHarness* harness, const storage_tiers::CatalogContents& erased);

}  // namespace holdfast::daemon
