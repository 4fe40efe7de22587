// What a copied snapshot brings along beside its shards: its manifest and the job's incarnations.
//
// From a persistent root these are files; from what a dead daemon left they are records of its
// catalog.
//
// Threads:   one thread.
// Ownership: an origin of a folder borrows the FileSystem; one of a state owns its source.
// Errors:    as source.h.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "cli/source.h"
#include "cli/source_state.h"
#include "common/result.h"
#include "proto/client.pb.h"
#include "storage_tiers/file_system.h"

namespace holdfast::cli {

class CopyOrigin {
 public:
  CopyOrigin() = default;
  CopyOrigin(const CopyOrigin&) = delete;
  CopyOrigin& operator=(const CopyOrigin&) = delete;
  virtual ~CopyOrigin() = default;

  [[nodiscard]] virtual Source& source() = 0;

  // As it was published, or would have been; "files" are only those that a static image of another
  // snapshot is found by.
  [[nodiscard]] virtual Result<proto::Manifest> Manifest(const proto::SnapshotInfo& snapshot) = 0;

  // The records of the job's incarnations that there are, by their numbers.
  [[nodiscard]] virtual Result<std::vector<proto::IncarnationFile>> Incarnations(
      const proto::SnapshotInfo& snapshot) = 0;
};

[[nodiscard]] std::unique_ptr<CopyOrigin> OriginInFolder(storage_tiers::FileSystem& fs,
                                                         const std::string& root);
[[nodiscard]] std::unique_ptr<CopyOrigin> OriginInState(std::unique_ptr<StateSource> state);

}  // namespace holdfast::cli
