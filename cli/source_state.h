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

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
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
  std::string state_dir;
  // A daemon that holds the catalog or the arena all the same; nullopt: none.
  std::optional<std::int32_t> daemon_pid;
};

class StateSource final : public Source {
 public:
  // "arena" empty: where the daemon puts it by itself for this user.  kNotFound names what is not
  // there.
  [[nodiscard]] static Result<std::unique_ptr<StateSource>> Open(const std::string& state_dir,
                                                                 const std::string& arena);

  StateSource(storage_tiers::CatalogContents contents, ArenaIdentity arena);

  [[nodiscard]] std::string place() const override { return arena_.folder; }

  [[nodiscard]] const storage_tiers::CatalogContents& contents() const { return contents_; }

  [[nodiscard]] std::optional<std::int32_t> daemon_pid() const { return arena_.daemon_pid; }

  [[nodiscard]] Result<Listing> List(const std::string& job) override;
  [[nodiscard]] Result<proto::StatusReply> Overview(const Listing& listing) override;
  [[nodiscard]] Result<OpenedShard> OpenShard(const proto::SnapshotInfo& snapshot,
                                              std::uint32_t rank) override;

 private:
  // Whether the record is about memory that is still there.
  template <class Record>
  [[nodiscard]] bool Counts(const Record& record) const {
    return record.arena_uuid() == arena_.arena_uuid && record.boot_id() == arena_.boot_id;
  }

  // Sealed, poisoned or lost.
  [[nodiscard]] std::string_view StateOf(const proto::ShardRecord& shard) const;
  [[nodiscard]] std::string PathOf(const proto::ShardRecord& shard,
                                   proto::ImageKind image = proto::DYNAMIC) const;
  [[nodiscard]] std::string JobName(const std::string& job_uid) const;
  [[nodiscard]] Status CheckKnown(const std::string& job) const;
  void AddShards(std::map<std::string, proto::SnapshotInfo>* snapshots,
                 std::vector<Problem>* problems) const;
  void AddOutcomes(std::map<std::string, proto::SnapshotInfo>* snapshots) const;
  void AddDurables(std::map<std::string, proto::SnapshotInfo>* snapshots) const;
  void FillArena(proto::ArenaStatus* arena) const;
  void FillJob(const proto::JobRecord& record, const Listing& listing, proto::JobStatus* job) const;

  // Constant after construction.
  const storage_tiers::CatalogContents contents_;
  const ArenaIdentity arena_;
};

}  // namespace holdfast::cli
