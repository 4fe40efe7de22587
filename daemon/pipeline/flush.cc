#include "daemon/pipeline/flush.h"

#include <cerrno>
#include <chrono>
#include <string>
#include <utility>
#include <vector>

#include "common/failpoint.h"
#include "common/with_timeout.h"
#include "layout/sidecar.h"

namespace holdfast::daemon {
namespace {

namespace asio = boost::asio;
using storage_tiers::PersistentTier;
using storage_tiers::ShardImage;

constexpr std::chrono::milliseconds kFlagPoll{50};
constexpr std::chrono::milliseconds kTimeToSeeTheFlag{1'000};

// One flush, as the worker needs it; owns or shares everything.
struct FlushJob {
  std::string job_name;
  std::string job_uid;
  bool expected = false;
  proto::Sidecar sidecar;  // with layout
  SharedSlot slot;
  std::shared_ptr<std::atomic<bool>> cancel;
  storage_tiers::ImageIoOptions image_options;
  std::shared_ptr<TransferKey> key;  // held while this try lives
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

// The tier may have been away when the incarnation was claimed, or be away now.
Status HaveJob(TierFiles& files, const FlushJob& job) {
  HF_TRYV(FailpointStatus("flush.before_image"));
  return job.expected ? files.tier.RequireJob(job.job_name, job.job_uid)
                      : files.tier.EnsureJob(job.job_name, job.job_uid);
}

Status RunFlush(TierFiles& files, const FlushJob& job) {
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

// Ends once a worker that is not stuck has had the time to see the flag.
asio::awaitable<Status> RaisedForAWhile(std::shared_ptr<std::atomic<bool>> flag) {
  while (!flag->load()) {
    HF_CO_TRYV(co_await SleepFor(kFlagPoll));
  }
  co_return co_await SleepFor(kTimeToSeeTheFlag);
}

// Two stages, each with a limit of its own: small calls that a healthy file system answers at once,
// then the transfer.  A cancellation leaves a worker that is stuck behind: it holds the key, and
// the mapping; the caller gets its slot back.
asio::awaitable<Status> RunStages(std::shared_ptr<Tier> tier, std::shared_ptr<FlushJob> job) {
  auto have_job = [job](TierFiles& files) { return HaveJob(files, *job); };
  HF_CO_TRYV(co_await tier->Call("begin a flush", tier->options().call_limit, std::move(have_job)));
  auto transfer = [tier_options = tier->options().image, job](TierFiles& files) -> Status {
    storage_tiers::ImageIoOptions options = tier_options;
    options.cancel = job->cancel.get();
    options.budget = &files.budget;
    options.keep_alive = job->slot;
    options.inspect = [key = job->key](ByteCount, ByteView block) -> Status {
      key->written.fetch_add(block.size(), std::memory_order_relaxed);
      return Ok();
    };
    job->image_options = options;
    return RunFlush(files, *job);
  };
  const auto limit = tier->TransferLimit(job->sidecar.images(0).length_bytes());
  co_return co_await tier->Call("flush", limit, std::move(transfer));
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
  auto job = std::make_shared<FlushJob>();
  HF_CO_TRY(job->slot, context.slots.Find(action.slot));
  HF_CO_TRY(job->sidecar, FullSidecar(action, context.layouts, job->slot));
  const std::string key = FlushKeyPrefix(action.job_uid, action.id) + std::to_string(action.rank);
  job->key = tier->TakeKey(key);
  if (job->key == nullptr) {
    co_return Error(Errc::kUnavailable,
                    "an earlier flush of the same shard still hangs in " + tier->root());
  }
  job->job_name = action.job_name;
  job->job_uid = action.job_uid;
  job->expected = action.expected;
  job->cancel = cancel;
  const ByteCount bytes = job->sidecar.images(0).length_bytes();
  const auto began = std::chrono::steady_clock::now();
  const Status status = co_await Until(RaisedForAWhile(cancel), RunStages(tier, std::move(job)));
  // A try that was given up must not go on writing once the file system wakes up.
  cancel->store(true);
  if (!status.has_value() && status.error().code == Errc::kCancelled && tier->HoldsKey(key)) {
    tier->NoteStuck("a flush that was cancelled");
  }
  Count(*tier, status, bytes, std::chrono::steady_clock::now() - began);
  co_return status;
}

}  // namespace holdfast::daemon
