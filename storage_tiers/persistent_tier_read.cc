// Finding and reading snapshots.  Everything read here may be damaged or hostile.
#include <algorithm>
#include <limits>
#include <utility>

#include "layout/manifest.h"
#include "layout/names.h"
#include "layout/sidecar.h"
#include "storage_tiers/atomic_publish.h"
#include "storage_tiers/file_system_verify.h"
#include "storage_tiers/persistent_tier.h"
#include "storage_tiers/persistent_tier_names.h"
#include "storage_tiers/retention.h"

namespace holdfast::storage_tiers {

namespace {

// Snapshot folder, rank subfolder.
constexpr int kFolderLevels = 2;

ByteCount SaturatingAdd(ByteCount a, ByteCount b) {
  return b > std::numeric_limits<ByteCount>::max() - a ? std::numeric_limits<ByteCount>::max()
                                                       : a + b;
}

bool KnownName(const std::string& name) {
  return name == kJobFileName || name == kIncarnationsFolderName || name == kLatestFileName ||
         name.starts_with(kTrashPrefix) || name.starts_with(kTemporaryPrefix);
}

ByteCount OwnBytes(const proto::Manifest& manifest) {
  const std::string own = layout::SnapshotFolderName(manifest.id()) + "/";
  ByteCount bytes = 0;
  for (const proto::ManifestFile& file : manifest.files()) {
    if (file.path().starts_with(own)) {
      bytes = SaturatingAdd(bytes, file.length_bytes());
    }
  }
  return bytes;
}

}  // namespace

Result<ByteCount> PersistentTier::BytesBelow(const std::string& folder, int depth) {
  ByteCount bytes = 0;
  HF_TRY(const auto entries, fs_.List(folder));
  for (const FolderEntry& entry : entries) {
    const std::string path = JoinPath(folder, entry.name);
    if (entry.kind == FileKind::kFile) {
      const Result<FileInfo> info = fs_.Stat(path);
      if (!info && info.error().code == Errc::kNotFound) {
        continue;  // a temporary file that got its name meanwhile
      }
      HF_TRYV(info);
      bytes = SaturatingAdd(bytes, info.value().size_bytes);
    } else if (entry.kind == FileKind::kFolder && depth > 1) {
      HF_TRY(const ByteCount below, BytesBelow(path, depth - 1));
      bytes = SaturatingAdd(bytes, below);
    }
  }
  return bytes;
}

SnapshotEntry PersistentTier::Inspect(const std::string& job, const proto::SnapshotId& id) {
  SnapshotEntry entry;
  entry.id = id;
  const Result<proto::Manifest> manifest = ReadManifest(job, id);
  if (manifest) {
    entry.published = true;
    entry.bytes = OwnBytes(manifest.value());
    return entry;
  }
  if (manifest.error().code != Errc::kNotFound) {
    entry.problem = manifest.error();
  }
  const Result<ByteCount> bytes = BytesBelow(SnapshotFolder(job, id), kFolderLevels);
  if (bytes) {
    entry.bytes = bytes.value();
  } else if (!entry.problem) {
    entry.problem = bytes.error();
  }
  return entry;
}

Result<SnapshotListing> PersistentTier::ListSnapshots(const std::string& job) {
  HF_TRY(const auto file, ReadJob(job));
  if (!file) {
    return Error(Errc::kNotFound, JobFolder(job) + ": no such job on this tier");
  }
  HF_TRY(const auto entries, fs_.List(JobFolder(job)));
  SnapshotListing listing;
  for (const FolderEntry& entry : entries) {
    const auto id = layout::ParseSnapshotFolderName(entry.name, file->job_uid());
    if (id && entry.kind == FileKind::kFolder) {
      listing.snapshots.push_back(Inspect(job, id.value()));
    } else if (!KnownName(entry.name)) {
      listing.unknown_names.push_back(entry.name);
    }
  }
  std::sort(listing.snapshots.begin(),
            listing.snapshots.end(),
            [](const SnapshotEntry& a, const SnapshotEntry& b) { return OlderThan(a.id, b.id); });
  return listing;
}

Result<proto::Manifest> PersistentTier::ReadManifest(const std::string& job,
                                                     const proto::SnapshotId& id) {
  HF_TRYV(layout::ValidateJobName(job));
  HF_TRYV(layout::ValidateSnapshotId(id));
  return ReadManifestIn(SnapshotFolder(job, id), job, id);
}

Result<proto::Manifest> PersistentTier::ReadManifestIn(const std::string& folder,
                                                       const std::string& job,
                                                       const proto::SnapshotId& id) {
  const std::string path = JoinPath(folder, kManifestFileName);
  HF_TRY(const std::string json, ReadSmallFile(fs_, path, layout::kMaxManifestFileBytes));
  Result<proto::Manifest> manifest = layout::DecodeManifest(AsBytes(json));
  if (!manifest) {
    return std::move(manifest).error().WithContext(path);
  }
  if (!SameSnapshot(manifest.value().id(), id) || manifest.value().job_name() != job) {
    return Error(Errc::kCorruption,
                 path +
                     ": is the manifest of another snapshot or job; folders of a tier must not "
                     "be renamed or copied");
  }
  return manifest;
}

Result<proto::Sidecar> PersistentTier::ReadSidecar(const std::string& job,
                                                   const proto::SnapshotId& id,
                                                   std::uint32_t rank,
                                                   std::uint32_t world_size) {
  HF_TRYV(layout::ValidateJobName(job));
  HF_TRYV(layout::ValidateSnapshotId(id));
  HF_TRYV(layout::ValidateRank(rank, world_size));
  const std::string path =
      JoinPath(SnapshotFolder(job, id), layout::SidecarFileName(rank, world_size));
  HF_TRY(const std::string meta, ReadSmallFile(fs_, path, layout::kMaxSidecarFileBytes));
  Result<proto::Sidecar> sidecar = layout::DecodeSidecarFile(AsBytes(meta));
  if (!sidecar) {
    return std::move(sidecar).error().WithContext(path);
  }
  const proto::Sidecar& s = sidecar.value();
  if (!SameSnapshot(s.id(), id) || s.job_name() != job || s.rank() != rank ||
      s.world_size() != world_size) {
    return Error(Errc::kCorruption, path + ": is the sidecar of another shard");
  }
  return sidecar;
}

Result<std::string> PersistentTier::ImagePath(const proto::Sidecar& sidecar,
                                              const proto::ImageDigest& digest) {
  if (!digest.has_owner() || SameSnapshot(digest.owner(), sidecar.id())) {
    return JoinPath(SnapshotFolder(sidecar.job_name(), sidecar.id()),
                    layout::RankFileName(sidecar.rank(), sidecar.world_size(), digest.kind()));
  }
  // Only the manifest knows which rank of which world wrote it; its paths were validated.
  HF_TRY(const proto::Manifest manifest, ReadManifest(sidecar.job_name(), sidecar.id()));
  for (const proto::ManifestFile& file : manifest.files()) {
    if (file.rank() == sidecar.rank() && file.kind() == digest.kind()) {
      return JoinPath(JobFolder(sidecar.job_name()), file.path());
    }
  }
  return Error(Errc::kCorruption,
               SnapshotFolder(sidecar.job_name(), sidecar.id()) +
                   ": the manifest does not name an image that the sidecar has");
}

Status PersistentTier::ReadImage(const proto::Sidecar& sidecar,
                                 proto::ImageKind kind,
                                 MutableByteView destination,
                                 const ImageIoOptions& options,
                                 std::vector<std::uint64_t>* bad_chunks) {
  bad_chunks->clear();
  HF_TRYV(layout::ValidateSidecar(sidecar));
  for (const proto::ImageDigest& digest : sidecar.images()) {
    if (digest.kind() != kind) {
      continue;
    }
    if (digest.length_bytes() != destination.size()) {
      return Error(Errc::kInvalidArgument,
                   "read: destination of " + std::to_string(destination.size()) +
                       " bytes for an image of " + std::to_string(digest.length_bytes()));
    }
    HF_TRY(const std::string path, ImagePath(sidecar, digest));
    const std::span<const std::uint32_t> digests(
        digest.chunk_crc32c().data(), static_cast<std::size_t>(digest.chunk_crc32c().size()));
    return VerifyingRead(fs_, path, destination, digests, options, bad_chunks);
  }
  return Error(Errc::kNotFound, "read: the shard has no image of this kind");
}

}  // namespace holdfast::storage_tiers
