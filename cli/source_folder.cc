#include "cli/source_folder.h"

#include <cerrno>
#include <utility>

#include "cli/snapshot_state.h"
#include "cli/text.h"
#include "common/bytes.h"
#include "common/crc32c.h"
#include "layout/names.h"
#include "layout/sidecar.h"
#include "storage_tiers/retention.h"

namespace holdfast::cli {
namespace {

using storage_tiers::JoinPath;

// Rank, kind and length as the manifest has them: of the manifest's files of one rank.
struct RankFiles {
  std::vector<const proto::ManifestFile*> images;
};

RankFiles FilesOf(const proto::Manifest& manifest, std::uint32_t rank) {
  RankFiles files;
  for (const proto::ManifestFile& file : manifest.files()) {
    if (file.rank() == rank) {
      files.images.push_back(&file);
    }
  }
  return files;
}

// Adds one entry a rank; the manifest is ordered by rank.
void AddShards(const proto::Manifest& manifest, proto::SnapshotInfo* snapshot) {
  for (const proto::ManifestFile& file : manifest.files()) {
    const int count = snapshot->shards_size();
    if (count == 0 || snapshot->shards(count - 1).rank() != file.rank()) {
      proto::ShardInfo* shard = snapshot->add_shards();
      shard->set_rank(file.rank());
      shard->set_state(std::string(kStateDurable));
    }
    proto::ShardInfo* shard = snapshot->mutable_shards(snapshot->shards_size() - 1);
    if (file.kind() == proto::STATIC) {
      shard->set_static_image_bytes(file.length_bytes());
    } else {
      shard->set_image_bytes(file.length_bytes());
    }
  }
}

// Whether the file of a manifest is there, as long as the manifest says.  A file that cannot be
// looked at is not known to be damaged: who reads it is told why.
Status CheckFile(storage_tiers::FileSystem& fs,
                 const std::string& path,
                 std::optional<ByteCount> length) {
  const auto info = fs.Stat(path);
  if (!info) {
    return info.error().code == Errc::kNotFound ? Error(Errc::kCorruption, path + " is missing")
                                                : Status(Ok());
  }
  if (length && info.value().size_bytes != *length) {
    return Error(Errc::kCorruption,
                 path + ": has " + std::to_string(info.value().size_bytes) +
                     " bytes, the manifest says " + std::to_string(*length));
  }
  return Ok();
}

// A manifest vouches for the file: that it is not there is damage.
Error AsDamage(Error error, const std::string& path) {
  if (error.code == Errc::kNotFound) {
    return Error(Errc::kCorruption, path + " is missing");
  }
  return error;
}

Status CheckSidecar(const std::string& path,
                    const proto::Sidecar& sidecar,
                    const proto::Manifest& manifest,
                    const RankFiles& files) {
  const proto::ManifestFile& first = *files.images.front();
  if (!storage_tiers::SameSnapshot(sidecar.id(), manifest.id()) ||
      sidecar.job_name() != manifest.job_name() || sidecar.rank() != first.rank() ||
      sidecar.world_size() != manifest.world_size() ||
      sidecar.layout_hash() != first.layout_hash()) {
    return Error(Errc::kCorruption, path + ": is the sidecar of another shard");
  }
  if (sidecar.images_size() != static_cast<int>(files.images.size())) {
    return Error(Errc::kCorruption, path + ": has other images than the manifest names");
  }
  return Ok();
}

const proto::ImageDigest* DigestOf(const proto::Sidecar& sidecar, proto::ImageKind kind) {
  for (const proto::ImageDigest& digest : sidecar.images()) {
    if (digest.kind() == kind) {
      return &digest;
    }
  }
  return nullptr;
}

// Nothing of ours is bad, so it is no finding of a verification.
Problem NoJobs(const std::string& root) {
  return {root,
          Error(Errc::kInvalidArgument,
                "no folder in it has a job.json: nothing was saved here yet, or this is not the "
                "root of a persistent tier")};
}

}  // namespace

Status CheckRoot(storage_tiers::FileSystem& fs, const std::string& root) {
  const auto listed = fs.List(root);
  if (listed) {
    return Ok();
  }
  if (listed.error().code == Errc::kNotFound) {
    return Error(Errc::kNotFound,
                 root +
                     ": there is no such folder; is the file system mounted? The root of a "
                     "persistent tier is never made");
  }
  if (listed.error().sys_errno == ENOTDIR) {
    return Error(Errc::kNotFound,
                 root + " is no folder; name the folder that holds the jobs' folders");
  }
  return listed.error();
}

FolderSource::FolderSource(storage_tiers::FileSystem& fs, const std::string& root)
    // The scope only matters to who writes.
    : fs_(fs), tier_(fs, root, storage_tiers::TierScope::kShared) {}

Result<Listing> FolderSource::List(const std::string& job) {
  Listing listing;
  if (!job.empty()) {
    HF_TRYV(layout::ValidateJobName(job));
  }
  HF_TRYV(CheckRoot(fs_, tier_.root()));
  if (!job.empty()) {
    HF_TRY(const auto file, tier_.ReadJob(job));
    if (!file) {
      HF_TRY(const storage_tiers::JobListing jobs, tier_.ListJobs());
      return Error(Errc::kNotFound,
                   "there is no job " + job + " in " + tier_.root() +
                       (jobs.names.empty() ? ": " + NoJobs(tier_.root()).error.message
                                           : InsteadText(jobs.names)));
    }
    ListJob(job, &listing);
  } else {
    HF_TRY(const storage_tiers::JobListing jobs, tier_.ListJobs());
    if (jobs.names.empty() && jobs.problems.empty()) {
      listing.problems.push_back(NoJobs(tier_.root()));
    }
    for (const storage_tiers::JobListing::Problem& problem : jobs.problems) {
      listing.problems.push_back({JoinPath(tier_.root(), problem.folder), problem.error});
    }
    for (const std::string& name : jobs.names) {
      ListJob(name, &listing);
    }
  }
  SortNewestFirst(&listing.reply);
  return listing;
}

Result<proto::StatusReply> FolderSource::Overview(const Listing& listing) {
  proto::StatusReply status;
  HF_TRY(const storage_tiers::JobListing jobs, tier_.ListJobs());
  for (const std::string& name : jobs.names) {
    proto::JobStatus* job = status.add_jobs();
    job->set_name(name);
    proto::TierStatus* tier = job->add_tiers();
    tier->set_root(tier_.root());
    tier->set_healthy(true);
    tier->set_newest_durable_step(-1);
    const auto note = [&](const Error& error) {
      tier->set_healthy(false);
      tier->set_last_error(error.message);
    };
    if (const auto file = tier_.ReadJob(name); !file) {
      note(file.error());
    } else if (file.value()) {
      job->set_job_uid(file.value()->job_uid());
    }
    if (const auto highest = tier_.HighestIncarnation(name); !highest) {
      note(highest.error());
    } else if (highest.value() > 0) {
      job->set_incarnation(highest.value());
      const auto record = tier_.ReadIncarnation(name, highest.value());
      job->set_world_size(record && record.value() ? record.value()->world_size() : 0);
    }
    for (const proto::SnapshotInfo& snapshot : listing.reply.snapshots()) {
      if (snapshot.job_name() == name && snapshot.state() == kStateDurable) {
        tier->set_newest_durable_incarnation(snapshot.id().incarnation());
        tier->set_newest_durable_step(snapshot.id().step());
        break;  // newest first
      }
    }
  }
  return status;
}

void FolderSource::ListJob(const std::string& job, Listing* listing) {
  const auto found = tier_.ListSnapshots(job);
  if (!found) {
    listing->problems.push_back({JoinPath(tier_.root(), job), found.error()});
    return;
  }
  for (const storage_tiers::SnapshotEntry& entry : found.value().snapshots) {
    *listing->reply.add_snapshots() = Describe(job, entry, listing);
  }
  for (const std::string& name : found.value().unknown_names) {
    listing->problems.push_back(
        {JoinPath(JoinPath(tier_.root(), job), name),
         Error(Errc::kInvalidArgument, "Holdfast did not make this; it is left alone")});
  }
}

proto::SnapshotInfo FolderSource::Describe(const std::string& job,
                                           const storage_tiers::SnapshotEntry& entry,
                                           Listing* listing) {
  proto::SnapshotInfo snapshot;
  *snapshot.mutable_id() = entry.id;
  snapshot.set_job_name(job);
  std::optional<Error> problem = entry.problem;
  if (entry.published && !problem) {
    const auto manifest = tier_.ReadManifest(job, entry.id);
    if (manifest) {
      snapshot.set_state(std::string(kStateDurable));
      snapshot.set_world_size(manifest.value().world_size());
      snapshot.add_durable_on(tier_.root());
      AddShards(manifest.value(), &snapshot);
      problem = FindLostFiles(manifest.value(), &snapshot);
      if (!problem) {
        return snapshot;
      }
      // One that is removed at this moment is not damaged.
      const auto still = tier_.ReadManifest(job, entry.id);
      if (!still && still.error().code == Errc::kNotFound) {
        problem.reset();
      }
      snapshot.clear_durable_on();
    } else {
      problem = manifest.error();
    }
  }
  if (problem) {
    const std::string path =
        JoinPath(JoinPath(tier_.root(), job), layout::SnapshotFolderName(entry.id));
    listing->problems.push_back({path, *problem});
    snapshot.set_state(std::string(kStateDamaged));
    snapshot.set_reason(problem->message);
    return snapshot;
  }
  snapshot.set_state(std::string(kStateUnfinished));
  snapshot.set_reason("no manifest; " + FormatBytes(entry.bytes) + " in its folder");
  return snapshot;
}

std::optional<Error> FolderSource::FindLostFiles(const proto::Manifest& manifest,
                                                 proto::SnapshotInfo* snapshot) {
  const std::string job_folder = JoinPath(tier_.root(), manifest.job_name());
  std::optional<Error> found;
  std::size_t more = 0;
  for (const proto::ManifestFile& file : manifest.files()) {
    Status whole = CheckFile(fs_, JoinPath(job_folder, file.path()), file.length_bytes());
    if (whole) {
      whole = CheckFile(fs_, JoinPath(job_folder, file.sidecar_path()), std::nullopt);
    }
    if (whole) {
      continue;
    }
    for (proto::ShardInfo& shard : *snapshot->mutable_shards()) {
      if (shard.rank() == file.rank()) {
        shard.set_state(std::string(kStateLost));
      }
    }
    more += found ? 1 : 0;
    found = found ? found : whole.error();
  }
  if (found && more > 0) {
    found->message += ", and " + Count(more, "more file") + " like it";
  }
  return found;
}

Result<const proto::Manifest*> FolderSource::ManifestOf(const proto::SnapshotInfo& snapshot) {
  if (!storage_tiers::SameSnapshot(manifest_.id(), snapshot.id()) ||
      manifest_.job_name() != snapshot.job_name()) {
    HF_TRY(manifest_, tier_.ReadManifest(snapshot.job_name(), snapshot.id()));
  }
  return &manifest_;
}

Result<OpenedShard> FolderSource::OpenShard(const proto::SnapshotInfo& snapshot,
                                            std::uint32_t rank) {
  HF_TRY(const proto::Manifest* manifest, ManifestOf(snapshot));
  const RankFiles files = FilesOf(*manifest, rank);
  if (files.images.empty()) {
    return Error(Errc::kNotFound,
                 "the snapshot has " + std::to_string(manifest->world_size()) +
                     " ranks, none of them is rank " + std::to_string(rank));
  }
  const std::string job_folder = JoinPath(tier_.root(), snapshot.job_name());
  const std::string meta_path = JoinPath(job_folder, files.images.front()->sidecar_path());
  auto read = storage_tiers::ReadSmallFile(fs_, meta_path, layout::kMaxSidecarFileBytes);
  if (!read) {
    return AsDamage(std::move(read).error(), meta_path);
  }
  const std::string meta = std::move(read).value();
  if (Crc32c(0, AsBytes(meta)) != files.images.front()->sidecar_crc32c()) {
    return Error(Errc::kCorruption, meta_path + ": its digest is not the one in the manifest");
  }
  OpenedShard shard;
  Result<proto::Sidecar> sidecar = layout::DecodeSidecarFile(AsBytes(meta));
  if (!sidecar) {
    return std::move(sidecar).error().WithContext(meta_path);
  }
  shard.sidecar = std::move(sidecar).value();
  HF_TRYV(CheckSidecar(meta_path, shard.sidecar, *manifest, files));
  for (const proto::ManifestFile* file : files.images) {
    const std::string path = JoinPath(job_folder, file->path());
    const proto::ImageDigest* digest = DigestOf(shard.sidecar, file->kind());
    if (digest == nullptr || digest->length_bytes() != file->length_bytes()) {
      return Error(Errc::kCorruption, path + ": sidecar and manifest differ about this image");
    }
    auto opened = ImageReader::OpenFile(path, true);
    if (!opened) {
      return AsDamage(std::move(opened).error(), path);
    }
    ImageReader reader = std::move(opened).value();
    if (reader.size() != digest->length_bytes()) {
      return Error(Errc::kCorruption,
                   path + ": has " + std::to_string(reader.size()) + " bytes, its sidecar says " +
                       std::to_string(digest->length_bytes()));
    }
    shard.images.push_back({*digest, std::move(reader)});
  }
  return shard;
}

bool FolderSource::Retired(const proto::SnapshotInfo& snapshot, const Error& /*error*/) {
  // Read again: the manifest that is kept vouches for files only as long as it is there itself.
  const auto manifest = tier_.ReadManifest(snapshot.job_name(), snapshot.id());
  if (manifest || manifest.error().code != Errc::kNotFound) {
    return false;
  }
  // Retention leaves job.json.  Where that is gone too, the whole job is, or the file system.
  const auto job = tier_.ReadJob(snapshot.job_name());
  return job && job.value().has_value();
}

}  // namespace holdfast::cli
