#include "daemon/pipeline/open_shard.h"

#include <cerrno>
#include <string>
#include <utility>

#include <fcntl.h>
#include <sys/stat.h>

#include "common/failpoint.h"
#include "layout/names.h"
#include "layout/sidecar.h"

namespace holdfast::daemon {
namespace {

namespace asio = boost::asio;
using storage_tiers::JoinPath;
using transport::OwnedFd;

const proto::ManifestFile* FindFile(const proto::Manifest& manifest,
                                    Rank rank,
                                    proto::ImageKind kind) {
  for (const proto::ManifestFile& file : manifest.files()) {
    if (file.rank() == rank && file.kind() == kind) {
      return &file;
    }
  }
  return nullptr;
}

// A descriptor that leaves the daemon: a regular file of exactly this length, read-only.
Result<OwnedFd> OpenImage(const std::string& path, ByteCount length) {
  OwnedFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (!file.Valid()) {
    return ErrnoError(errno, "open " + path);
  }

  struct stat info {};

  if (::fstat(file.Get(), &info) != 0) {
    return ErrnoError(errno, "look at " + path);
  }
  if (!S_ISREG(info.st_mode) || static_cast<ByteCount>(info.st_size) != length) {
    return Error(Errc::kCorruption,
                 path + " has " + std::to_string(info.st_size) + " bytes, its sidecar says " +
                     std::to_string(length));
  }
  return file;
}

Result<OpenedShard> RunOpen(TierFiles& files, const OpenShardFile& action) {
  HF_TRYV(FailpointStatus("restore.before_load"));
  const proto::SnapshotId id = ToProto(action.job_uid, action.id);
  // It was listed a moment ago: without its job the file system is away, and no file is damaged.
  HF_TRYV(files.tier.RequireJob(action.job_name, action.job_uid));
  HF_TRY(const proto::Manifest manifest, files.tier.ReadManifest(action.job_name, id));
  if (FindFile(manifest, action.rank, proto::DYNAMIC) == nullptr) {
    return Error(Errc::kNotFound,
                 ToText(action.id) + " has no rank " + std::to_string(action.rank) + " on " +
                     files.tier.root());
  }
  OpenedShard opened;
  HF_TRY(opened.sidecar,
         files.tier.ReadSidecar(action.job_name, id, action.rank, manifest.world_size()));
  const std::string job_folder = JoinPath(files.tier.root(), action.job_name);
  for (const proto::ImageDigest& image : opened.sidecar.images()) {
    const proto::ManifestFile* entry = FindFile(manifest, action.rank, image.kind());
    if (entry == nullptr || image.length_bytes() != entry->length_bytes()) {
      return Error(Errc::kCorruption,
                   "manifest and sidecar of rank " + std::to_string(action.rank) +
                       " disagree about its images");
    }
    // The path of a manifest has been checked: the rank's one name, or that of a static image of
    // this job (layout/manifest.h).
    HF_TRY(OwnedFd file, OpenImage(JoinPath(job_folder, entry->path()), image.length_bytes()));
    opened.files[image.kind()] = std::make_shared<const OwnedFd>(std::move(file));
  }
  return opened;
}

}  // namespace

asio::awaitable<Result<OpenedShard>> OpenShard(PipelineContext context, OpenShardFile action) {
  HF_CO_TRY(const std::shared_ptr<Tier> tier, context.tiers.Open(action.root, proto::SHARED));
  HF_CO_TRYV(layout::ValidateJobName(action.job_name));
  const auto limit = 2 * tier->options().call_limit;
  auto call = [action](TierFiles& files) { return RunOpen(files, action); };
  co_return co_await tier->Call("open a shard", limit, std::move(call));
}

}  // namespace holdfast::daemon
