// The decisions of one holdfastd, without I/O.
//
// Inputs are calls (a client's message, the end of a slow action, a death, a tick); outputs are
// Readys (action.h).  Same calls in the same order give the same Readys: no clock, no random number
// and no file is read in here.  Tests drive it with scripts, the simulator with thousands of nodes.
//
// Threads:   the io thread only; no locks inside.
// Ownership: owns all state; views handed out live until the next call.
// Errors:    bad input is answered to the client that sent it; a call never fails as such.
// Lifecycle: construct -> Recover (once, before anything else) -> calls in any order.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/clock.h"
#include "common/result.h"
#include "common/units.h"
#include "daemon/core/action.h"
#include "daemon/core/ids.h"
#include "daemon/core/layout_facts.h"
#include "proto/peer.pb.h"

namespace holdfast::daemon {

class NodeState;

struct CoreOptions {
  std::uint64_t budget_bytes = 0;          // of the arena: images, free slots, quarantine
  std::uint64_t page_bytes = 4 * kKiB;     // of the arena: files have multiples of it
  std::uint32_t default_slots = 3;         // for each rank; at least 2
  std::uint32_t max_ranks_per_job = 64;    // on this node
  std::uint32_t restore_tries = 3;         // attempts for one id in one incarnation
  std::chrono::seconds orphan_ttl{86400};  // memory of a job without live session is kept so long
  std::chrono::milliseconds restore_wait{
      60000};  // for ranks that do not ask, tiers that do not answer
  std::chrono::milliseconds resume_wait{
      30000};  // for a client to vouch for its slot after a restart
  // A start of a job waits so long for the trainers of the last one to end.
  std::chrono::milliseconds open_wait{10000};
  std::chrono::milliseconds flush_retry_min{1000};
  std::chrono::milliseconds flush_retry_max{60000};
  std::uint32_t flush_gives_way = 3;  // times in a row that a flush yields its slot to training
  // How the nodes of a job protect each other (ec/grouping.h): k and m.  m = 0: they do not.
  std::uint32_t code_data = 8;
  std::uint32_t code_parity = 0;
  std::string failure_domain;  // of this node: rack, switch; empty: a domain of its own
  bool peers = false;          // the runtime carries messages to other nodes
  std::chrono::milliseconds peer_repeat{1000};  // of a message to a peer that is not answered
  // A job of at most so many nodes is decided for at each report; of a larger one that would look
  // at thousands of reports for each, so most of them wait for the tick (coordinator.h, IsDue).
  std::uint32_t decide_each_report = 63;
};

// What a start finds: catalog records that count for this arena and boot, with files that exist.
struct RecoveredState {
  std::string node_uuid;
  std::string arena_uuid;
  std::string boot_id;
  std::uint64_t boot_number = 0;
  std::vector<proto::JobRecord> jobs;
  std::vector<proto::SlotRecord> slots;    // whose file exists with the recorded size, or is
                                           // quarantined
  std::vector<proto::ShardRecord> shards;  // whose slot is among them
  std::vector<proto::IncarnationRecord> incarnations;
  std::vector<proto::OutcomeRecord> outcomes;
  std::vector<proto::DurableRecord> durables;
  std::vector<proto::RowRecord> rows;  // of this arena and boot; their slots are among the slots
  std::vector<proto::SidecarRecord> sidecars;
  std::map<std::string, LayoutFacts> layouts;  // that the catalog has, by hash
  std::vector<SlotNumber> lost_slots;          // recorded, but without a usable file: forgotten
};

// One published snapshot on a tier, as a listing finds it.
struct TierSnapshot {
  SnapshotKey id;
  std::uint32_t world_size = 0;
  std::vector<std::uint64_t> image_bytes;     // by rank, from the manifest
  std::map<Rank, SnapshotKey> static_owners;  // whose folder has the rank's static image
  // It has a manifest that cannot be read: no source, but not nothing either.
  std::optional<Error> problem;
};

struct ClaimedIncarnation {
  JobUid job_uid;
  std::uint64_t number = 0;
  // Decisions of older incarnations found on the tiers (boundaries count for the choice).
  std::vector<proto::IncarnationFile> found;
};

// The peer of a connection, from the kernel, and random bits that the core cannot draw itself.
struct ClientIdentity {
  std::uint32_t uid = 0;
  std::int32_t pid = 0;
  // When the process started, in the kernel's ticks: tells it from another of the same number.
  std::uint64_t process_start = 0;
  std::uint64_t session_random = 0;  // becomes the session token; not 0, never repeated
  std::uint64_t epoch_random = 0;    // becomes the token of an incarnation that this client opens
  bool sees_all = false;  // of the user that the daemon runs as: status and list show all jobs
};

inline bool IsSameProcess(const ClientIdentity& a, const ClientIdentity& b) {
  return a.pid == b.pid && a.process_start == b.process_start && a.process_start != 0;
}

class NodeCore {
 public:
  NodeCore(CoreOptions options, RecoveredState recovered, MonotonicTime now, WallTime wall_now);
  ~NodeCore();

  // Takes what has been decided since the last call; false if nothing.
  bool TakeReady(Ready* ready);

  // Actions that nobody has taken yet: they wait for the catalog.
  std::size_t waiting_actions() const;

  // ---- clients ----
  void OnConnected(SessionId session, const ClientIdentity& identity);
  // Every request but hello, ping and verify of chunks outside the arena.  For register, "layout"
  // holds the facts of the request's layout; the proto's layout itself may have been taken out.
  void OnRequest(SessionId session, const proto::ClientMessage& message, const LayoutFacts* layout);
  // The connection is gone; the process may live and resume.
  void OnDisconnected(SessionId session);
  // The process that registered with "session_token" is dead (pidfd): nothing more comes from it,
  // but copies that it queued may still land.
  void OnProcessDead(std::uint64_t session_token);

  // ---- ends of actions ----
  void OnSlotPrepared(SlotRef slot, const Status& status);
  // The event of a grant could not be sent, since the slot's file is not what the daemon made (a
  // client cut or grew it): the client does not know of the grant.
  void OnGrantRefused(SlotRef slot);
  void OnQuarantineReleased(SlotRef slot);
  void OnDigested(SlotRef slot, Result<std::vector<std::uint32_t>> digests);
  // "bad_chunks" empty: all match.
  void OnVerified(std::uint64_t ticket,
                  SlotRef slot,
                  Result<std::vector<std::uint64_t>> bad_chunks);
  void OnIncarnationClaimed(std::uint64_t ticket, Result<ClaimedIncarnation> claimed);
  void OnTierListed(const JobUid& job,
                    const std::string& root,
                    std::uint32_t attempt,
                    Result<std::vector<TierSnapshot>> listed);
  // The sidecar carries its layout.
  void OnShardOpened(const JobUid& job,
                     std::uint32_t attempt,
                     Rank rank,
                     std::uint64_t ticket,
                     Result<proto::Sidecar> sidecar);
  // kCorruption means that the bytes of a slot did not match, that of "bad_image": the shard is
  // poisoned, and with it those that share the image.
  void OnFlushed(const JobUid& job,
                 const std::string& root,
                 SnapshotKey id,
                 Rank rank,
                 const Status& status,
                 proto::ImageKind bad_image = proto::DYNAMIC);
  void OnPublished(const JobUid& job,
                   const std::string& root,
                   SnapshotKey id,
                   const Epoch& asker,
                   const Status& status);
  void OnDurableDeleted(const JobUid& job,
                        const std::string& root,
                        SnapshotKey id,
                        const Status& status);
  // What came of a MakeRow: the digests of the row's chunks.
  void OnRowMade(std::uint64_t ticket, Result<std::vector<std::uint32_t>> chunk_crc32c);
  // What came of a FetchSidecars: those that were got, without layouts, which are in the catalog.
  void OnSidecarsFetched(std::uint64_t ticket, Result<std::vector<proto::Sidecar>> sidecars);
  // What came of a PullShard or a RebuildShard.  kCorruption and kNotFound: the source is never
  // used again in this incarnation.
  void OnShardMade(std::uint64_t ticket, const Status& status);
  // A reader outside the core (a pinned descriptor, the flush) found wrong bytes or a SIGBUS.
  void OnSlotPoisoned(SlotRef slot, const std::string& reason);

  // ---- peers ----
  // The session with the daemon of another node is up, after both have said hello; its boot number
  // from there.  Up again without down in between is fine: the old session is over.
  void OnPeerUp(const std::string& node_uuid, std::uint64_t boot_number);
  void OnPeerDown(const std::string& node_uuid);
  // From that node's daemon, as its certificate names it.  Each is answered by AnswerPeer with the
  // ticket: kFenced changed nothing; kUnavailable: not now, the sender repeats it.
  void OnPeerReport(const std::string& node_uuid,
                    std::uint64_t ticket,
                    const JobUid& job,
                    Report report);
  void OnPeerCommand(const std::string& node_uuid,
                     std::uint64_t ticket,
                     const JobUid& job,
                     const Command& command);
  // What the node answered to the message of that stamp; never called for one that was lost.
  void OnPeerAnswer(const std::string& node_uuid,
                    const JobUid& job,
                    const MessageStamp& stamp,
                    const Status& status);

  // Nodes that some job here must hear, with where they may be.
  NodeHints WantedPeers() const;
  // All nodes that some job here has or had.
  NodeHints KnownPeers() const;

  // ---- what peers ask (valid until the next call) ----
  // Bytes that lie whole in this arena: a sealed image, or a recorded row.
  struct StoredBytes {
    SlotRef slot;
    std::uint64_t base = 0;  // in the slot's file
    std::uint64_t length_bytes = 0;
    std::vector<std::uint32_t> chunk_crc32c;  // as recorded
  };

  // Nothing where this node does not have it, or it was found bad.  Only image.rank and parity's
  // numbers count; its stripe must be that of the row.  The bytes may be freed and written again
  // while they are read: the digests tell.
  std::optional<StoredBytes> FindStored(const proto::StoredKey& key) const;
  // The same for who checks what lies here, also what was found bad already: for the user "asker",
  // all: nothing.  kNotFound; kPermission: the job is another user's.
  Result<StoredBytes> FindHeld(const proto::StoredKey& key,
                               std::optional<std::uint32_t> asker) const;
  // Of any rank's shard, its own or another node's; null where it is not known.
  const proto::Sidecar* FindSidecar(const proto::SnapshotId& id, Rank rank) const;

  // ---- time ----
  // At least once a second.
  void OnTick(MonotonicTime now, WallTime wall_now);

  // ---- views for metrics (also what the status and list requests answer) ----
  // Of all jobs, or of those that the user "asker" may use.
  proto::StatusReply StatusNow(std::optional<std::uint32_t> asker = std::nullopt) const;
  proto::ListReply ListNow(const std::string& job_name) const;
  // What an operator at another node is told: both, with what is held here beside shards.
  proto::NodeView ViewNow(const std::string& job_name, std::optional<std::uint32_t> asker) const;

  // Slots that were handed out when the last daemon died, with the pid of their trainer: the
  // runtime looks whether those processes live, and calls OnProcessDead for those that do not.
  struct Limbo {
    std::uint64_t session_token = 0;
    std::int32_t pid = 0;
  };

  std::vector<Limbo> LimboSessions() const;

 private:
  std::unique_ptr<NodeState> state_;
};

}  // namespace holdfast::daemon
