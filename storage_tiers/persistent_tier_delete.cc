// Removing snapshots: renamed first, looked at again, then removed, so that at every moment a
// snapshot is whole or gone, and one that a new incarnation has just chosen comes back.
#include <algorithm>
#include <utility>

#include "common/failpoint.h"
#include "layout/names.h"
#include "storage_tiers/atomic_publish.h"
#include "storage_tiers/persistent_tier.h"
#include "storage_tiers/persistent_tier_names.h"
#include "storage_tiers/retention.h"

namespace holdfast::storage_tiers {

// What must not be deleted now, as the tier's own records say.
struct PersistentTier::Needs {
  std::uint64_t highest = 0;
  // The newest incarnation's, where it exists.
  std::optional<proto::IncarnationFile> record;
  std::optional<proto::SnapshotId> newest_published;
  // Manifests of all published snapshots, for the static images that they share.
  std::vector<proto::Manifest> manifests;

  [[nodiscard]] bool NamedByRecord(const proto::SnapshotId& id) const {
    if (!record) {
      return false;
    }
    const proto::RestoreDecision& decision = record->decision();
    // Until the commit it may still choose any older one, and may have seen it in a listing.
    return (!decision.committed() && id.incarnation() < record->number()) ||
           (decision.has_choice() && SameSnapshot(decision.choice(), id)) ||
           (decision.has_fallback() && SameSnapshot(decision.fallback(), id));
  }

  [[nodiscard]] bool ImageInUse(const proto::SnapshotId& id) const {
    const std::string folder = layout::SnapshotFolderName(id) + "/";
    return std::any_of(manifests.begin(), manifests.end(), [&](const proto::Manifest& manifest) {
      return !SameSnapshot(manifest.id(), id) &&
             std::any_of(manifest.files().begin(), manifest.files().end(), [&](const auto& file) {
               return file.path().starts_with(folder);
             });
    });
  }

  // True for the newest published one, or where none is published.
  [[nodiscard]] bool NothingNewerThan(const proto::SnapshotId& id) const {
    return !newest_published || !OlderThan(id, *newest_published);
  }
};

namespace {

std::string TrashName(const std::string& folder) {
  return std::string(kTrashPrefix) + folder;
}

Error StillNeeded(const std::string& path, const std::string& why) {
  return Error(Errc::kUnavailable, path + ": not deleted, " + why);
}

}  // namespace

Result<PersistentTier::Needs> PersistentTier::ReadNeeds(const std::string& job) {
  Needs needs;
  HF_TRY(needs.highest, HighestIncarnation(job));
  if (needs.highest != 0) {
    HF_TRY(needs.record, ReadIncarnation(job, needs.highest));
    if (!needs.record) {
      return Error(Errc::kUnavailable,
                   IncarnationFolder(job) + ": a record vanished while it was read; try again");
    }
  }
  HF_TRY(const auto file, ReadJob(job));
  if (!file) {
    return Error(Errc::kNotFound, JobFolder(job) + ": no such job on this tier");
  }
  HF_TRY(const auto entries, fs_.List(JobFolder(job)));
  for (const FolderEntry& entry : entries) {
    const auto id = layout::ParseSnapshotFolderName(entry.name, file->job_uid());
    if (!id || entry.kind != FileKind::kFolder) {
      continue;
    }
    Result<proto::Manifest> manifest = ReadManifest(job, id.value());
    if (manifest) {
      if (needs.NothingNewerThan(id.value())) {
        needs.newest_published = id.value();
      }
      needs.manifests.push_back(std::move(manifest).value());
    } else if (manifest.error().code != Errc::kNotFound &&
               manifest.error().code != Errc::kCorruption) {
      // What could not be read, or only by newer software, may be what needs this one.
      return manifest.error();
    }
  }
  return needs;
}

Status PersistentTier::RefuseIfNeeded(const std::string& job,
                                      const proto::SnapshotId& id,
                                      const Needs& needs) {
  const std::string folder = SnapshotFolder(job, id);
  // What was never published was never restored from here: a half flush that a crash left of the
  // very snapshot that was then restored from memory may go.
  HF_TRY(const bool has_manifest, Exists(fs_, JoinPath(folder, kManifestFileName)));
  if (has_manifest && needs.NamedByRecord(id)) {
    return StillNeeded(folder,
                       "incarnation " + std::to_string(needs.highest) +
                           " restored it or has not committed its restore");
  }
  if (needs.ImageInUse(id)) {
    return StillNeeded(folder, "a newer snapshot uses its static image");
  }
  const bool published =
      std::any_of(needs.manifests.begin(), needs.manifests.end(), [&](const proto::Manifest& m) {
        return SameSnapshot(m.id(), id);
      });
  // I3: the last durable snapshot stays.
  if (published && needs.NothingNewerThan(id)) {
    return StillNeeded(folder, "it is the newest durable snapshot");
  }
  return Ok();
}

Status PersistentTier::MoveToTrash(const std::string& job, const std::string& folder) {
  HF_TRYV(
      fs_.Rename(JoinPath(JobFolder(job), folder), JoinPath(JobFolder(job), TrashName(folder))));
  return fs_.SyncFolder(JobFolder(job));
}

Status PersistentTier::TakeBack(const std::string& job, const std::string& folder) {
  HF_TRYV(
      fs_.Rename(JoinPath(JobFolder(job), TrashName(folder)), JoinPath(JobFolder(job), folder)));
  return fs_.SyncFolder(JobFolder(job));
}

// The manifest goes first, durably: should the folder be taken back by somebody in this moment, or
// the power fail, it must not name files that are gone.
Status PersistentTier::RemoveTrash(const std::string& job, const std::string& folder) {
  const std::string trash = JoinPath(JobFolder(job), TrashName(folder));
  HF_TRYV(UnlinkIfPresent(fs_, JoinPath(trash, kManifestFileName)));
  Status synced = fs_.SyncFolder(trash);
  if (!synced && synced.error().code == Errc::kNotFound) {
    return Ok();  // another node's clean-up was faster
  }
  HF_TRYV(std::move(synced));
  HOLDFAST_FAILPOINT("delete.before_tree");
  HF_TRYV(RemoveTree(fs_, trash));
  return fs_.SyncFolder(JobFolder(job));
}

Status PersistentTier::Delete(const std::string& job,
                              const proto::SnapshotId& id,
                              std::uint64_t epoch,
                              std::uint64_t token) {
  HF_TRYV(layout::ValidateSnapshotId(id));
  HF_TRYV(CheckJob(job, id.job_uid()));
  HF_TRYV(CheckEpoch(job, epoch, token));
  if (id.incarnation() > epoch) {
    return Error(Errc::kFenced,
                 SnapshotFolder(job, id) + ": is of a newer incarnation than " +
                     std::to_string(epoch) + "; stop");
  }
  const std::string folder = layout::SnapshotFolderName(id);
  HF_TRY(const bool in_trash, Exists(fs_, JoinPath(JobFolder(job), TrashName(folder))));
  if (in_trash) {
    CleanUpReport report;
    HF_TRYV(SettleTrash(job, folder, report));
  }
  HF_TRY(const bool exists, Exists(fs_, SnapshotFolder(job, id)));
  if (!exists && !in_trash) {
    return Error(Errc::kNotFound, SnapshotFolder(job, id) + ": no such snapshot");
  }
  if (!exists) {
    return Ok();
  }
  HF_TRY(const Needs needs, ReadNeeds(job));
  HF_TRYV(RefuseIfNeeded(job, id, needs));
  HF_TRY(const bool had_manifest,
         Exists(fs_, JoinPath(SnapshotFolder(job, id), kManifestFileName)));

  HF_TRYV(MoveToTrash(job, folder));
  HOLDFAST_FAILPOINT("delete.after_rename");
  Status unneeded = RefuseTrashIfNeeded(job, id, epoch, token, had_manifest);
  if (!unneeded) {
    HF_TRYV(TakeBack(job, folder));
    return unneeded;
  }
  return RemoveTrash(job, folder);
}

// An incarnation that started since the first look may have seen the snapshot before the rename and
// chosen it; one that starts from now on does not see it.
Status PersistentTier::RefuseTrashIfNeeded(const std::string& job,
                                           const proto::SnapshotId& id,
                                           std::uint64_t epoch,
                                           std::uint64_t token,
                                           bool had_manifest) {
  const std::string folder = SnapshotFolder(job, id);
  HF_TRYV(CheckEpoch(job, epoch, token));
  HF_TRY(const Needs needs, ReadNeeds(job));
  if ((had_manifest && needs.NamedByRecord(id)) || needs.ImageInUse(id)) {
    return StillNeeded(folder, "a newer record or snapshot needs it");
  }
  const std::string trash = JoinPath(JobFolder(job), TrashName(layout::SnapshotFolderName(id)));
  HF_TRY(const bool has_manifest, Exists(fs_, JoinPath(trash, kManifestFileName)));
  if (has_manifest && !had_manifest) {
    return StillNeeded(folder, "it was published in this moment");
  }
  // Another deletion may have taken the newer one that made this one dispensable.  One whose
  // manifest cannot be read was no durable snapshot before, so nothing is lost with it.
  const Result<proto::Manifest> manifest = ReadManifestIn(trash, job, id);
  if (manifest && needs.NothingNewerThan(id)) {
    return StillNeeded(folder, "it is the newest durable snapshot");
  }
  return Ok();
}

Status PersistentTier::SettleTrash(const std::string& job,
                                   const std::string& folder,
                                   CleanUpReport& report) {
  const std::string trash = JoinPath(JobFolder(job), TrashName(folder));
  HF_TRY(const auto file, ReadJob(job));
  if (!file) {
    return Error(Errc::kNotFound, JobFolder(job) + ": no such job on this tier");
  }
  const auto id = layout::ParseSnapshotFolderName(folder, file->job_uid());
  HF_TRY(const bool lives, Exists(fs_, JoinPath(JobFolder(job), folder)));
  HF_TRY(const bool whole, Exists(fs_, JoinPath(trash, kManifestFileName)));
  // Without its manifest it is the rest of a removal; and a folder of the name was written again.
  if (id && !lives && whole) {
    HF_TRY(const Needs needs, ReadNeeds(job));
    if (needs.NamedByRecord(id.value()) || needs.ImageInUse(id.value()) ||
        needs.NothingNewerThan(id.value())) {
      HF_TRYV(TakeBack(job, folder));
      report.restored.push_back(JoinPath(JobFolder(job), folder));
      return Ok();
    }
  }
  HF_TRYV(RemoveTrash(job, folder));
  report.removed.push_back(trash);
  return Ok();
}

Status PersistentTier::RemoveGivenUp(const std::string& job,
                                     const proto::SnapshotId& id,
                                     CleanUpReport& report) {
  HF_TRYV(layout::ValidateSnapshotId(id));
  HF_TRYV(CheckJob(job, id.job_uid()));
  const std::string folder = layout::SnapshotFolderName(id);
  HF_TRY(const bool exists, Exists(fs_, SnapshotFolder(job, id)));
  if (!exists) {
    return Ok();
  }
  HF_TRY(const Needs needs, ReadNeeds(job));
  HF_TRY(const bool published, Exists(fs_, JoinPath(SnapshotFolder(job, id), kManifestFileName)));
  if (published || needs.ImageInUse(id)) {
    return StillNeeded(SnapshotFolder(job, id), "it is published, or its static image is in use");
  }
  HF_TRYV(MoveToTrash(job, folder));
  // Once renamed it cannot be published any more: a manifest is there now or never.
  const std::string trash = JoinPath(JobFolder(job), TrashName(folder));
  HF_TRY(const bool too_late, Exists(fs_, JoinPath(trash, kManifestFileName)));
  if (too_late) {
    HF_TRYV(TakeBack(job, folder));
    return StillNeeded(SnapshotFolder(job, id), "it was published in this moment");
  }
  HF_TRYV(RemoveTrash(job, folder));
  report.removed.push_back(SnapshotFolder(job, id));
  return Ok();
}

Result<CleanUpReport> PersistentTier::CleanUp(const std::string& job,
                                              std::span<const proto::SnapshotId> given_up) {
  HF_TRYV(layout::ValidateJobName(job));
  CleanUpReport report;
  // Names first, records after: what is in the trash by then is invisible to every incarnation
  // whose record is not seen here.
  HF_TRY(const auto entries, fs_.List(JobFolder(job)));
  for (const FolderEntry& entry : entries) {
    if (entry.name.starts_with(kTrashPrefix) && entry.kind == FileKind::kFolder) {
      const Status settled = SettleTrash(job, entry.name.substr(kTrashPrefix.size()), report);
      if (!settled) {
        report.problems.push_back(settled.error());
      }
    }
  }
  for (const proto::SnapshotId& id : given_up) {
    const Status removed = RemoveGivenUp(job, id, report);
    if (!removed) {
      report.problems.push_back(removed.error());
    }
  }
  // A live writer whose temporary file is taken here writes it again (atomic_publish.h).  Those of
  // unpublished snapshots stay: they may be images that are growing.
  RemoveTemporaries(JobFolder(job), &report.removed);
  RemoveTemporaries(IncarnationFolder(job), &report.removed);
  return report;
}

}  // namespace holdfast::storage_tiers
