#include "cli/force_remove.h"

#include "cli/text.h"
#include "layout/names.h"
#include "storage_tiers/persistent_tier_names.h"
#include "storage_tiers/retention.h"

namespace holdfast::cli {

Status RefuseShared(storage_tiers::PersistentTier& tier,
                    const std::string& job,
                    const proto::SnapshotId& id) {
  const std::string folder = layout::SnapshotFolderName(id) + "/";
  HF_TRY(const storage_tiers::SnapshotListing listing, tier.ListSnapshots(job));
  for (const storage_tiers::SnapshotEntry& entry : listing.snapshots) {
    if (!entry.published || storage_tiers::SameSnapshot(entry.id, id)) {
      continue;
    }
    HF_TRY(const proto::Manifest manifest, tier.ReadManifest(job, entry.id));
    for (const proto::ManifestFile& file : manifest.files()) {
      if (file.path().starts_with(folder)) {
        return Error(Errc::kPermission,
                     job + " " + IdText(id) + " has frozen tensors that " + IdText(entry.id) +
                         " shares: remove that one first");
      }
    }
  }
  return Ok();
}

Status ForceRemove(storage_tiers::FileSystem& fs,
                   storage_tiers::PersistentTier& tier,
                   const std::string& job,
                   const proto::SnapshotId& id) {
  HF_TRYV(RefuseShared(tier, job, id));
  const std::string job_folder = storage_tiers::JoinPath(tier.root(), job);
  const std::string name = layout::SnapshotFolderName(id);
  const std::string trash =
      storage_tiers::JoinPath(job_folder, std::string(storage_tiers::kTrashPrefix) + name);
  HF_TRYV(fs.Rename(storage_tiers::JoinPath(job_folder, name), trash));
  HF_TRYV(fs.SyncFolder(job_folder));
  // Before anything that it names: a daemon takes back what it finds with a manifest (I6).
  HF_TRYV(storage_tiers::UnlinkIfPresent(
      fs, storage_tiers::JoinPath(trash, std::string(storage_tiers::kManifestFileName))));
  HF_TRYV(fs.SyncFolder(trash));
  HF_TRYV(storage_tiers::RemoveTree(fs, trash));
  return fs.SyncFolder(job_folder);
}

}  // namespace holdfast::cli
