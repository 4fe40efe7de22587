// Copies a snapshot to a persistent root, so that the job's next start with that root finds it:
// from another root where it is durable, or from the memory that a dead daemon left.
//
// The order is that of a flush by the daemon: images, sidecars, incarnation records, manifest last
// (I6).  Until the manifest is there the target has an unfinished snapshot, which no restore
// chooses; the same command goes on with it.
//
// The incarnation records must come along.  Ids are ordered by (incarnation, step), and a start on
// a root without records would be incarnation 1: everything that it trains would forever count as
// older than the copied snapshot, and the next restart would throw it away.
//
// Threads:   one thread.
// Ownership: borrows everything for the call.
// Errors:    kAlreadyExists: the snapshot, or another job of the name, is there; kCorruption: the
//            source's bytes do not match; kNoSpace with the numbers; kCancelled.
// Durability: after Ok the snapshot is durable on the target.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cli/copy_origin.h"
#include "cli/progress.h"
#include "common/result.h"
#include "proto/client.pb.h"
#include "storage_tiers/file_system.h"
#include "storage_tiers/persistent_tier.h"

namespace holdfast::cli {

class SnapshotCopy {
 public:
  SnapshotCopy(storage_tiers::FileSystem& fs,
               CopyOrigin& from,
               const std::string& to_root,
               proto::SnapshotInfo snapshot);

  // What can be known before a byte is copied.
  [[nodiscard]] Status Check();

  // Returns the incarnations whose records were copied.
  [[nodiscard]] Result<std::vector<std::uint64_t>> Run(Progress* progress);

 private:
  [[nodiscard]] Status CopyShard(std::uint32_t rank, Progress* progress, proto::Manifest* manifest);
  [[nodiscard]] Result<std::vector<std::uint64_t>> CopyIncarnations();

  storage_tiers::FileSystem& fs_;
  CopyOrigin& from_;
  storage_tiers::PersistentTier to_;
  const proto::SnapshotInfo snapshot_;
  proto::Manifest original_;  // the source's, once Run has read it
};

}  // namespace holdfast::cli
