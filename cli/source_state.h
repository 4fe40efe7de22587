// What a daemon that no longer runs left behind: its catalog and its arena, opened read-only.
//
// The daemon keeps its slots under their names in a tmpfs, so a machine whose daemon does not start
// any more (a broken upgrade, a damaged catalog) still holds the state of every rank.  Here it can
// be looked at, verified and exported by hand.  Nothing is changed: no lock is taken, no file
// written.
//
// Records count under the rule of the daemon itself: only for the same arena.uuid and the same boot
// of the kernel; a sidecar is validated, an image is believed chunk by chunk.
//
// Threads, Errors: as source.h.
// Ownership: owns copies of the records.
// Lifecycle: a daemon that is running changes what was read; ask it instead.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "cli/source.h"
#include "proto/catalog.pb.h"
#include "storage_tiers/catalog_contents.h"

namespace holdfast::cli {

// Whose memory is still there.
struct ArenaIdentity {
  std::string folder;
  std::string arena_uuid;  // 16 bytes
  std::string boot_id;     // of the running kernel
};

class StateSource final : public Source {
 public:
  // "arena" empty: where the daemon puts it by itself for this user.  kNotFound names what is not
  // there.
  [[nodiscard]] static Result<std::unique_ptr<StateSource>> Open(const std::string& state_dir,
                                                                 const std::string& arena);

  StateSource(storage_tiers::CatalogContents contents, ArenaIdentity arena);

  [[nodiscard]] std::string place() const override { return arena_.folder; }

  [[nodiscard]] Result<Listing> List(const std::string& job) override;
  [[nodiscard]] Result<OpenedShard> OpenShard(const proto::SnapshotInfo& snapshot,
                                              std::uint32_t rank) override;

 private:
  // Whether the record is about memory that is still there.
  [[nodiscard]] bool Counts(const proto::ShardRecord& shard) const;
  [[nodiscard]] std::string PathOf(const proto::ShardRecord& shard,
                                   proto::ImageKind image = proto::DYNAMIC) const;
  [[nodiscard]] std::string JobName(const std::string& job_uid) const;
  void AddOutcomes(std::map<std::string, proto::SnapshotInfo>* snapshots) const;

  // Constant after construction.
  const storage_tiers::CatalogContents contents_;
  const ArenaIdentity arena_;
};

}  // namespace holdfast::cli
