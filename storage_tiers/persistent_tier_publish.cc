// Making a snapshot durable for everybody: all files looked at again, then one link.
#include <set>
#include <utility>

#include "common/crc32c.h"
#include "common/failpoint.h"
#include "common/log.h"
#include "layout/manifest.h"
#include "layout/names.h"
#include "layout/sidecar.h"
#include "storage_tiers/atomic_publish.h"
#include "storage_tiers/persistent_tier.h"
#include "storage_tiers/persistent_tier_names.h"
#include "storage_tiers/retention.h"

namespace holdfast::storage_tiers {

namespace {

constexpr ByteCount kMaxLatestBytes = 4096;

Error Damaged(const std::string& path, const std::string& what) {
  return Error(Errc::kCorruption, path + ": not published, " + what + "; flush this shard again");
}

const proto::ImageDigest* FindDigest(const proto::Sidecar& sidecar, proto::ImageKind kind) {
  for (const proto::ImageDigest& digest : sidecar.images()) {
    if (digest.kind() == kind) {
      return &digest;
    }
  }
  return nullptr;
}

bool SameDigests(const proto::ImageDigest& a, const proto::ImageDigest& b) {
  return a.length_bytes() == b.length_bytes() && std::equal(a.chunk_crc32c().begin(),
                                                            a.chunk_crc32c().end(),
                                                            b.chunk_crc32c().begin(),
                                                            b.chunk_crc32c().end());
}

Status CheckSize(FileSystem& fs, const std::string& path, ByteCount expected) {
  HF_TRY(const FileInfo info, fs.Stat(path));
  if (info.kind != FileKind::kFile || info.size_bytes != expected) {
    return Damaged(path,
                   "it has " + std::to_string(info.size_bytes) + " bytes, the manifest says " +
                       std::to_string(expected));
  }
  return Ok();
}

// The two may differ in the time of their making, and in what was known of the parent: a
// coordinator that took over publishes again what its predecessor published, perhaps as its base.
bool SameManifest(const proto::Manifest& a, const proto::Manifest& b) {
  proto::Manifest x = a;
  proto::Manifest y = b;
  x.clear_created_unix_ms();
  y.clear_created_unix_ms();
  x.clear_parent();
  y.clear_parent();
  const Result<std::string> x_json = layout::EncodeManifest(x);
  const Result<std::string> y_json = layout::EncodeManifest(y);
  return x_json && y_json && x_json.value() == y_json.value();
}

}  // namespace

// The owner's sidecar, not only the file's size, must vouch for an image that another snapshot
// owns.
Status PersistentTier::CheckSharedImage(const proto::Manifest& manifest,
                                        const proto::ManifestFile& file,
                                        const proto::ImageDigest& digest) {
  const std::string path = JoinPath(JobFolder(manifest.job_name()), file.path());
  const std::string& name = file.path();
  if (name.substr(0, name.find('/')) != layout::SnapshotFolderName(digest.owner())) {
    return Damaged(path, "the sidecar names another owner of this image");
  }
  const std::string suffix = ".static.safetensors";
  if (!path.ends_with(suffix)) {
    return Damaged(path, "only static images are shared");
  }
  const std::string meta_path = path.substr(0, path.size() - suffix.size()) + ".meta";
  HF_TRY(const std::string meta, ReadSmallFile(fs_, meta_path, layout::kMaxSidecarFileBytes));
  const Result<proto::Sidecar> owner = layout::DecodeSidecarFile(AsBytes(meta));
  if (!owner) {
    return Damaged(meta_path, owner.error().message);
  }
  const proto::ImageDigest* owned = FindDigest(owner.value(), proto::STATIC);
  if (!SameSnapshot(owner.value().id(), digest.owner()) || owned == nullptr ||
      (owned->has_owner() && !SameSnapshot(owned->owner(), digest.owner())) ||
      !SameDigests(*owned, digest)) {
    return Damaged(path, "the owner's sidecar describes another image");
  }
  return Ok();
}

// "files" are the entries of one rank: they share a sidecar (layout::ValidateManifest).
Status PersistentTier::CheckRank(const proto::Manifest& manifest,
                                 std::span<const proto::ManifestFile* const> files) {
  const std::string job_folder = JobFolder(manifest.job_name());
  const proto::ManifestFile& first = *files.front();
  const std::string meta_path = JoinPath(job_folder, first.sidecar_path());
  HF_TRY(const std::string meta, ReadSmallFile(fs_, meta_path, layout::kMaxSidecarFileBytes));
  if (Crc32c(0, AsBytes(meta)) != first.sidecar_crc32c()) {
    return Damaged(meta_path, "its CRC32C is not the manifest's");
  }
  const Result<proto::Sidecar> decoded = layout::DecodeSidecarFile(AsBytes(meta));
  if (!decoded) {
    return Damaged(meta_path, decoded.error().message);
  }
  const proto::Sidecar& sidecar = decoded.value();
  // I8: shards of different snapshots, jobs or worlds never mix.
  if (!SameSnapshot(sidecar.id(), manifest.id()) || sidecar.job_name() != manifest.job_name() ||
      sidecar.rank() != first.rank() || sidecar.world_size() != manifest.world_size() ||
      sidecar.layout_hash() != first.layout_hash()) {
    return Damaged(meta_path, "it is the sidecar of another shard");
  }
  if (static_cast<std::size_t>(sidecar.images_size()) != files.size()) {
    return Damaged(meta_path, "the manifest leaves out one of its images");
  }
  for (const proto::ManifestFile* file : files) {
    const proto::ImageDigest* digest = FindDigest(sidecar, file->kind());
    const std::string path = JoinPath(job_folder, file->path());
    if (digest == nullptr || digest->length_bytes() != file->length_bytes()) {
      return Damaged(path, "the sidecar describes an image of another length");
    }
    HF_TRYV(CheckSize(fs_, path, file->length_bytes()));
    if (digest->has_owner() && !SameSnapshot(digest->owner(), manifest.id())) {
      HF_TRYV(CheckSharedImage(manifest, *file, *digest));
    } else if (ParentFolder(file->path()) != ParentFolder(file->sidecar_path())) {
      return Damaged(path, "the sidecar says that this snapshot owns the image");
    }
  }
  return Ok();
}

Status PersistentTier::CheckFiles(const proto::Manifest& manifest) {
  std::vector<const proto::ManifestFile*> of_rank;
  for (int i = 0; i < manifest.files_size(); ++i) {
    of_rank.push_back(&manifest.files(i));
    if (i + 1 < manifest.files_size() && manifest.files(i + 1).rank() == manifest.files(i).rank()) {
      continue;
    }
    HF_TRYV(CheckRank(manifest, of_rank));
    of_rank.clear();
  }
  return Ok();
}

// FlushShard synced them; a few more calls make the promise (I6) not depend on every caller's care.
Status PersistentTier::SyncFoldersOf(const proto::Manifest& manifest) {
  std::set<std::string> folders;
  for (const proto::ManifestFile& file : manifest.files()) {
    folders.insert(ParentFolder(file.path()));
    folders.insert(ParentFolder(file.sidecar_path()));
  }
  folders.insert(layout::SnapshotFolderName(manifest.id()));
  for (const std::string& folder : folders) {
    HF_TRYV(fs_.SyncFolder(JoinPath(JobFolder(manifest.job_name()), folder)));
  }
  return fs_.SyncFolder(JobFolder(manifest.job_name()));
}

Status PersistentTier::LinkManifest(const proto::Manifest& manifest, const std::string& json) {
  const std::string folder = SnapshotFolder(manifest.job_name(), manifest.id());
  Status published = PublishExclusive(fs_, folder, kManifestFileName, json);
  if (published || published.error().code != Errc::kAlreadyExists) {
    return published;
  }
  HF_TRY(const proto::Manifest there, ReadManifest(manifest.job_name(), manifest.id()));
  if (!SameManifest(there, manifest)) {
    return Error(Errc::kAlreadyExists,
                 folder + ": is published with another manifest; nothing was changed");
  }
  return fs_.SyncFolder(folder);
}

void PersistentTier::AdvanceLatest(const proto::Manifest& manifest) {
  const std::string& job = manifest.job_name();
  const std::string path = JoinPath(JobFolder(job), kLatestFileName);
  const Result<std::string> there = ReadSmallFile(fs_, path, kMaxLatestBytes);
  if (there) {
    const std::string name = there.value().substr(0, there.value().find('\n'));
    const auto id = layout::ParseSnapshotFolderName(name, manifest.id().job_uid());
    if (id && !OlderThan(id.value(), manifest.id())) {
      return;
    }
  }
  const std::string text = layout::SnapshotFolderName(manifest.id()) + "\n";
  const Status replaced = ReplaceAtomically(fs_, JobFolder(job), kLatestFileName, text);
  if (!replaced) {
    LogWarning("tier.latest", "not updated, which is harmless: " + replaced.error().ToString());
  }
}

// Best effort: what is left takes space, nothing else.
void PersistentTier::RemoveTemporaries(const std::string& folder,
                                       std::vector<std::string>* removed) {
  const Result<std::vector<FolderEntry>> entries = fs_.List(folder);
  if (!entries) {
    return;
  }
  for (const FolderEntry& entry : entries.value()) {
    if (entry.kind == FileKind::kFile && entry.name.starts_with(kTemporaryPrefix)) {
      const std::string path = JoinPath(folder, entry.name);
      if (fs_.Unlink(path)) {
        removed->push_back(path);
      }
    }
  }
}

Status PersistentTier::PublishManifest(const proto::Manifest& manifest,
                                       std::uint64_t epoch,
                                       std::uint64_t token) {
  HF_TRY(const std::string json, layout::EncodeManifest(manifest));
  if (manifest.id().incarnation() > epoch) {
    return Error(Errc::kFenced,
                 "publish: the snapshot is of incarnation " +
                     std::to_string(manifest.id().incarnation()) + ", we are " +
                     std::to_string(epoch) + "; stop");
  }
  HF_TRYV(CheckJob(manifest.job_name(), manifest.id().job_uid()));
  HF_TRYV(CheckEpoch(manifest.job_name(), epoch, token));
  HF_TRYV(CheckFiles(manifest));
  HF_TRYV(SyncFoldersOf(manifest));
  HOLDFAST_FAILPOINT("publish.before_link");
  // Again: looking at thousands of files takes time enough for a new incarnation to start.
  HF_TRYV(CheckEpoch(manifest.job_name(), epoch, token));
  HF_TRYV(LinkManifest(manifest, json));
  AdvanceLatest(manifest);
  // Attempts that died left them; no attempt can need one any more.
  std::vector<std::string> removed;
  std::set<std::string> folders;
  for (const proto::ManifestFile& file : manifest.files()) {
    folders.insert(ParentFolder(file.sidecar_path()));
  }
  folders.insert(layout::SnapshotFolderName(manifest.id()));
  for (const std::string& folder : folders) {
    RemoveTemporaries(JoinPath(JobFolder(manifest.job_name()), folder), &removed);
  }
  return Ok();
}

}  // namespace holdfast::storage_tiers
