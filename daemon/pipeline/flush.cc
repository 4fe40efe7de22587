#include "daemon/pipeline/flush.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/crc32c.h"
#include "common/failpoint.h"
#include "common/with_timeout.h"
#include "daemon/core/code_set.h"
#include "layout/sidecar.h"

namespace holdfast::daemon {
namespace {

namespace asio = boost::asio;
using storage_tiers::PersistentTier;
using storage_tiers::ShardImage;

constexpr std::chrono::milliseconds kFlagPoll{50};
constexpr std::chrono::milliseconds kTimeToSeeTheFlag{1'000};

// What the last request into a file system that hangs still reads.
using SlotPair = std::pair<SharedSlot, SharedSlot>;

// One flush, as the worker needs it; owns or shares everything.
struct FlushJob {
  std::string job_name;
  std::string job_uid;
  bool expected = false;
  Epoch epoch;
  proto::Sidecar sidecar;  // with layout
  // Of the images that are written; the static one only by the snapshot that owns it.
  SharedSlot slot;
  SharedSlot static_slot;
  std::shared_ptr<std::atomic<bool>> cancel;
  std::shared_ptr<std::atomic<bool>> static_is_bad = std::make_shared<std::atomic<bool>>(false);
  storage_tiers::ImageIoOptions image_options;
  std::shared_ptr<TransferKey> key;  // held while this try lives
};

bool HaveSameImages(const proto::Sidecar& a, const proto::Sidecar& b) {
  return a.layout_hash() == b.layout_hash() &&
         std::equal(a.images().begin(),
                    a.images().end(),
                    b.images().begin(),
                    b.images().end(),
                    [](const proto::ImageDigest& one, const proto::ImageDigest& other) {
                      return one.kind() == other.kind() && HaveSameBytes(one, other);
                    });
}

// Already published is as good as flushed, if it is these bytes that are.
Status CheckPublished(PersistentTier& tier, const FlushJob& job, Error refused) {
  const proto::Sidecar& own = job.sidecar;
  if (refused.code != Errc::kAlreadyExists ||
      !tier.ReadManifest(job.job_name, own.id()).has_value()) {
    return refused;
  }
  const auto there = tier.ReadSidecar(job.job_name, own.id(), own.rank(), own.world_size());
  return there.has_value() && HaveSameImages(there.value(), own) ? Ok() : Status(refused);
}

// A tier calls its own files corrupt too: a job.json, a sidecar of an earlier try.  Whoever asked
// for the flush would take that for rot of the shard, and never believe it again.
Status OfTheTier(Status status) {
  if (!status.has_value() && status.error().code == Errc::kCorruption) {
    return Error(Errc::kIoError, "damaged on the persistent tier: " + status.error().message);
  }
  return status;
}

// The tier may have been away when the incarnation was claimed, or be away now.
Status HaveJob(TierFiles& files, const FlushJob& job) {
  HF_TRYV(FailpointStatus("flush.before_image"));
  HF_TRYV(OfTheTier(job.expected ? files.tier.RequireJob(job.job_name, job.job_uid)
                                 : files.tier.EnsureJob(job.job_name, job.job_uid)));
  return files.tier.CheckEpoch(job.job_name, job.epoch.number, job.epoch.token);
}

bool Matches(const proto::ImageDigest& image, ByteView bytes) {
  for (int chunk = 0; chunk < image.chunk_crc32c_size(); ++chunk) {
    const std::size_t at = static_cast<std::size_t>(chunk) * kChunkBytes;
    const ByteView part = bytes.subspan(at, std::min<std::size_t>(kChunkBytes, bytes.size() - at));
    if (Crc32c(0, part) != image.chunk_crc32c(chunk)) {
      return false;
    }
  }
  return true;
}

bool IsBad(const SharedSlot& slot, const proto::ImageDigest& image) {
  return slot->poisoned() || !Matches(image, slot->view().first(image.length_bytes()));
}

// Then shards that share it must not be believed either.
bool StaticIsBad(const FlushJob& job) {
  return job.static_slot != nullptr && IsBad(job.static_slot, job.sidecar.images(1));
}

ByteCount BytesToWrite(const FlushJob& job) {
  return job.sidecar.images(0).length_bytes() +
         (job.static_slot == nullptr ? 0 : job.sidecar.images(1).length_bytes());
}

Status RunFlush(TierFiles& files, FlushJob& job) {
  std::vector<ShardImage> images = {
      {proto::DYNAMIC, job.slot->view().first(job.sidecar.images(0).length_bytes())}};
  if (job.static_slot != nullptr) {
    images.push_back(
        {proto::STATIC, job.static_slot->view().first(job.sidecar.images(1).length_bytes())});
  }
  const auto flushed = files.tier.FlushShard(job.sidecar, images, job.image_options);
  HF_TRYV(FailpointStatus("flush.after_image"));
  if (flushed.has_value()) {
    return Ok();
  }
  const bool cut = job.slot->poisoned() || flushed.error().sys_errno == EFAULT ||
                   (job.static_slot != nullptr && job.static_slot->poisoned());
  if (cut || flushed.error().code == Errc::kCorruption) {
    *job.static_is_bad = StaticIsBad(job);
  }
  if (cut) {
    return Error(Errc::kCorruption,
                 "slot " + job.slot->name().ToString() +
                     ": the file behind it was cut: " + flushed.error().message);
  }
  const bool rotten = flushed.error().code == Errc::kCorruption &&
                      (*job.static_is_bad || IsBad(job.slot, job.sidecar.images(0)));
  return rotten ? Status(flushed.error())
                : OfTheTier(CheckPublished(files.tier, job, flushed.error()));
}

// The sidecar with its layout, checked against the slot.
Result<proto::Sidecar> FullSidecar(const FlushShard& action,
                                   const LayoutStore& layouts,
                                   const FlushJob& job) {
  proto::Sidecar sidecar = action.sidecar;
  const SharedLayout layout = layouts.Find(sidecar.layout_hash());
  if (layout == nullptr) {
    return Error(Errc::kInternal, "the layout of the shard to flush is not in the store");
  }
  *sidecar.mutable_layout() = *layout;
  const bool fits = sidecar.images_size() > 0 && sidecar.images(0).kind() == proto::DYNAMIC &&
                    sidecar.images(0).length_bytes() <= job.slot->capacity();
  const bool static_fits =
      job.static_slot == nullptr ||
      (sidecar.images_size() > 1 && sidecar.images(1).kind() == proto::STATIC &&
       sidecar.images(1).length_bytes() <= job.static_slot->capacity());
  if (!fits || !static_fits) {
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
  HF_CO_TRYV(co_await tier->Call(
      "begin a flush", tier->options().call_limit, std::move(have_job), TierWork::kChange));
  auto transfer = [tier_options = tier->options().image, job](TierFiles& files) -> Status {
    storage_tiers::ImageIoOptions options = tier_options;
    options.cancel = job->cancel.get();
    options.budget = &files.budget;
    options.keep_alive = std::make_shared<SlotPair>(job->slot, job->static_slot);
    options.inspect = [key = job->key](ByteCount, ByteView block) -> Status {
      key->written.fetch_add(block.size(), std::memory_order_relaxed);
      return Ok();
    };
    job->image_options = options;
    return RunFlush(files, *job);
  };
  const auto limit = tier->TransferLimit(BytesToWrite(*job));
  co_return co_await tier->Call("flush", limit, std::move(transfer), TierWork::kFlush);
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
                              std::shared_ptr<std::atomic<bool>> cancel,
                              proto::ImageKind* bad_image) {
  HF_CO_TRY(const std::shared_ptr<Tier> tier,
            context.tiers.Open(action.tier.root(), action.tier.scope()));
  HF_CO_TRY(const auto permit, co_await tier->flushes().Acquire());
  if (cancel->load()) {
    co_return Error(Errc::kCancelled, "the flush was cancelled before it began");
  }
  auto job = std::make_shared<FlushJob>();
  HF_CO_TRY(job->slot, context.slots.Find(action.slot));
  if (action.static_slot.has_value()) {
    HF_CO_TRY(job->static_slot, context.slots.Find(*action.static_slot));
  }
  HF_CO_TRY(job->sidecar, FullSidecar(action, context.layouts, *job));
  const std::string key = FlushKeyPrefix(action.job_uid, action.id) + std::to_string(action.rank);
  job->key = tier->TakeKey(key);
  if (job->key == nullptr) {
    co_return Error(Errc::kUnavailable,
                    "an earlier flush of the same shard still hangs in " + tier->root());
  }
  job->job_name = action.job_name;
  job->job_uid = action.job_uid;
  job->expected = action.expected;
  job->epoch = action.epoch;
  job->cancel = cancel;
  const ByteCount bytes = BytesToWrite(*job);
  const auto static_is_bad = job->static_is_bad;
  const auto began = std::chrono::steady_clock::now();
  const Status status = co_await Until(RaisedForAWhile(cancel), RunStages(tier, std::move(job)));
  *bad_image = *static_is_bad ? proto::STATIC : proto::DYNAMIC;
  // A try that was given up must not go on writing once the file system wakes up.
  cancel->store(true);
  if (!status.has_value() && status.error().code == Errc::kCancelled && tier->HoldsKey(key)) {
    tier->NoteStuck("a flush that was cancelled");
  }
  Count(*tier, status, bytes, std::chrono::steady_clock::now() - began);
  co_return status;
}

}  // namespace holdfast::daemon
