// One root of the persistent tier: a folder of a parallel file system or of a local disk in which
// snapshots outlive the cluster.  Names and bytes: docs/format/persistent_tier.md.
//
//   <root>/<job>/job.json, LATEST, incarnations/<N>.json
//   <root>/<job>/step-00001200.i0007/rank-00000.safetensors, rank-00000.meta, manifest.json
//
// What makes it safe is the order of steps, never a lock, since a lock holder on another node may
// be paused for an hour and go on:
//   1. An image is written under a temporary name, synced, and linked to its final name.
//   2. Its sidecar is linked only after the image's name was synced: a sidecar that can be read
//      vouches for a whole image.
//   3. The manifest is linked last, after every file that it names was found whole and every folder
//      was synced (I6).  Before it exists the snapshot is nothing; after it, nothing in the folder
//      is ever written, linked or renamed again.
//   4. A deletion renames the folder first, so a snapshot is whole or gone at every moment.
// Final names are only ever created by link, never over an existing file, so a daemon that wakes up
// late can at worst repeat what others did.
//
// Threads:   blocking; any worker thread; no state beside constants, so all calls may run at once,
//            also on other nodes.
// Ownership: borrows the FileSystem.  Images are borrowed for the call (but see
//            ImageIoOptions::keep_alive for file systems that hang).
// Errors:    kFenced: a newer incarnation exists, stop for good.  kCorruption: bytes do not match
//            their digest or grammar.  kAlreadyExists: the name belongs to somebody else.
//            kUnavailable: still needed, not now.  Else the failed call's; every call that changes
//            something may be repeated after any error or crash.
// Durability: after Ok the effect survives a power cut (LATEST excepted: it is a hint).
// Lifecycle: the root must exist, since making it would hide a file system that is not mounted, and
//            must not itself be a symbolic link: who reads the configuration resolves it.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "common/bytes.h"
#include "common/result.h"
#include "common/units.h"
#include "proto/manifest.pb.h"
#include "storage_tiers/file_system.h"

namespace holdfast::storage_tiers {

enum class TierScope {
  kShared,  // all nodes see the same files
  kNode,    // each node sees its own
};

// The bytes of one image of a shard, in a slot's mapping.
struct ShardImage {
  proto::ImageKind kind = proto::DYNAMIC;
  ByteView bytes;
};

struct SnapshotEntry {
  proto::SnapshotId id;
  bool published = false;  // has a manifest that can be read and is this id's
  ByteCount bytes = 0;     // of the files in its own folder; a lower bound where problem is set
  std::optional<Error> problem;
};

struct SnapshotListing {
  std::vector<SnapshotEntry> snapshots;    // by (incarnation, step)
  std::vector<std::string> unknown_names;  // in the job's folder and made by nobody we know
};

struct JobListing {
  struct Problem {
    std::string folder;  // its name in the root
    Error error;
  };

  std::vector<std::string> names;  // sorted
  std::vector<Problem> problems;   // folders of which it cannot be known whether they are a job's
};

struct CleanUpReport {
  std::vector<std::string> removed;  // paths
  std::vector<std::string>
      restored;                 // snapshots that a deletion had begun with and that are needed
  std::vector<Error> problems;  // what could not be decided or done; nothing is lost by it
};

class PersistentTier {
 public:
  PersistentTier(FileSystem& fs, std::string root, TierScope scope);

  [[nodiscard]] TierScope scope() const { return scope_; }

  [[nodiscard]] const std::string& root() const { return root_; }

  // --- Jobs and incarnations (persistent_tier.cc) ---

  // The folders with a job.json.  One that may not be looked into does not hide the others.
  [[nodiscard]] Result<JobListing> ListJobs();

  // Creates the job's folders and job.json.  kAlreadyExists with both uids where another job of the
  // name exists; of two racing daemons one gets it and then reads the winner's uid with ReadJob.
  // Where the job is there and only its job.json is lost, as LostJobFile.
  [[nodiscard]] Status EnsureJob(const std::string& job, const std::string& job_uid);

  // For a job that was here before: kUnavailable where its job.json is missing, which an empty
  // mount point looks like.  Creates nothing, but writes a job.json that was lost again.
  [[nodiscard]] Status RequireJob(const std::string& job, const std::string& job_uid);

  // Whether the job's folder has lost its job.json: no such file, but manifests and incarnation
  // records, all of this uid.  kCorruption where they are not, or cannot tell: a new job.json would
  // make all of them another job's.
  [[nodiscard]] Result<bool> LostJobFile(const std::string& job, const std::string& job_uid);

  // nullopt: there is no such job here.  kUnavailable: there is no root.
  [[nodiscard]] Result<std::optional<proto::JobFile>> ReadJob(const std::string& job);

  // Takes number record.number().  kAlreadyExists if it, or a higher one, is taken by another
  // token; then take 1 + HighestIncarnation and try again.
  [[nodiscard]] Status ClaimIncarnation(const std::string& job,
                                        const proto::IncarnationFile& record);

  // 0: none.
  [[nodiscard]] Result<std::uint64_t> HighestIncarnation(const std::string& job);

  // nullopt: no such incarnation.
  [[nodiscard]] Result<std::optional<proto::IncarnationFile>> ReadIncarnation(
      const std::string& job, std::uint64_t number);

  // Replaces the record whose token we hold.  kFenced if the token there is another's or a higher
  // incarnation exists; only one process may hold a token.
  [[nodiscard]] Status UpdateIncarnation(const std::string& job,
                                         const proto::IncarnationFile& record);

  // --- Writing snapshots (persistent_tier_flush.cc, persistent_tier_publish.cc) ---

  // Writes a shard's images and then its sidecar.  "images" are those that this snapshot owns
  // (ImageDigest::owner absent or this id).  Each chunk is checked against the sidecar's digests
  // before it is written: kCorruption then, and nothing remains of the image (I5).  kAlreadyExists
  // once the snapshot is published.  A shard that is there already, whole, is not written again.
  // Returns the shard's entries for the manifest.  "static_path" says where a static image of
  // another owner lies (ManifestFile::path); empty: the owner's file of the same rank and world.
  [[nodiscard]] Result<std::vector<proto::ManifestFile>> FlushShard(
      const proto::Sidecar& sidecar,
      std::span<const ShardImage> images,
      const ImageIoOptions& options,
      const std::string& static_path = {});

  // kFenced if an incarnation above "epoch" exists.  kAlreadyExists if that number is another
  // start's on this tier, of a twin that took it where this one did not see it; of other tiers that
  // says nothing.  "token": of this start; 0: not known, numbers alone are compared.
  [[nodiscard]] Status CheckEpoch(const std::string& job,
                                  std::uint64_t epoch,
                                  std::uint64_t token = 0);

  // Makes the snapshot durable for everybody.  Epoch and token: the caller's, as in CheckEpoch.
  // Every file and sidecar that the manifest names is looked at again first: kCorruption or
  // kNotFound names the first that is not as the manifest says.  Ok also where the same manifest
  // exists (its creation time aside).
  [[nodiscard]] Status PublishManifest(const proto::Manifest& manifest,
                                       std::uint64_t epoch,
                                       std::uint64_t token = 0);

  // --- Reading (persistent_tier_read.cc) ---

  // All snapshots, finished or not.  Damaged ones are entries with a problem, not errors.
  [[nodiscard]] Result<SnapshotListing> ListSnapshots(const std::string& job);

  [[nodiscard]] Result<proto::Manifest> ReadManifest(const std::string& job,
                                                     const proto::SnapshotId& id);

  // kCorruption also where the file is another shard's.
  [[nodiscard]] Result<proto::Sidecar> ReadSidecar(const std::string& job,
                                                   const proto::SnapshotId& id,
                                                   std::uint32_t rank,
                                                   std::uint32_t world_size);

  // Fills "destination", which has the length that the sidecar gives for the image, and checks
  // every chunk (I5).  *bad_chunks gets those that do not match; with any the result is kCorruption
  // and all other chunks are good.  A static image of another owner is found through the manifest.
  [[nodiscard]] Status ReadImage(const proto::Sidecar& sidecar,
                                 proto::ImageKind kind,
                                 MutableByteView destination,
                                 const ImageIoOptions& options,
                                 std::vector<std::uint64_t>* bad_chunks);

  // --- Removing (persistent_tier_delete.cc) ---

  // Removes a snapshot, published or not.  kFenced as in CheckEpoch, also by one that appeared
  // while we were at it (the snapshot is then back).  kUnavailable for what is still needed: the
  // newest published one; what the newest incarnation names as choice or fallback, and while it has
  // not committed everything older than it; the owner of a static image in use.
  [[nodiscard]] Status Delete(const std::string& job,
                              const proto::SnapshotId& id,
                              std::uint64_t epoch,
                              std::uint64_t token = 0);

  // At a daemon's start: finishes or takes back deletions that were cut short, removes temporary
  // files, and the unpublished snapshots in "given_up", which the caller knows that nobody, on
  // no node, will ever finish.  Never removes a published one.  May run while other nodes work on
  // the same job.
  [[nodiscard]] Result<CleanUpReport> CleanUp(const std::string& job,
                                              std::span<const proto::SnapshotId> given_up = {});

 private:
  struct Needs;  // what must not be deleted now

  [[nodiscard]] std::string JobFolder(const std::string& job) const;
  [[nodiscard]] std::string SnapshotFolder(const std::string& job,
                                           const proto::SnapshotId& id) const;
  [[nodiscard]] std::string IncarnationFolder(const std::string& job) const;
  [[nodiscard]] Status CheckRoot();
  // Whether a record or a manifest says that the job is this one; kCorruption: it is another.
  [[nodiscard]] Result<bool> RecordsVouchFor(const std::string& job, const std::string& job_uid);
  [[nodiscard]] Result<bool> ManifestsVouchFor(const std::string& job,
                                               const std::string& job_uid,
                                               const std::vector<std::string>& folders);
  // job.json must exist and have this uid: a snapshot never gets into another job's folder.
  [[nodiscard]] Status CheckJob(const std::string& job, const std::string& job_uid);

  [[nodiscard]] Status CreateShardFolders(const proto::Sidecar& sidecar);
  void RemoveEmptyShardFolders(const proto::Sidecar& sidecar);
  [[nodiscard]] Status WriteShardImages(const proto::Sidecar& sidecar,
                                        std::span<const ShardImage> images,
                                        const ImageIoOptions& options,
                                        std::string* meta);
  [[nodiscard]] Status SyncShardFolders(const proto::Sidecar& sidecar);
  // The content of the sidecar file, where the shard lies there whole and its sidecar means what
  // "meta" does.  A sidecar that cannot be trusted is removed.
  [[nodiscard]] Result<std::optional<std::string>> FinishedBefore(const proto::Sidecar& sidecar,
                                                                  const std::string& meta);
  [[nodiscard]] Status RemoveStaleTemporaries(const proto::Sidecar& sidecar);
  [[nodiscard]] Status WriteShardImage(const proto::Sidecar& sidecar,
                                       const proto::ImageDigest& digest,
                                       ByteView bytes,
                                       const ImageIoOptions& options);
  [[nodiscard]] Result<std::vector<proto::ManifestFile>> EntriesOf(const proto::Sidecar& sidecar,
                                                                   const std::string& meta,
                                                                   const std::string& static_path);

  [[nodiscard]] Status CheckRank(const proto::Manifest& manifest,
                                 std::span<const proto::ManifestFile* const> files);
  [[nodiscard]] Status CheckSharedImage(const proto::Manifest& manifest,
                                        const proto::ManifestFile& file,
                                        const proto::ImageDigest& digest);
  [[nodiscard]] Status CheckFiles(const proto::Manifest& manifest);
  [[nodiscard]] Status SyncFoldersOf(const proto::Manifest& manifest);
  [[nodiscard]] Status LinkManifest(const proto::Manifest& manifest, const std::string& json);
  void AdvanceLatest(const proto::Manifest& manifest);
  void RemoveTemporaries(const std::string& folder, std::vector<std::string>* removed);

  [[nodiscard]] Result<std::string> ImagePath(const proto::Sidecar& sidecar,
                                              const proto::ImageDigest& digest);
  [[nodiscard]] Result<proto::Manifest> ReadManifestIn(const std::string& folder,
                                                       const std::string& job,
                                                       const proto::SnapshotId& id);
  [[nodiscard]] SnapshotEntry Inspect(const std::string& job, const proto::SnapshotId& id);
  [[nodiscard]] Result<ByteCount> BytesBelow(const std::string& folder, int depth);

  [[nodiscard]] Result<Needs> ReadNeeds(const std::string& job);
  [[nodiscard]] Status RefuseIfNeeded(const std::string& job,
                                      const proto::SnapshotId& id,
                                      const Needs& needs);
  [[nodiscard]] Status RefuseTrashIfNeeded(const std::string& job,
                                           const proto::SnapshotId& id,
                                           std::uint64_t epoch,
                                           std::uint64_t token,
                                           bool had_manifest);
  [[nodiscard]] Status MoveToTrash(const std::string& job, const std::string& folder);
  [[nodiscard]] Status TakeBack(const std::string& job, const std::string& folder);
  [[nodiscard]] Status RemoveTrash(const std::string& job, const std::string& folder);
  // What a deletion that was cut short left behind: taken back if needed, else removed.
  [[nodiscard]] Status SettleTrash(const std::string& job,
                                   const std::string& folder,
                                   CleanUpReport& report);
  [[nodiscard]] Status RemoveGivenUp(const std::string& job,
                                     const proto::SnapshotId& id,
                                     CleanUpReport& report);

  // Constant after construction.
  FileSystem& fs_;
  const std::string root_;
  const TierScope scope_;
};

}  // namespace holdfast::storage_tiers
