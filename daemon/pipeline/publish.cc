#include "daemon/pipeline/publish.h"

#include <chrono>
#include <string>
#include <utility>

#include "common/clock.h"
#include "common/crc32c.h"
#include "common/failpoint.h"
#include "layout/manifest.h"
#include "layout/names.h"
#include "layout/sidecar.h"

namespace holdfast::daemon {
namespace {

namespace asio = boost::asio;
using storage_tiers::JoinPath;

// Reading one rank's sidecar on a loaded parallel file system.
constexpr std::chrono::milliseconds kLimitForEachRank{100};

std::string FolderOfOwner(const proto::Sidecar& sidecar, const proto::ImageDigest& image) {
  return layout::SnapshotFolderName(image.has_owner() ? image.owner() : sidecar.id());
}

// The manifest's entries of one rank, from the .meta file that its daemon wrote.
Status AddRank(TierFiles& files, Rank rank, proto::Manifest* manifest) {
  const std::string sidecar_path = JoinPath(layout::SnapshotFolderName(manifest->id()),
                                            layout::SidecarFileName(rank, manifest->world_size()));
  const std::string job_folder = JoinPath(files.tier.root(), manifest->job_name());
  HF_TRY(const std::string meta,
         storage_tiers::ReadSmallFile(
             *files.fs, JoinPath(job_folder, sidecar_path), layout::kMaxSidecarFileBytes));
  auto decoded = layout::DecodeSidecarFile(AsBytes(meta));
  if (!decoded.has_value()) {
    return std::move(decoded).error().WithContext(sidecar_path);
  }
  const proto::Sidecar& sidecar = decoded.value();
  if (sidecar.rank() != rank || sidecar.world_size() != manifest->world_size() ||
      sidecar.id().job_uid() != manifest->id().job_uid() ||
      KeyOf(sidecar.id()) != KeyOf(manifest->id())) {
    return Error(Errc::kCorruption, sidecar_path + " is another shard's");
  }
  for (const proto::ImageDigest& image : sidecar.images()) {
    proto::ManifestFile* file = manifest->add_files();
    file->set_rank(rank);
    file->set_kind(image.kind());
    file->set_path(JoinPath(FolderOfOwner(sidecar, image),
                            layout::RankFileName(rank, manifest->world_size(), image.kind())));
    file->set_length_bytes(image.length_bytes());
    file->set_sidecar_path(sidecar_path);
    file->set_sidecar_crc32c(Crc32c(0, AsBytes(meta)));
    file->set_layout_hash(sidecar.layout_hash());
  }
  return Ok();
}

// A root that is gone, or an empty folder in its place, is not files that are gone.
Status HasJob(TierFiles& files, const std::string& job_name) {
  HF_TRY(const auto job, files.tier.ReadJob(job_name));
  return job ? Ok()
             : Status(Error(Errc::kUnavailable,
                            files.tier.root() + ": the job's folder is not there; is it mounted?"));
}

Status RunPublish(TierFiles& files, const PublishManifest& action) {
  HF_TRYV(FailpointStatus("flush.before_publish"));
  HF_TRYV(layout::ValidateJobName(action.job_name));
  HF_TRYV(HasJob(files, action.job_name));
  proto::Manifest manifest;
  manifest.set_format_version(layout::kManifestFormatVersion);
  *manifest.mutable_id() = ToProto(action.job_uid, action.id);
  manifest.set_job_name(action.job_name);
  manifest.set_world_size(action.world_size);
  if (action.parent.has_value()) {
    *manifest.mutable_parent() = ToProto(action.job_uid, *action.parent);
  }
  for (Rank rank = 0; rank < action.world_size; ++rank) {
    HF_TRYV(AddRank(files, rank, &manifest));
  }
  const auto now = SystemClock().WallNow().time_since_epoch();
  manifest.set_created_unix_ms(static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::milliseconds>(now).count()));
  HF_TRYV(FailpointStatus("publish.before_manifest"));
  HF_TRYV(files.tier.PublishManifest(manifest, action.epoch.number, action.epoch.token));
  return FailpointStatus("publish.after_manifest");
}

}  // namespace

asio::awaitable<Status> Publish(PipelineContext context, PublishManifest action) {
  HF_CO_TRY(const std::shared_ptr<Tier> tier, context.tiers.Open(action.root, proto::SHARED));
  if (action.world_size == 0 || action.world_size > layout::kMaxWorldSize) {
    co_return Error(Errc::kInvalidArgument,
                    "a world of " + std::to_string(action.world_size) + " ranks");
  }
  const auto limit = tier->options().call_limit + kLimitForEachRank * action.world_size;
  auto call = [action](TierFiles& files) { return RunPublish(files, action); };
  co_return co_await tier->Call(
      "publish " + ToText(action.id), limit, std::move(call), TierWork::kFlush);
}

asio::awaitable<Status> Delete(PipelineContext context, DeleteDurable action) {
  HF_CO_TRY(const std::shared_ptr<Tier> tier, context.tiers.Open(action.root, proto::SHARED));
  // It would make its folders again behind us, and nobody would know of them any more.
  if (tier->HoldsKey(FlushKeyPrefix(action.job_uid, action.id))) {
    co_return Error(Errc::kUnavailable, "a flush of " + ToText(action.id) + " has not ended");
  }
  // Removing gigabytes takes some file systems their time.
  const auto limit = tier->options().call_limit + tier->options().image.sync_timeout;
  auto call = [action](TierFiles& files) -> Status {
    HF_TRYV(HasJob(files, action.job_name));
    const proto::SnapshotId id = ToProto(action.job_uid, action.id);
    return files.tier.Delete(action.job_name, id, action.epoch.number, action.epoch.token);
  };
  co_return co_await tier->Call(
      "delete " + ToText(action.id), limit, std::move(call), TierWork::kChange);
}

}  // namespace holdfast::daemon
