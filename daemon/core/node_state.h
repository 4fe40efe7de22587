// The inside of NodeCore: clients, jobs, and what waits for the end of an action.
//
// Threads: io thread only.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "daemon/core/coordinator.h"
#include "daemon/core/core_context.h"
#include "daemon/core/job.h"
#include "daemon/core/member.h"
#include "daemon/core/node_core.h"

namespace holdfast::daemon {

// The last message to a node, repeated until it is answered.
template <typename Message>
struct Outgoing {
  std::optional<Message> last;
  bool answered = false;
  bool met = false;  // one was answered since the session came up
  MonotonicTime repeat_at;
};

struct JobUnit {
  Job job;
  std::unique_ptr<Member> member;
  std::unique_ptr<Coordinator> coordinator;  // where this node serves rank 0
  SessionId opener = 0;                      // who started the present incarnation
  std::optional<Error> fenced;  // a node has refused this incarnation: nobody here goes on for it
  std::map<std::string, Outgoing<Command>> commands;  // of the coordinator, by node
  // What the last of them say alike, and what they add of single nodes (Coordinator::tailored).
  std::optional<Command> told;
  std::uint64_t told_tailored = 0;
  Outgoing<Report> report;  // to the coordinator's node
};

struct ClientState {
  ClientIdentity identity;
  JobUid job;  // of the rank that it registered; empty: none
  Rank rank = 0;
  Epoch epoch;
  std::vector<SlotRef> opened;  // pinned by open_shard: a shard's dynamic image, its static one
};

class NodeState {
 public:
  NodeState(CoreOptions options, RecoveredState recovered, MonotonicTime now, WallTime wall_now);

  // Request handlers; "client" is the sender.
  void Dispatch(SessionId session, const proto::ClientMessage& message, const LayoutFacts* layout);
  void Disconnect(SessionId session);

  // Lets member and coordinator of a job hear each other until nothing changes.
  void Exchange(JobUnit* unit);
  void ExchangeAll();
  // Decides by the reports that came since the last Ready was taken.
  void ExchangeHeard();
  JobUnit* FindByUid(const JobUid& uid);
  JobUnit* FindByName(const std::string& name);
  JobUnit* FindBySlot(SlotRef slot);
  JobUnit* AddJob(proto::JobRecord record);
  void FinishClaim(std::uint64_t ticket, Result<ClaimedIncarnation> claimed);
  void FinishVerify(std::uint64_t ticket, SlotRef slot, Result<std::vector<std::uint64_t>> bad);
  void FinishDelete(const JobUid& uid,
                    const std::string& root,
                    const SnapshotKey& id,
                    const Status& status);
  void PoisonSlot(SlotRef slot, const std::string& reason);
  void FreeOrphans();
  // Goes on with the starts that wait for trainers to end.
  void TryOpens();
  void GiveUpLimbo();

  // ---- peers (node_peers.cc) ----
  void PeerUp(const std::string& node, std::uint64_t boot);
  void PeerDown(const std::string& node);
  Status TakeReport(const std::string& node, const JobUid& uid, Report report);
  Status TakeCommand(const std::string& node, const JobUid& uid, const Command& command);
  void TakeAnswer(const std::string& node,
                  const JobUid& uid,
                  const MessageStamp& stamp,
                  const Status& status);

  NodeHints WantedPeers() const;
  void Fence(JobUnit* unit, const Error& error);
  // Before the members' ticks: whose coordinator is out of sight.
  void LookForCoordinators();

  std::uint64_t FreeJob(JobUnit* unit);
  // Whether anybody or anything here still belongs to the job; quarantined slots do not.
  bool IsInUse(const JobUnit& unit) const;

  // Of the jobs that the user "asker" may use, or of all.  An empty name: not of one job only.
  using Asker = std::optional<std::uint32_t>;
  proto::StatusReply StatusView(const std::string& job_name, Asker asker) const;
  proto::ListReply ListView(const std::string& job_name, Asker asker) const;
  // Both, for other nodes (node_stored.cc).
  proto::NodeView ClusterView(const std::string& job_name, Asker asker) const;

  bool MaySee(Asker asker, const Job& job) const {
    return !asker.has_value() || MayUse(*asker, job);
  }

  CoreContext context;
  std::map<SessionId, ClientState> clients;
  std::map<JobUid, std::unique_ptr<JobUnit>> jobs;
  MonotonicTime started;
  bool limbo_over = false;

 private:
  using Message = proto::ClientMessage;

  // recovery
  void RecoverJobs(const RecoveredState& recovered);
  void RecoverSlots(const RecoveredState& recovered);
  std::set<SlotRef> RecoverShards(const RecoveredState& recovered);
  std::set<SlotRef> RecoverRows(const RecoveredState& recovered);
  void FreeUnnamed(const std::set<SlotRef>& named);
  void DropSlotsOfNobody();

  void Refuse(SessionId session, RequestId request, Errc code, std::string text);
  // Null after an error was answered.
  JobUnit* UnitOfRank(SessionId session, RequestId request, const ClientState& client);
  JobUnit* OwnedUnit(SessionId session, RequestId request, const std::string& name);
  bool MayUse(const ClientState& client, const Job& job) const;
  static bool MayUse(std::uint32_t uid, const Job& job);
  void DispatchRank(SessionId session, const Message& message, const ClientState& client);
  bool DispatchAdmin(SessionId session, const Message& message);
  void Open(SessionId session, RequestId request, const proto::OpenIncarnationRequest& body);
  void Register(SessionId session,
                RequestId request,
                const proto::RegisterRequest& body,
                const LayoutFacts* layout);
  Status CheckEpoch(const JobUnit& unit, const proto::RegisterRequest& body) const;
  // an incarnation that another node opened (node_join.cc)
  Status Join(const ClientState& client, const proto::RegisterRequest& body);
  static Status CheckJoin(const proto::RegisterRequest& body);
  static Status CheckTiers(const google::protobuf::RepeatedPtrField<proto::TierPolicy>& tiers);
  Status TakeMembers(JobUnit* unit, const proto::RegisterRequest& body);
  void EnterEpoch(JobUnit* unit, const Epoch& epoch, std::uint32_t world_size);
  void SendToPeers(JobUnit* unit);
  void SendCommands(JobUnit* unit);
  bool IsForLater(const JobUnit& unit, const Report& report) const;
  bool MayBeLive(const JobUnit& unit);
  void Finish(SessionId session, RequestId request, const proto::FinishRequest& body);
  void OpenShard(SessionId session, RequestId request, const proto::OpenShardRequest& body);
  void VerifyShard(SessionId session, RequestId request, const proto::VerifyShardRequest& body);
  void Drop(SessionId session, RequestId request, const proto::DropRequest& body);
  void Remove(SessionId session, RequestId request, const proto::RemoveRequest& body);
  void RemoveFromMemory(SessionId session, RequestId request, JobUnit* unit, const SnapshotKey& id);
  Shard* FindShard(
      SessionId session, RequestId request, const proto::SnapshotId& id, Rank rank, JobUnit** unit);
  void Unpin(SlotRef slot);
  bool ReclaimOrphans(const Member* but, std::uint64_t bytes);
  std::uint64_t ReservedByOthers(const Member* but) const;

  struct WaitingOpen {
    SessionId session = 0;
    RequestId request = 0;
    proto::OpenIncarnationRequest body;
    MonotonicTime deadline;
  };

  std::string Holders(const JobUnit& unit, const ClientIdentity& asker, bool only_connected) const;
  void Claim(const WaitingOpen& open);

  struct PendingClaim {
    SessionId session = 0;
    RequestId request = 0;
    proto::OpenIncarnationRequest body;
    std::uint32_t owner_uid = 0;
    std::uint64_t token = 0;
  };

  struct PendingVerify {
    SessionId session = 0;
    RequestId request = 0;
    JobUid job;
    SnapshotKey id;
    Rank rank = 0;
    std::uint64_t bytes = 0;
    proto::ImageKind image = proto::DYNAMIC;
  };

  Status CheckClaim(const PendingClaim& pending, const JobUid& uid);
  void StartIncarnation(const PendingClaim& pending, const ClaimedIncarnation& got);
  void AdoptDecisions(Job* job, const std::vector<proto::IncarnationFile>& found);

  std::vector<WaitingOpen> waiting_opens_;  // at most one of a session
  std::map<std::uint64_t, PendingClaim> claims_;
  std::map<JobUid, std::uint64_t> claimed_;     // highest number that a tier was asked for
  std::map<std::string, std::uint64_t> peers_;  // nodes whose session is up, with their boot
  std::map<std::uint64_t, PendingVerify> verifies_;
  std::map<std::tuple<JobUid, std::string, SnapshotKey>, std::pair<SessionId, RequestId>> removes_;
};

}  // namespace holdfast::daemon
