// Removes a snapshot that PersistentTier::Delete keeps because a restore may need it: the user has
// said --force.
//
// Still refused: a snapshot whose frozen tensors other snapshots share, since removing it would
// break those without anybody having asked for it.
//
// Threads:   one thread; nobody may train the job meanwhile (the command says so).
// Errors:    kPermission for what stays refused; else the failed call's.
// Durability: the first rename is synced before anything is deleted: the snapshot is whole or gone.
//            After a crash in between, a daemon's clean-up may bring it back.
#pragma once

#include <string>

#include "common/result.h"
#include "proto/manifest.pb.h"
#include "storage_tiers/file_system.h"
#include "storage_tiers/persistent_tier.h"

namespace holdfast::cli {

// kPermission if a manifest of another snapshot names a file in the folder: what --force refuses.
[[nodiscard]] Status RefuseShared(storage_tiers::PersistentTier& tier,
                                  const std::string& job,
                                  const proto::SnapshotId& id);

[[nodiscard]] Status ForceRemove(storage_tiers::FileSystem& fs,
                                 storage_tiers::PersistentTier& tier,
                                 const std::string& job,
                                 const proto::SnapshotId& id);

}  // namespace holdfast::cli
