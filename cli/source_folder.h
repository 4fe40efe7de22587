// Snapshots in one root of a persistent tier, read without a daemon.
//
// Everything in the folder may be damaged, half written or hostile: a manifest is believed as far
// as layout/ validates it, a sidecar only if its CRC32C is the manifest's, an image only chunk by
// chunk.
//
// Threads, Errors: as source.h.
// Ownership: borrows the FileSystem.
#pragma once

#include <string>

#include "cli/source.h"
#include "storage_tiers/file_system.h"
#include "storage_tiers/persistent_tier.h"

namespace holdfast::cli {

// Whether "root" is a folder that can be listed; the error says what it is instead.
[[nodiscard]] Status CheckRoot(storage_tiers::FileSystem& fs, const std::string& root);

class FolderSource final : public Source {
 public:
  FolderSource(storage_tiers::FileSystem& fs, const std::string& root);

  [[nodiscard]] std::string place() const override { return tier_.root(); }

  // Snapshots with a manifest are "durable", without one "unfinished"; what cannot be read is
  // "damaged" and a Problem.
  [[nodiscard]] Result<Listing> List(const std::string& job) override;

  // Of jobs: name, uid, incarnation, world size, and this root as their tier.
  [[nodiscard]] Result<proto::StatusReply> Overview(const Listing& listing) override;

  // Of a durable snapshot.  kCorruption where sidecar, manifest and files do not agree.
  [[nodiscard]] Result<OpenedShard> OpenShard(const proto::SnapshotInfo& snapshot,
                                              std::uint32_t rank) override;

  // Its manifest is gone, and the job is still there.
  [[nodiscard]] bool Retired(const proto::SnapshotInfo& snapshot, const Error& error) override;

 private:
  void ListJob(const std::string& job, Listing* listing);
  // Marks the shards of "snapshot" whose files are gone or of another length: the first of these.
  [[nodiscard]] std::optional<Error> FindLostFiles(const proto::Manifest& manifest,
                                                   proto::SnapshotInfo* snapshot);
  [[nodiscard]] proto::SnapshotInfo Describe(const std::string& job,
                                             const storage_tiers::SnapshotEntry& entry,
                                             Listing* listing);
  // Of the snapshot that was asked for last: every rank of a large world needs it.
  [[nodiscard]] Result<const proto::Manifest*> ManifestOf(const proto::SnapshotInfo& snapshot);

  storage_tiers::FileSystem& fs_;
  storage_tiers::PersistentTier tier_;
  proto::Manifest manifest_;
};

}  // namespace holdfast::cli
