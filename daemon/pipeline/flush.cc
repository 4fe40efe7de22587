#include "daemon/pipeline/flush.h"

#include <cerrno>
#include <chrono>
#include <string>
#include <utility>
#include <vector>

#include "common/failpoint.h"
#include "layout/sidecar.h"

namespace holdfast::daemon {
namespace {

namespace asio = boost::asio;
using storage_tiers::PersistentTier;
using storage_tiers::ShardImage;

// One flush, as the worker needs it; owns or shares everything.
struct FlushJob {
  std::string job_name;
  std::string job_uid;
  bool expected = false;
  proto::Sidecar sidecar;  // with layout
  SharedSlot slot;
  std::shared_ptr<std::atomic<bool>> cancel;
  storage_tiers::ImageIoOptions image_options;
  std::shared_ptr<const std::string> key;  // held while this try lives
};

// Already published is as good as flushed, if it is this snapshot that is.
Status CheckPublished(PersistentTier& tier, const FlushJob& job, Error refused) {
  if (refused.code != Errc::kAlreadyExists) {
    return refused;
  }
  const auto manifest = tier.ReadManifest(job.job_name, job.sidecar.id());
  if (!manifest.has_value()) {
    return refused;
  }
  return Ok();
}

Status RunFlush(TierFiles& files, const FlushJob& job) {
  HF_TRYV(FailpointStatus("flush.before_image"));
  // The tier may have been away when the incarnation was claimed, or be away now.
  HF_TRYV(job.expected ? files.tier.RequireJob(job.job_name, job.job_uid)
                       : files.tier.EnsureJob(job.job_name, job.job_uid));
  const ByteCount length = job.sidecar.images(0).length_bytes();
  const std::vector<ShardImage> images = {{proto::DYNAMIC, job.slot->view().first(length)}};
  const auto flushed = files.tier.FlushShard(job.sidecar, images, job.image_options);
  HF_TRYV(FailpointStatus("flush.after_image"));
  if (flushed.has_value()) {
    return Ok();
  }
  if (job.slot->poisoned() || flushed.error().sys_errno == EFAULT) {
    return Error(Errc::kCorruption,
                 "slot " + job.slot->name().ToString() +
                     ": the file behind it was cut: " + flushed.error().message);
  }
  return CheckPublished(files.tier, job, flushed.error());
}

// The sidecar with its layout, checked against the slot.
Result<proto::Sidecar> FullSidecar(const FlushShard& action,
                                   const LayoutStore& layouts,
                                   const SharedSlot& slot) {
  proto::Sidecar sidecar = action.sidecar;
  const SharedLayout layout = layouts.Find(sidecar.layout_hash());
  if (layout == nullptr) {
    return Error(Errc::kInternal, "the layout of the shard to flush is not in the store");
  }
  *sidecar.mutable_layout() = *layout;
  if (sidecar.images_size() == 0 || sidecar.images(0).kind() != proto::DYNAMIC ||
      sidecar.images(0).length_bytes() > slot->capacity()) {
    return Error(Errc::kInternal, "the sidecar of the shard to flush does not fit its slot");
  }
  return sidecar;
}

void Count(Tier& tier, const Status& status, ByteCount bytes, std::chrono::duration<double> took) {
  TierCounters& counters = tier.counters();
  if (status.has_value()) {
    ++counters.flushes;
    counters.flushed_bytes += bytes;
    counters.flush_seconds += took.count();
  } else if (status.error().code != Errc::kCancelled) {
    ++counters.flush_failures;
  }
}

}  // namespace

asio::awaitable<Status> Flush(PipelineContext context,
                              FlushShard action,
                              std::shared_ptr<std::atomic<bool>> cancel) {
  HF_CO_TRY(const std::shared_ptr<Tier> tier,
            context.tiers.Open(action.tier.root(), action.tier.scope()));
  HF_CO_TRY(const auto permit, co_await tier->flushes().Acquire());
  if (cancel->load()) {
    co_return Error(Errc::kCancelled, "the flush was cancelled before it began");
  }
  FlushJob job;
  HF_CO_TRY(job.slot, context.slots.Find(action.slot));
  HF_CO_TRY(job.sidecar, FullSidecar(action, context.layouts, job.slot));
  job.key = tier->TakeKey(FlushKeyPrefix(action.job_uid, action.id) + std::to_string(action.rank));
  if (job.key == nullptr) {
    co_return Error(Errc::kUnavailable,
                    "an earlier flush of the same shard still hangs in " + tier->root());
  }
  job.job_name = action.job_name;
  job.job_uid = action.job_uid;
  job.expected = action.expected;
  job.cancel = cancel;
  const ByteCount bytes = job.sidecar.images(0).length_bytes();
  const auto limit = tier->TransferLimit(bytes);
  const auto began = std::chrono::steady_clock::now();
  auto call = [tier_options = tier->options().image,
               job = std::move(job)](TierFiles& files) mutable -> Status {
    job.image_options = tier_options;
    job.image_options.cancel = job.cancel.get();
    job.image_options.budget = &files.budget;
    job.image_options.keep_alive = job.slot;
    return RunFlush(files, job);
  };
  const Status status = co_await tier->Call("flush", limit, std::move(call));
  if (!status.has_value() && status.error().code == Errc::kTimeout) {
    // The try that was given up must not go on writing once the file system wakes up.
    cancel->store(true);
  }
  Count(*tier, status, bytes, std::chrono::steady_clock::now() - began);
  co_return status;
}

}  // namespace holdfast::daemon
