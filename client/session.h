// One rank of one incarnation: its registration, its slots, and the life of its snapshots.
//
// This is the client's half of the protocol in proto/client.proto.  Slots are granted ahead, so
// that a snapshot never waits for the daemon: it takes the granted slot, tells the daemon, and
// copies. Whatever the daemon does meanwhile (dies, hangs, comes back, refuses), a caller waits
// only in the functions that take a deadline, and for the copy itself at the fence.
//
// Threads:   SetLayout, Snapshot and Fence belong to the training loop and exclude each other; all
//            else by any thread.  Engine threads and the connection's thread come in through the
//            handler functions.  One mutex guards all state; nothing slow happens under it.
// Ownership: owns engine and connection.  Sources are borrowed until Fence.
// Errors:    kFenced is final and comes from every function.  kUnavailable and kTimeout may be
//            repeated.
// Lifecycle: construct -> Connect -> Join -> SetLayout -> Snapshot/Fence ... -> Close -> destroy.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "client/connection.h"
#include "client/copy_engine.h"
#include "client/copy_plan.h"
#include "client/fork_guard.h"
#include "client/job_nodes.h"
#include "client/slot_table.h"
#include "client/step_ledger.h"
#include "common/mutex.h"
#include "common/result.h"
#include "layout/image.h"
#include "proto/client.pb.h"

namespace holdfast::client {

struct SessionOptions {
  ConnectionOptions connection;
  std::uint32_t slots_wanted = 0;  // 0: the daemon's default
  ByteCount small_tensor_bytes = 16 * kKiB;
  std::chrono::milliseconds begin_wait{0};
  std::chrono::milliseconds request_timeout{10'000};
  double sample_fraction = kDefaultSampleFraction;
  // How long Close waits for snapshots that are copied but not sealed yet.
  std::chrono::milliseconds close_wait{2'000};
};

struct Incarnation {
  std::string job_uid;  // 16 bytes
  std::uint64_t number = 0;
  std::uint64_t token = 0;
};

struct SnapshotInput {
  std::int64_t step = 0;
  std::span<const void* const> pointers;  // one for each spec
  std::span<const TensorStrides> strides;
  std::vector<DeviceStream> streams;  // one for each device of the layout
  std::vector<proto::StateItem> state;
};

struct SnapshotStart {
  bool started = false;
  std::string reason;          // why it was skipped
  ByteCount bytes = 0;         // of the dynamic image
  ByteCount static_bytes = 0;  // of the static image, where this snapshot copies it
};

// How the snapshot under way ended; where its bytes still land (GPUs), how the last one did that no
// fence has told of.  kCopied also where there is nothing to tell.
struct FenceResult {
  CopyOutcome::Kind kind = CopyOutcome::Kind::kCopied;
  std::string reason;
};

struct SessionStats {
  std::uint64_t begun = 0, sealed = 0, skipped = 0, torn = 0, failed = 0;
  std::uint64_t copied_bytes = 0, static_copied_bytes = 0;  // of dynamic images, of static ones
  std::uint64_t image_bytes = 0, static_bytes = 0;          // of the layout in force
  std::chrono::nanoseconds copy{0}, fence_wait{0}, snapshot{0};  // sums
  std::chrono::nanoseconds last_copy{0}, last_fence_wait{0}, last_snapshot{0};
  std::chrono::nanoseconds device_wait{0}, last_device_wait{0};
  EngineState engine;
  std::uint64_t reconnects = 0;
  std::int64_t last_begun_step = -1, last_sealed_step = -1;
  std::int64_t last_complete_step = -1, last_durable_step = -1;
  bool connected = false;
  bool fenced = false;
};

class Session final : private ConnectionHandler {
 public:
  using TierPolicies = google::protobuf::RepeatedPtrField<proto::TierPolicy>;

  Session(SessionOptions options, std::unique_ptr<CopyEngine> engine);
  ~Session() override;

  // Whether this process is a fork of the one that made the session: then nothing else may be
  // called, not even the destructor (its threads exist in the parent only).
  [[nodiscard]] bool Forked() const { return guard_.Forked(); }

  [[nodiscard]] Status Connect(MonotonicTime deadline);

  // What the other ranks of the job must know of this one's node.
  [[nodiscard]] Result<proto::NodeCard> MakeCard(const std::string& job_name);

  // Of the whole job, the same on all ranks.  Before OpenIncarnation and Join; "tiers" as rank 0
  // opens with.
  [[nodiscard]] Status SetNodes(JobNodes nodes, TierPolicies tiers);

  [[nodiscard]] Result<Incarnation> OpenIncarnation(const proto::OpenIncarnationRequest& request);

  // Says who this client is; told to the daemon by the next registration.  Once.
  [[nodiscard]] Status Join(const std::string& job_name,
                            const Incarnation& incarnation,
                            std::uint32_t rank,
                            std::uint32_t world_size);

  // Registers a layout.  kInvalidArgument while a copy is under way: the one in force stays.  After
  // any other error no layout is in force: snapshots are refused until one is,
  // since pointers of new tensors must never be read by the lengths of old ones.
  // kUnavailable at once while no daemon is connected; kTimeout after "wait" (request_timeout).  A
  // registration that was sent goes on behind that error: the same layout, set again, joins it.
  // "devices" says where each tensor lies; empty: in host memory.
  [[nodiscard]] Status SetLayout(std::vector<layout::TensorSpec> specs,
                                 std::optional<std::chrono::milliseconds> wait = std::nullopt,
                                 std::span<const std::int32_t> devices = {});

  [[nodiscard]] Status WaitReady(MonotonicTime deadline);

  // Begins a snapshot or says why it is skipped.  Only bad input and kFenced are errors.
  [[nodiscard]] Result<SnapshotStart> Snapshot(SnapshotInput input);

  // A snapshot that the caller cannot even try (no layout is in force): skipped, counted, reported.
  [[nodiscard]] Status Miss(std::int64_t step, const std::string& reason);

  // Waits until the sources of the snapshot under way may be written; "streams" are held back
  // beside those that the snapshot named.
  [[nodiscard]] FenceResult Fence(std::span<const DeviceStream> streams = {});

  // kAbandoned where "step" was given up, kNotFound where it was never begun.
  [[nodiscard]] Status WaitSealed(std::int64_t step, MonotonicTime deadline);

  [[nodiscard]] Result<proto::DrainReply> Drain(MonotonicTime deadline);
  // The job's tiers as they are now, with what is on its way to them: for who waits in Drain.
  [[nodiscard]] Result<std::vector<proto::TierStatus>> Tiers();
  [[nodiscard]] Result<std::uint64_t> Finish();

  // A request of a restore; registers an empty layout first if none was registered, because the
  // daemon must know who asks.
  [[nodiscard]] Result<Reply> RestoreCall(const proto::ClientMessage& message,
                                          MonotonicTime deadline);

  // Registered tensors, by index, that must be all zero in every snapshot of the layout in force:
  // one that is not is torn.  Replaces the list before; SetLayout empties it.  kInvalidArgument for
  // what has no bytes of its own in the dynamic image.
  [[nodiscard]] Status ExpectZero(std::span<const std::uint32_t> indices);

  // Indices of the registered tensors, rising, that were declared CONSTANT and were found written
  // since their static image was copied: another layout is due, no snapshot is taken until one is
  // set.  Empty: none.
  [[nodiscard]] std::vector<std::uint32_t> NotFrozen();

  // The descriptor of the static image that the answer to that attempt of a restore speaks of.
  [[nodiscard]] transport::OwnedFd TakeStaticSource(std::uint32_t attempt);

  // Tells the daemon without waiting for its answer.
  // The next start of the job need not wait for this process to end.
  void Leave();
  void Tell(const proto::ClientMessage& message);

  // Why no daemon serves this client, in the words of a skipped snapshot; empty: one does, or the
  // client is fenced.
  [[nodiscard]] std::string WhyAway();

  // Why a restore is slower than it could be; shown by Stats().
  void NoteRestore(const std::string& note);

  [[nodiscard]] SessionStats Stats();

  // Waits for the copy under way and, for a moment, for its seal; then ends all threads.
  void Close();

 private:
  struct Registered {
    proto::Layout layout;
    std::string hash;
    std::string static_hash;       // empty: no static image
    std::uint32_t generation = 0;  // guarded by mutex_
  };

  // A layout that is being told to the daemon; it outlives the caller's wait for the answer.
  struct Registration {
    std::shared_ptr<Registered> wanted;
    std::uint64_t ticket = 0;
    std::optional<Status> answer;  // guarded by mutex_
  };

  // A snapshot from Begin to its seal.
  struct Shot {
    std::shared_ptr<CopyJob> job;
    SlotRef slot;
    std::shared_ptr<Registered> registered;
    std::vector<proto::StateItem> state;
    std::optional<SlotRef> frozen_slot;     // of the static image that it shares
    std::vector<std::size_t> must_be_zero;  // planned tensors
    bool refuses_frozen =
        false;               // guarded by mutex_: what was granted is not what its tensors hold
    bool accounted = false;  // guarded by mutex_: its outcome is in statistics and ledger
    bool seal_sent = false;  // guarded by mutex_: at least once, on whatever connection
    // All guarded by mutex_.  The daemon took nothing of its begin: it comes again.
    bool begin_refused = false;
    bool begin_failed = false;   // and does not come again: the daemon has its slot granted, or not
    bool end_told = false;       // torn or copies done
    bool end_sent = false;       // on whatever connection
    int refusals = 0;            // of any of its requests
    MonotonicTime not_before{};  // its next request waits that long
  };

  struct MissedStep {
    std::int64_t step = 0;
    std::string reason;
    std::uint64_t skipped_total = 0;  // with it
  };

  // The slot of the static image, from its grant until it is revoked or another layout comes.
  struct Frozen {
    enum class State {
      kPreparing,
      kGranted,  // to be filled
      kOffered,  // sealed by an earlier process: to be compared
      kWorking,  // a snapshot fills or compares it
      kGood,     // holds what the tensors do; a sample is compared at every snapshot
    };
    SlotRef slot;
    std::string hash;  // of the layout's static image
    std::shared_ptr<SlotMapping> mapping;
    State state = State::kPreparing;
    std::vector<std::uint32_t> digests;  // of kGood, until it is sealed
    bool sealed = false;                 // the daemon has said so
    bool spoilt = false;                 // a tensor was written since
  };

  // ConnectionHandler
  std::optional<proto::ClientMessage> MakeResume() override;
  Status OnResumed(Result<Reply> reply) override;
  void OnConnected() override;
  Status OnEvent(Reply event) override;
  void OnLost() override;
  void OnFenced(const Error& error) override;

  // session_layout.cc
  proto::ClientMessage RegisterMessage(const std::shared_ptr<Registered>& registered, bool resume);
  Status Register(const std::shared_ptr<Registered>& wanted, MonotonicTime deadline);
  std::shared_ptr<Registration> RegistrationOf(const std::string& hash);
  Result<std::shared_ptr<Registration>> SubmitRegistration(
      const std::shared_ptr<Registered>& wanted);
  Status AwaitRegistration(const std::shared_ptr<Registration>& registration,
                           MonotonicTime deadline);
  Result<std::shared_ptr<const CopyPlan>> AdoptPlan(std::shared_ptr<const CopyPlan> plan);
  Status EnsureRegistered();
  Status AdoptRegistration(const std::shared_ptr<Registered>& registered,
                           const proto::RegisterReply& reply,
                           SlotTable::Mappings* dropped) HF_REQUIRES(mutex_);

  // session_slots.cc
  Status OnGrant(Reply event);
  Status MapGranted(const proto::GrantEvent& grant, SlotRef ref, transport::OwnedFd fd);
  void PrepareMapping(std::shared_ptr<SlotMapping> mapping, std::function<void()> ready);
  void PrepareSlot(SlotRef ref, std::shared_ptr<SlotMapping> mapping);
  void PrepareUnpinned();
  void OnOutcome(const proto::OutcomeEvent& outcome);

  // session_frozen.cc
  Status OnStaticGrant(Reply event);
  Status MapStatic(Frozen frozen, Reply event);
  void PrepareStatic(SlotRef slot, std::shared_ptr<SlotMapping> mapping);
  void DropFrozen(SlotTable::Mappings* dropped) HF_REQUIRES(mutex_);
  void NameFrozen(const std::string& static_hash, proto::RegisterRequest* body) HF_REQUIRES(mutex_);
  std::string WhyNoFrozen() HF_REQUIRES(mutex_);
  static Result<std::vector<SourceView>> FrozenSources(const CopyPlan& plan,
                                                       const SnapshotInput& input);
  void LendFrozen(Shot* shot) HF_REQUIRES(mutex_);
  void AccountFrozen(Shot* shot) HF_REQUIRES(mutex_);
  void AddStaticSeal(const Shot& shot, proto::SealRequest* seal) HF_REQUIRES(mutex_);
  void OnFrozenSealed(const Shot& shot) HF_REQUIRES(mutex_);
  void TellRefusal(const std::shared_ptr<Shot>& shot);

  // session_snapshot.cc
  Status CheckSnapshot(const SnapshotInput& input) HF_REQUIRES(mutex_);
  Status CheckStep(std::int64_t step) HF_REQUIRES(mutex_);
  Result<std::shared_ptr<Shot>> TakeSlot(const SnapshotInput& input, std::string* why_not);
  void Skip(std::int64_t step, const std::string& reason);
  std::string Away();
  std::string WhyNoSlot() HF_REQUIRES(mutex_);
  std::string SlotFigures() HF_REQUIRES(mutex_);
  void TellBegin(const std::shared_ptr<Shot>& shot);
  // Torn, where a tensor holds what it must not; before anybody asks for the outcome.
  static void CheckZeros(const Shot& shot);
  void Account(const std::shared_ptr<Shot>& shot) HF_REQUIRES(mutex_);
  void OnCopyDone(const std::shared_ptr<Shot>& shot);
  void TellSeal(const std::shared_ptr<Shot>& shot);
  void OnBeginAnswered(const std::shared_ptr<Shot>& shot, const Result<Reply>& reply);
  void OnSealAnswered(const std::shared_ptr<Shot>& shot, const Result<Reply>& reply);
  void GiveUp(std::int64_t step, std::string reason);

  // session_tell.cc
  void TellMissed(std::int64_t step, const std::string& reason);
  void SubmitMissed(const MissedStep& missed);
  void OnMissedAnswered(std::uint64_t told);
  void TellTorn(const std::shared_ptr<Shot>& shot);
  void TellCopiesDone(const std::shared_ptr<Shot>& shot);
  void TellEnd(const std::shared_ptr<Shot>& shot, const proto::ClientMessage& message);
  void LendSlot(const Shot& shot);
  void Submit(const std::shared_ptr<Shot>& shot, Connection::Request request);
  bool Refused(Shot* shot, const Result<Reply>& reply);

  const SessionOptions options_;
  ForkGuard guard_;
  const std::unique_ptr<CopyEngine> engine_;
  Connection connection_;
  std::shared_ptr<const CopyPlan> adopted_;  // by the engine; of SetLayout

  Mutex mutex_;
  CondVar changed_;
  bool closed_ HF_GUARDED_BY(mutex_) = false;
  std::optional<Error> fenced_ HF_GUARDED_BY(mutex_);
  bool connected_ HF_GUARDED_BY(mutex_) = false;
  bool was_connected_ HF_GUARDED_BY(mutex_) = false;
  // Identity, of Join.
  bool joined_ HF_GUARDED_BY(mutex_) = false;
  std::string job_name_ HF_GUARDED_BY(mutex_);
  JobNodes nodes_ HF_GUARDED_BY(mutex_);
  TierPolicies tiers_ HF_GUARDED_BY(mutex_);
  Incarnation incarnation_ HF_GUARDED_BY(mutex_);
  std::uint32_t rank_ HF_GUARDED_BY(mutex_) = 0;
  std::uint32_t world_size_ HF_GUARDED_BY(mutex_) = 0;
  std::uint64_t session_token_ HF_GUARDED_BY(mutex_) = 0;
  // What the daemon has on record, and what the caller's pointers mean: they differ while a
  // registration is under way or has failed.
  std::shared_ptr<Registered> registered_ HF_GUARDED_BY(mutex_);
  std::shared_ptr<Registration> registering_ HF_GUARDED_BY(mutex_);
  std::shared_ptr<const CopyPlan> plan_ HF_GUARDED_BY(mutex_);
  std::string plan_hash_ HF_GUARDED_BY(mutex_);
  bool slot_seen_ HF_GUARDED_BY(mutex_) = false;  // since the layout was registered
  std::uint32_t slots_admitted_ HF_GUARDED_BY(mutex_) = 0;
  MonotonicTime slots_wait_since_ HF_GUARDED_BY(mutex_);  // for the daemon, or for a new mapping

  SlotTable slots_ HF_GUARDED_BY(mutex_);
  std::optional<Frozen> frozen_ HF_GUARDED_BY(mutex_);
  std::string frozen_trouble_ HF_GUARDED_BY(mutex_);             // why there is no slot for it
  std::vector<std::size_t> must_be_zero_ HF_GUARDED_BY(mutex_);  // planned tensors of plan_
  std::vector<std::uint32_t> not_frozen_ HF_GUARDED_BY(mutex_);  // of the layout in force
  std::uint32_t static_attempt_ HF_GUARDED_BY(mutex_) = 0;       // of static_source_
  transport::OwnedFd static_source_ HF_GUARDED_BY(mutex_);
  StepLedger ledger_ HF_GUARDED_BY(mutex_);
  SessionStats stats_ HF_GUARDED_BY(mutex_);
  std::string restore_note_ HF_GUARDED_BY(mutex_);
  std::int64_t last_step_ HF_GUARDED_BY(mutex_) = -1;        // begun or missed
  std::shared_ptr<Shot> current_ HF_GUARDED_BY(mutex_);      // until the fence
  std::optional<FenceResult> untold_ HF_GUARDED_BY(mutex_);  // a bad end behind its fence
  // One report of a missed step at a time waits for its answer; the newest one after it.
  bool missed_told_ HF_GUARDED_BY(mutex_) = false;
  std::optional<MissedStep> missed_next_ HF_GUARDED_BY(mutex_);
  // Of stats_.skipped: what a daemon has confirmed, and what the newest registration says.
  std::uint64_t skips_told_ HF_GUARDED_BY(mutex_) = 0;
  std::uint64_t skips_registered_ HF_GUARDED_BY(mutex_) = 0;
};

}  // namespace holdfast::client
