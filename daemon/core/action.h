// What the core wants done.  The core decides; the runtime (daemon/) carries out.
//
// Each call into NodeCore may add to a Ready: one batch of catalog records and a list of actions.
// The contract of the runtime:
//   1. Readys are carried out in the order in which they were taken, never overlapping in step 2.
//   2. The batch is synced BEFORE any of its actions starts.  If it cannot be written, the runtime
//      repeats it until it can; nothing behind it starts meanwhile (begins are answered from grants
//      that were synced before, so training does not wait).
//   3. Actions of one Ready are started in their order; the slow ones (marked "answers with")
//   finish
//      in any order and are answered by the named call into the core, exactly once each, also after
//      failure, cancellation and shutdown.
//
// Threads:   value types; made and consumed on the io thread.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "common/result.h"
#include "daemon/core/code_set.h"
#include "daemon/core/ids.h"
#include "daemon/core/messages.h"
#include "proto/catalog.pb.h"
#include "proto/client.pb.h"
#include "storage_tiers/catalog_batch.h"

namespace holdfast::daemon {

// Sends a message to a client; dropped silently if the session is gone.  With "fd_slot" the frame
// carries a descriptor of that slot: writable for a grant, read-only for restore and open_shard;
// with "fd_file", the read-only descriptor of that OpenShardFile ticket.  A grant leaves ONLY IF
// the slot's file is what the daemon made; else it is answered with OnGrantRefused.
struct Send {
  SessionId session = 0;
  proto::ServerMessage message;
  std::optional<SlotRef> fd_slot;
  bool fd_writable = false;
  std::optional<std::uint64_t> fd_file;
  proto::ImageKind fd_image = proto::DYNAMIC;  // which file of fd_file's shard
};

// Ends a connection, AFTER what was sent to it before has left (or failed to).
struct CloseSession {
  SessionId session = 0;
};

// Creates the file (if "create"), pre-faults it, and writes the header of that image of the layout
// at its start.  Nobody else writes or reads the slot meanwhile.  Answers with OnSlotPrepared.
struct PrepareSlot {
  SlotRef slot;
  std::uint64_t capacity_bytes = 0;
  bool create = false;
  std::string layout_hash;  // known from the register request or the catalog
  proto::ImageKind kind = proto::DYNAMIC;
  // Where the pages of a new file should be, as the client said: -1, or any number at all.
  std::int32_t numa_node = -1;
  // For a parity row or a shard from elsewhere: there is no header, and no layout is known.
  bool plain = false;
};

// Removes the file.  Nobody can write to it any more.  No answer.
struct RemoveSlot {
  SlotRef slot;
};

// Watches a file that a dead or fenced client may still write to: as soon as no other process has
// it open or mapped, removes it.  Answers with OnQuarantineReleased (possibly never).
struct QuarantineSlot {
  SlotRef slot;
};

// Digests the first "length_bytes" of a slot that its client has declared final.  Answers with
// OnDigested.
struct DigestSlot {
  SlotRef slot;
  std::uint64_t length_bytes = 0;
};

// Reads part of a sealed slot again and compares with "expected", one digest for each chunk of it.
// Answers with OnVerified, which counts chunks from the start of the slot.
struct VerifySlot {
  SlotRef slot;
  std::uint64_t first_chunk = 0;
  std::uint64_t length_bytes = 0;
  std::vector<std::uint32_t> expected;
  std::uint64_t ticket = 0;  // handed back
};

// Takes the incarnation number on every tier that can be written (creating job.json where missing)
// and settles the job's uid.  Answers with OnIncarnationClaimed.
struct ClaimIncarnation {
  std::string job_name;
  JobUid job_uid;              // empty: not known here; a tier's job.json decides, else a new one
  std::uint64_t at_least = 1;  // no lower number
  std::uint64_t token = 0;
  std::uint32_t world_size = 0;
  std::vector<proto::TierPolicy> tiers;
  // Roots on which snapshots of the job are known to be: one without its job.json is not mounted,
  // and nothing is created there.
  std::set<std::string> expected_roots;
  std::uint64_t ticket = 0;  // handed back
};

// Records the restore decision on the tiers.  Best effort: the catalog's copy, synced in this
// Ready's batch, is what this node obeys.  No answer.
struct WriteIncarnation {
  std::string job_name;
  proto::IncarnationFile file;
  std::vector<proto::TierPolicy> tiers;
  std::set<std::string> expected_roots;  // as in ClaimIncarnation
};

// Lists published snapshots of the job on one tier.  Answers with OnTierListed.
struct ListTier {
  std::string job_name;
  JobUid job_uid;
  std::string root;
  bool expected = false;      // as in ClaimIncarnation: without job.json the answer is kUnavailable
  std::uint32_t attempt = 0;  // handed back: an old listing does not answer a new attempt
};

// Opens one rank's images on a tier for its trainer to load, and reads its sidecar: checks that all
// exist, belong to this id and rank, and have the recorded lengths.  The digests are checked by the
// client while it loads (I5), so that a restore never needs a slot of a full arena.  The
// descriptors are kept under "ticket" until CloseShardFile.  Answers with OnShardOpened.
struct OpenShardFile {
  std::string job_name;
  JobUid job_uid;
  std::string root;
  SnapshotKey id;
  Rank rank = 0;
  std::uint32_t attempt = 0;  // handed back
  std::uint64_t ticket = 0;   // handed back; names the descriptors
};

// No answer; a ticket that is not open (any more) is fine.
struct CloseShardFile {
  std::uint64_t ticket = 0;
};

// Writes a sealed shard to a tier under its final names and fsyncs it, checking every chunk (I5).
// The slots are pinned until the answer.  Answers with OnFlushed.
struct FlushShard {
  std::string job_name;
  JobUid job_uid;
  proto::TierPolicy tier;
  bool expected = false;  // as in ClaimIncarnation
  Epoch epoch;            // ONLY IF no higher incarnation, and no twin of it, is recorded there
  SnapshotKey id;
  Rank rank = 0;
  SlotRef slot;
  // Of the static image, where this snapshot's folder gets it; else the sidecar names the snapshot
  // of this tier that owns it, or there is none.
  std::optional<SlotRef> static_slot;
  proto::Sidecar sidecar;  // with layout_hash, without layout: the runtime adds it
};

// Asks a flush under way to give up; it still answers with OnFlushed (kCancelled, unless it was
// done).
struct CancelFlush {
  JobUid job_uid;
  std::string root;
  SnapshotKey id;
  Rank rank = 0;
};

// Creates manifest.json, ONLY IF no higher incarnation is recorded on that tier; all ranks' files
// are there and fsynced (I6).  Then LATEST.  Answers with OnPublished.
struct PublishManifest {
  std::string job_name;
  JobUid job_uid;
  std::string root;
  SnapshotKey id;
  std::uint32_t world_size = 0;
  std::optional<SnapshotKey> parent;
  Epoch epoch;
};

// Removes a durable snapshot (retention or a user's rm), ONLY IF no higher incarnation is recorded.
// Answers with OnDurableDeleted.
struct DeleteDurable {
  std::string job_name;
  JobUid job_uid;
  std::string root;
  SnapshotKey id;
  Epoch epoch;
};

// Sends to the daemon of another node.  A message that is lost is no fault of this action: the core
// repeats it until OnPeerAnswer names its stamp.  No answer is due where the node is not connected.
struct SendReport {
  std::string node_uuid;
  std::vector<std::string> endpoints;  // where the node may be found
  JobUid job_uid;
  std::string job_name;
  Report report;
};

struct SendCommand {
  std::string node_uuid;
  std::vector<std::string> endpoints;
  JobUid job_uid;
  std::string job_name;
  Command command;
};

// Answers a peer's report or command, for which it was handed the ticket: what it changed is
// synced.
struct AnswerPeer {
  std::string node_uuid;
  std::uint64_t ticket = 0;
  Status status = Ok();
};

// Makes the parity row "row" of "stripe" of an id, whole, in the slot from its byte 0 on.  Nobody
// else writes or reads the slot meanwhile.  Every chunk that is encoded, pulled or decoded is
// compared with the digests of its sidecar or row record first (I5).  Answers with OnRowMade.
//   kEncode   row 0 by its first owner: pulls the stripe's k segments from "set"'s nodes and
//   encodes
//             all rows; the others are fed to their owners (pipeline/protect_stripe.h)
//   kPull     takes the row from the first owner's feed, asking again for a while where there is
//             none yet (pipeline/pull_vector.h)
//   kRebuild  from any k vectors of the stripe (pipeline/rebuild.h, RebuildRow): after one of the
//             others has failed
struct MakeRow {
  enum class Way : std::uint8_t { kEncode, kPull, kRebuild };
  std::uint64_t ticket = 0;
  JobUid job_uid;
  std::string job_name;
  SnapshotKey id;
  CodeSet set;  // its nodes hold the shards of its ranks, sealed
  std::uint32_t stripe = 0;
  std::uint32_t row = 0;
  Way way = Way::kEncode;
  SlotRef slot;
  std::uint64_t length_bytes = 0;  // of the row, from 1
  // Of each position's shard; one without shard has an empty one.
  std::vector<proto::Sidecar> sidecars;
};

// Asks a MakeRow, FetchSidecars, PullShard or RebuildShard to give up.  It still answers, with
// kCancelled unless it was done.  A ticket that is not under way (any more) is fine.
struct CancelMaking {
  std::uint64_t ticket = 0;
};

// Brings the sidecars of shards that other nodes hold, and puts their layouts, under their hashes,
// into this node's catalog (synced) BEFORE it answers with OnSidecarsFetched.  Sidecars of other
// ids or ranks than were asked for are no answer.  Of each rank the first node that has it counts.
struct FetchSidecars {
  std::uint64_t ticket = 0;
  JobUid job_uid;
  std::string job_name;
  SnapshotKey id;
  std::map<Rank, std::vector<std::string>> from;  // nodes that may have it, the likeliest first
};

// Copies an image of a sealed shard of another node, whole, into the slot, and compares every chunk
// of it in its place with the sidecar (I5).  Urgent.  Answers with OnShardMade.
struct PullShard {
  std::uint64_t ticket = 0;
  JobUid job_uid;
  std::string job_name;
  SnapshotKey id;
  Rank rank = 0;
  SlotRef slot;
  proto::Sidecar sidecar;
  proto::ImageKind image = proto::DYNAMIC;  // which of its images
  std::string node_uuid;
};

// The same for a shard that is lost: decodes the image that the set is of, from any k vectors of
// each stripe (pipeline/rebuild.h, RebuildShard).  Sidecars and row digests of the others come
// from their holders.
struct RebuildShard {
  std::uint64_t ticket = 0;
  JobUid job_uid;
  std::string job_name;
  SnapshotKey id;
  Rank rank = 0;
  SlotRef slot;
  proto::Sidecar sidecar;
  HeldSet held;                // as the coordinator last heard
  std::uint32_t position = 0;  // of the rank in the set
};

using Action = std::variant<Send,
                            CloseSession,
                            PrepareSlot,
                            RemoveSlot,
                            QuarantineSlot,
                            DigestSlot,
                            VerifySlot,
                            ClaimIncarnation,
                            WriteIncarnation,
                            ListTier,
                            OpenShardFile,
                            CloseShardFile,
                            FlushShard,
                            CancelFlush,
                            PublishManifest,
                            DeleteDurable,
                            SendReport,
                            SendCommand,
                            AnswerPeer,
                            MakeRow,
                            CancelMaking,
                            FetchSidecars,
                            PullShard,
                            RebuildShard>;

struct Ready {
  storage_tiers::CatalogBatch batch;
  std::vector<Action> actions;

  bool empty() const { return batch.empty() && actions.empty(); }
};

}  // namespace holdfast::daemon
