#include "cli/copy_snapshot.h"

#include <utility>

#include "cli/interrupt.h"
#include "cli/mapped_image.h"
#include "cli/source_folder.h"
#include "cli/text.h"
#include "common/bytes.h"
#include "common/random.h"
#include "layout/names.h"

namespace holdfast::cli {
namespace {

using storage_tiers::TierScope;

std::uint64_t NowMs() {
  return static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::milliseconds>(
                                        SystemClock().WallNow().time_since_epoch())
                                        .count());
}

}  // namespace

SnapshotCopy::SnapshotCopy(storage_tiers::FileSystem& fs,
                           CopyOrigin& from,
                           const std::string& to_root,
                           proto::SnapshotInfo snapshot)
    : fs_(fs), from_(from), to_(fs, to_root, TierScope::kShared), snapshot_(std::move(snapshot)) {}

Status SnapshotCopy::Check() {
  const std::string& job = snapshot_.job_name();
  HF_TRYV(CheckRoot(fs_, to_.root()));
  HF_TRY(const auto there, to_.ReadJob(job));
  if (there && there->job_uid() != snapshot_.id().job_uid()) {
    return Error(Errc::kAlreadyExists,
                 to_.root() + ": has another job named " + job + " (uid " +
                     ToHex(AsBytes(there->job_uid())) + ", the snapshot's is " +
                     ToHex(AsBytes(snapshot_.id().job_uid())) + "); choose another root");
  }
  const auto manifest = to_.ReadManifest(job, snapshot_.id());
  if (manifest || manifest.error().code != Errc::kNotFound) {
    return Error(Errc::kAlreadyExists,
                 to_.root() + ": has " + job + " " + IdText(snapshot_.id()) +
                     (manifest ? " already" : " already, damaged; remove it first (holdfast rm)"));
  }
  HF_TRY(const ByteCount free, fs_.FreeSpace(to_.root()));
  // An unfinished copy may be there already, so this can only be a warning of an early error.
  const ByteCount needed = BytesOf(snapshot_) + StaticBytesOf(snapshot_);
  if (!there && free < needed) {
    return Error(
        Errc::kNoSpace,
        to_.root() + ": " + FormatBytes(free) + " free, the snapshot has " + FormatBytes(needed));
  }
  return Ok();
}

Status SnapshotCopy::CopyShard(std::uint32_t rank, Progress* progress, proto::Manifest* manifest) {
  HF_TRY(OpenedShard shard, from_.source().OpenShard(snapshot_, rank));
  std::vector<MappedImage> mappings;
  std::vector<storage_tiers::ShardImage> images;
  std::string static_path;
  for (const OpenedImage& image : shard.images) {
    const bool shared =
        image.digest.has_owner() && IdText(image.digest.owner()) != IdText(snapshot_.id());
    if (shared && to_.ReadManifest(snapshot_.job_name(), image.digest.owner())) {
      continue;  // the publishing looks whether its folder holds these very bytes
    }
    if (shared) {
      // Its owner was not copied: the copy owns it itself.
      for (proto::ImageDigest& digest : *shard.sidecar.mutable_images()) {
        digest.clear_owner();
      }
    }
    HF_TRY(MappedImage mapping,
           MappedImage::Open(image.reader.name(), image.digest.length_bytes()));
    images.push_back({image.digest.kind(), mapping.bytes()});
    mappings.push_back(std::move(mapping));
  }
  for (const proto::ManifestFile& file : original_.files()) {
    if (file.rank() == rank && file.kind() == proto::STATIC) {
      static_path = file.path();
    }
  }
  storage_tiers::ImageIoOptions options;
  options.cancel = InterruptFlag();
  options.inspect = [progress](ByteCount, ByteView block) -> Status {
    if (progress != nullptr) {
      progress->Add(block.size());
    }
    return Ok();
  };
  HF_TRY(const auto files, to_.FlushShard(shard.sidecar, images, options, static_path));
  for (const proto::ManifestFile& file : files) {
    *manifest->add_files() = file;
  }
  return Ok();
}

Result<std::vector<std::uint64_t>> SnapshotCopy::CopyIncarnations() {
  const std::string& job = snapshot_.job_name();
  HF_TRY(std::uint64_t highest, to_.HighestIncarnation(job));
  HF_TRY(const std::vector<proto::IncarnationFile> records, from_.Incarnations(snapshot_));
  std::vector<std::uint64_t> copied;
  for (const proto::IncarnationFile& record : records) {
    if (record.number() <= highest) {
      continue;  // the target's history goes on from its own records
    }
    HF_TRYV(to_.ClaimIncarnation(job, record));
    copied.push_back(record.number());
    highest = record.number();
  }
  if (highest < snapshot_.id().incarnation()) {
    // The source lost its records; the next start must get a higher number all the same.
    proto::IncarnationFile record;
    record.set_format_version(1);
    record.set_job_uid(snapshot_.id().job_uid());
    record.set_number(snapshot_.id().incarnation());
    record.set_token(RandomToken());
    record.set_world_size(snapshot_.world_size());
    HF_TRYV(to_.ClaimIncarnation(job, record));
    copied.push_back(record.number());
  }
  return copied;
}

Result<std::vector<std::uint64_t>> SnapshotCopy::Run(Progress* progress) {
  const std::string& job = snapshot_.job_name();
  HF_TRYV(to_.EnsureJob(job, snapshot_.id().job_uid()));
  HF_TRY(original_, from_.Manifest(snapshot_));
  proto::Manifest manifest = original_;
  manifest.clear_files();  // named again by what was written
  for (const proto::ShardInfo& shard : snapshot_.shards()) {
    if (InterruptFlag()->load()) {
      return Error(Errc::kCancelled, "interrupted; the same command goes on where this one ended");
    }
    if (progress != nullptr) {
      progress->Label("restore " + job + " " + IdText(snapshot_.id()) + " rank " +
                      std::to_string(shard.rank()));
    }
    HF_TRYV(CopyShard(shard.rank(), progress, &manifest));
  }
  HF_TRY(std::vector<std::uint64_t> copied, CopyIncarnations());
  manifest.set_created_unix_ms(NowMs());
  HF_TRY(const std::uint64_t highest, to_.HighestIncarnation(job));
  HF_TRYV(to_.PublishManifest(manifest, highest));
  return copied;
}

}  // namespace holdfast::cli
