// Writing one shard: images, then the sidecar that vouches for them.
#include <algorithm>
#include <optional>
#include <utility>

#include "common/crc32c.h"
#include "common/failpoint.h"
#include "common/random.h"
#include "layout/names.h"
#include "layout/sidecar.h"
#include "storage_tiers/atomic_publish.h"
#include "storage_tiers/file_system_verify.h"
#include "storage_tiers/persistent_tier.h"
#include "storage_tiers/persistent_tier_names.h"
#include "storage_tiers/retention.h"

namespace holdfast::storage_tiers {

namespace {

bool OwnedBySelf(const proto::Sidecar& sidecar, const proto::ImageDigest& digest) {
  return !digest.has_owner() || SameSnapshot(digest.owner(), sidecar.id());
}

// That exactly the images that this snapshot owns are given, with their lengths.
Status CheckImages(const proto::Sidecar& sidecar, std::span<const ShardImage> images) {
  std::size_t matched = 0;
  for (const proto::ImageDigest& digest : sidecar.images()) {
    const auto count = std::count_if(images.begin(), images.end(), [&](const ShardImage& image) {
      return image.kind == digest.kind();
    });
    const bool owned = OwnedBySelf(sidecar, digest);
    if (count != (owned ? 1 : 0)) {
      return Error(Errc::kInvalidArgument,
                   "flush: " + std::to_string(count) + " images of kind " +
                       proto::ImageKind_Name(digest.kind()) + " given, the sidecar wants " +
                       (owned ? "one" : "none, another snapshot owns it"));
    }
    matched += static_cast<std::size_t>(count);
  }
  if (matched != images.size()) {
    return Error(Errc::kInvalidArgument, "flush: an image is given that the sidecar does not name");
  }
  for (const ShardImage& image : images) {
    for (const proto::ImageDigest& digest : sidecar.images()) {
      if (digest.kind() == image.kind && digest.length_bytes() != image.bytes.size()) {
        return Error(Errc::kInvalidArgument,
                     "flush: image of " + std::to_string(image.bytes.size()) +
                         " bytes, the sidecar says " + std::to_string(digest.length_bytes()));
      }
    }
  }
  return Ok();
}

std::span<const std::uint32_t> DigestsOf(const proto::ImageDigest& digest) {
  return {digest.chunk_crc32c().data(), static_cast<std::size_t>(digest.chunk_crc32c().size())};
}

std::string LastComponent(const std::string& path) {
  return path.substr(path.rfind('/') + 1);
}

std::string RankImageName(const proto::Sidecar& sidecar, proto::ImageKind kind) {
  return layout::RankFileName(sidecar.rank(), sidecar.world_size(), kind);
}

std::string RankSidecarName(const proto::Sidecar& sidecar) {
  return layout::SidecarFileName(sidecar.rank(), sidecar.world_size());
}

// Whether a file's content means what "meta" does; another version may have encoded it differently.
bool SameSidecar(const std::string& there, const std::string& meta) {
  if (there == meta) {
    return true;
  }
  const Result<proto::Sidecar> decoded = layout::DecodeSidecarFile(AsBytes(there));
  if (!decoded) {
    return false;
  }
  const Result<std::string> encoded = layout::EncodeSidecarFile(decoded.value());
  return encoded && encoded.value() == meta;
}

// Whether the file holds these bytes, by reading it block by block.
Result<bool> FileMatches(FileSystem& fs,
                         const std::string& path,
                         const proto::ImageDigest& digest,
                         const ImageIoOptions& options) {
  HF_TRY(const auto file, fs.OpenForRead(path));
  HF_TRY(const ByteCount size, file->Size());
  if (size != digest.length_bytes()) {
    return false;
  }
  std::vector<std::byte> chunk(std::min<ByteCount>(kChunkBytes, size));
  for (ByteCount offset = 0; offset < size; offset += kChunkBytes) {
    if (options.cancel != nullptr && options.cancel->load(std::memory_order_relaxed)) {
      return Error(Errc::kCancelled, path + ": flush cancelled");
    }
    const MutableByteView part =
        std::span(chunk).first(std::min<ByteCount>(kChunkBytes, size - offset));
    HF_TRYV(file->ReadAt(offset, part));
    if (Crc32c(0, part) != DigestsOf(digest)[offset / kChunkBytes]) {
      return false;
    }
  }
  return true;
}

}  // namespace

Status PersistentTier::CreateShardFolders(const proto::Sidecar& sidecar) {
  const std::string folder = SnapshotFolder(sidecar.job_name(), sidecar.id());
  HF_TRYV(CreateFolderIfMissing(fs_, folder));
  const std::string subfolder = ParentFolder(JoinPath(folder, RankSidecarName(sidecar)));
  return subfolder == folder ? Ok() : CreateFolderIfMissing(fs_, subfolder);
}

// After a try that failed: rmdir takes only what is empty, and whoever is about to put a file there
// makes the folders anew with its next try.  What a crash leaves is found as an unfinished
// snapshot.
void PersistentTier::RemoveEmptyShardFolders(const proto::Sidecar& sidecar) {
  const std::string folder = SnapshotFolder(sidecar.job_name(), sidecar.id());
  const std::string subfolder = ParentFolder(JoinPath(folder, RankSidecarName(sidecar)));
  const Status inner = subfolder == folder ? Ok() : fs_.RemoveFolder(subfolder);
  if (inner) {
    static_cast<void>(fs_.RemoveFolder(folder));
  }
}

// Inside out, always all: a folder that another daemon created may not have been synced by it.
Status PersistentTier::SyncShardFolders(const proto::Sidecar& sidecar) {
  const std::string folder = SnapshotFolder(sidecar.job_name(), sidecar.id());
  const std::string subfolder = ParentFolder(JoinPath(folder, RankSidecarName(sidecar)));
  if (subfolder != folder) {
    HF_TRYV(fs_.SyncFolder(subfolder));
  }
  HF_TRYV(fs_.SyncFolder(folder));
  return fs_.SyncFolder(JobFolder(sidecar.job_name()));
}

Result<std::optional<std::string>> PersistentTier::FinishedBefore(const proto::Sidecar& sidecar,
                                                                  const std::string& meta) {
  const std::string folder = SnapshotFolder(sidecar.job_name(), sidecar.id());
  const std::string path = JoinPath(folder, RankSidecarName(sidecar));
  const Result<std::string> there = ReadSmallFile(fs_, path, layout::kMaxSidecarFileBytes);
  if (!there && there.error().code == Errc::kNotFound) {
    return std::optional<std::string>();
  }
  if (!there && there.error().code != Errc::kCorruption) {
    return there.error();
  }
  bool trusted = there && SameSidecar(there.value(), meta);
  for (const proto::ImageDigest& digest : sidecar.images()) {
    if (!trusted || !OwnedBySelf(sidecar, digest)) {
      continue;
    }
    const Result<FileInfo> info = fs_.Stat(JoinPath(folder, RankImageName(sidecar, digest.kind())));
    if (!info && info.error().code != Errc::kNotFound) {
      return info.error();
    }
    trusted = info && info.value().kind == FileKind::kFile &&
              info.value().size_bytes == digest.length_bytes();
  }
  if (trusted) {
    return std::optional<std::string>(there.value());
  }
  // Damaged, or of other contents.  It goes first, and durably: a sidecar must never stand beside
  // an image that it does not vouch for.
  HF_TRYV(UnlinkIfPresent(fs_, path));
  HF_TRYV(fs_.SyncFolder(ParentFolder(path)));
  return std::optional<std::string>();
}

// Only this rank's: others in the folder may be growing.  One of a daemon that is still at it fails
// at its link and starts again, with nothing lost but time.
Status PersistentTier::RemoveStaleTemporaries(const proto::Sidecar& sidecar) {
  const std::string meta =
      JoinPath(SnapshotFolder(sidecar.job_name(), sidecar.id()), RankSidecarName(sidecar));
  const std::string stem = LastComponent(meta);
  const std::string prefix = std::string(kTemporaryPrefix) + stem.substr(0, stem.find('.') + 1);
  HF_TRY(const auto entries, fs_.List(ParentFolder(meta)));
  for (const FolderEntry& entry : entries) {
    if (entry.name.starts_with(prefix)) {
      HF_TRYV(UnlinkIfPresent(fs_, JoinPath(ParentFolder(meta), entry.name)));
    }
  }
  return Ok();
}

Status PersistentTier::WriteShardImage(const proto::Sidecar& sidecar,
                                       const proto::ImageDigest& digest,
                                       ByteView bytes,
                                       const ImageIoOptions& options) {
  const std::string target = JoinPath(SnapshotFolder(sidecar.job_name(), sidecar.id()),
                                      RankImageName(sidecar, digest.kind()));
  HF_TRY(const bool exists, Exists(fs_, target));
  if (exists) {
    // Linked, so it was synced, but without a sidecar that vouches for it.
    HF_TRY(const bool good, FileMatches(fs_, target, digest, options));
    if (good) {
      return Ok();
    }
    HF_TRYV(UnlinkIfPresent(fs_, target));
  }
  const std::string unique = RandomUid();
  const std::string temporary = JoinPath(
      ParentFolder(target),
      std::string(kTemporaryPrefix) + LastComponent(target) + "-" + ToHex(AsBytes(unique)));
  Status written = FailpointStatus("flush.image");
  if (written) {
    written = VerifyingWrite(fs_, temporary, bytes, DigestsOf(digest), options);
  }
  HOLDFAST_FAILPOINT("flush.before_image_link");
  // Who cancelled may use the memory for something else already: what was read since is not ours.
  if (written && options.cancel != nullptr && options.cancel->load()) {
    written = Error(Errc::kCancelled, target + ": flush cancelled");
  }
  if (written) {
    written = fs_.Link(temporary, target);
  }
  // Also after a failed fsync: the file is never synced again and believed.
  Status unlinked = UnlinkIfPresent(fs_, temporary);
  if (!written && written.error().code == Errc::kAlreadyExists) {
    HF_TRY(const bool good, FileMatches(fs_, target, digest, options));
    if (good) {
      return Ok();  // another daemon of the same shard was faster
    }
    return Error(Errc::kUnavailable,
                 target + ": appeared meanwhile with other contents; flush again to replace it");
  }
  HF_TRYV(std::move(written));
  return unlinked;
}

Result<std::vector<proto::ManifestFile>> PersistentTier::EntriesOf(const proto::Sidecar& sidecar,
                                                                   const std::string& meta,
                                                                   const std::string& static_path) {
  const std::string folder = layout::SnapshotFolderName(sidecar.id());
  std::vector<proto::ManifestFile> entries;
  for (const proto::ImageDigest& digest : sidecar.images()) {
    proto::ManifestFile& entry = entries.emplace_back();
    entry.set_rank(sidecar.rank());
    entry.set_kind(digest.kind());
    entry.set_length_bytes(digest.length_bytes());
    entry.set_sidecar_path(JoinPath(folder, RankSidecarName(sidecar)));
    entry.set_sidecar_crc32c(Crc32c(0, AsBytes(meta)));
    entry.set_layout_hash(sidecar.layout_hash());
    if (OwnedBySelf(sidecar, digest)) {
      entry.set_path(JoinPath(folder, RankImageName(sidecar, digest.kind())));
    } else if (!static_path.empty()) {
      entry.set_path(static_path);
    } else {
      entry.set_path(JoinPath(layout::SnapshotFolderName(digest.owner()),
                              RankImageName(sidecar, digest.kind())));
    }
  }
  std::sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) {
    return a.kind() < b.kind();
  });
  return entries;
}

// "meta" becomes that of a sidecar that is there and good.
Status PersistentTier::WriteShardImages(const proto::Sidecar& sidecar,
                                        std::span<const ShardImage> images,
                                        const ImageIoOptions& options,
                                        std::string* meta) {
  HF_TRYV(CreateShardFolders(sidecar));
  HF_TRY(auto finished, FinishedBefore(sidecar, *meta));
  if (finished) {
    *meta = std::move(*finished);
    return Ok();
  }
  HF_TRYV(RemoveStaleTemporaries(sidecar));
  for (const ShardImage& image : images) {
    for (const proto::ImageDigest& digest : sidecar.images()) {
      if (digest.kind() == image.kind) {
        HF_TRYV(WriteShardImage(sidecar, digest, image.bytes, options));
      }
    }
  }
  return Ok();
}

Result<std::vector<proto::ManifestFile>> PersistentTier::FlushShard(
    const proto::Sidecar& sidecar,
    std::span<const ShardImage> images,
    const ImageIoOptions& options,
    const std::string& static_path) {
  HF_TRY(std::string meta, layout::EncodeSidecarFile(sidecar));
  HF_TRYV(CheckImages(sidecar, images));
  HF_TRYV(CheckJob(sidecar.job_name(), sidecar.id().job_uid()));
  const std::string folder = SnapshotFolder(sidecar.job_name(), sidecar.id());
  HF_TRY(const bool published, Exists(fs_, JoinPath(folder, kManifestFileName)));
  if (published) {
    return Error(Errc::kAlreadyExists, folder + ": is published; nothing in it may change");
  }
  if (Status written = WriteShardImages(sidecar, images, options, &meta); !written) {
    RemoveEmptyShardFolders(sidecar);
    return std::move(written).error();
  }
  // The image's name must be durable before a sidecar vouches for it.
  HF_TRYV(SyncShardFolders(sidecar));
  HOLDFAST_FAILPOINT("flush.before_sidecar");
  const std::string meta_path = JoinPath(folder, RankSidecarName(sidecar));
  HF_TRYV(PublishExclusive(fs_, ParentFolder(meta_path), LastComponent(meta_path), meta));
  return EntriesOf(sidecar, meta, static_path);
}

}  // namespace holdfast::storage_tiers
