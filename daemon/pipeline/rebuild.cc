#include "daemon/pipeline/rebuild.h"

#include <algorithm>
#include <numeric>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include "common/check.h"
#include "common/crc32c.h"
#include "common/failpoint.h"
#include "common/task_group.h"
#include "daemon/async_semaphore.h"
#include "daemon/pipeline/windows.h"

namespace holdfast::daemon {

namespace asio = boost::asio;
using Clock = std::chrono::steady_clock;

namespace {

// Helpers of a segment that are asked before it is decoded here.
constexpr std::size_t kBeforeDecodingHere = 2;
// How late it may be seen that a helper is too slow.
constexpr std::chrono::milliseconds kLook{50};

template <typename T>
asio::awaitable<void> StoreResult(asio::awaitable<T> work, T* out) {
  *out = co_await std::move(work);
}

void EnterIfGiven(TrafficPriority* priority, std::optional<TrafficPriority::Urgent>* urgent) {
  if (priority != nullptr) {
    priority->EnterInto(urgent);
  }
}

asio::awaitable<Status> FeedWindow(const ShareToFeed& work,
                                   const ShareOptions& options,
                                   std::uint64_t number) {
  HF_CO_TRYV(FailpointStatus("share.before_window"));
  HF_CO_TRY(const auto lanes, co_await work.feed->Reserve(number, options.taker_limit));
  const MutableByteView place = lanes.front();
  if (place.empty()) {
    co_return Error(Errc::kUnavailable, "the replacement does not take its share");
  }
  const ByteCount offset = work.offset + work.feed->shape().windows.Begin(number);
  ShardReadOptions read;
  read.deadline = Clock::now() + options.window_limit;
  // Of sources that were compared; the taker compares what came of them.
  HF_CO_TRYV(co_await work.shard->ReadUnchecked(offset, place, read));
  HF_CO_TRY(auto digests, work.shard->what()->ChunksOf(offset, place.size()));
  std::vector<std::vector<std::uint32_t>> of_lanes;
  of_lanes.push_back(std::move(digests));
  work.feed->Publish(number, std::move(of_lanes));
  co_return Ok();
}

// One rebuild under way; lives in the frame of RebuildShard.
class ShardRebuild {
 public:
  ShardRebuild(const asio::any_io_executor& io,
               WorkerPool* cpu,
               ShardToRebuild work,
               const RebuildShardOptions& options,
               VerifiedBytes on_verified)
      : cpu_(cpu),
        work_(std::move(work)),
        options_(options),
        on_verified_(std::move(on_verified)),
        pace_(work_.group->stripes.Code().data, options.patience),
        decoders_(io, options.segments_at_once) {
    done_.resize(work_.group->stripes.Code().data);
  }

  Status Check() const;
  asio::awaitable<Status> Segment(std::uint32_t segment);

 private:
  asio::awaitable<Status> AskAll(std::uint32_t segment,
                                 std::span<const FeedSource> helpers,
                                 MutableByteView into,
                                 const std::vector<std::uint32_t>& digests);
  asio::awaitable<Status> Ask(std::uint32_t segment,
                              const FeedSource& helper,
                              MutableByteView into,
                              std::vector<std::uint32_t> digests);
  // Cancels "pull" when its helper is too slow; whether it was.
  asio::awaitable<bool> Watch(std::uint32_t segment, TaskGroup* pull);
  asio::awaitable<Status> DecodeHere(ByteCount offset, MutableByteView into, std::uint32_t segment);
  void Note(std::uint32_t segment, ByteCount bytes);

  WorkerPool* const cpu_;
  const ShardToRebuild work_;
  const RebuildShardOptions options_;
  const VerifiedBytes on_verified_;
  std::vector<ByteCount> done_;  // verified from its start, by segment
  HelperPace pace_;
  // Survivors decode side by side; here each segment takes k times its windows of memory.
  AsyncSemaphore decoders_;
};

Status ShardRebuild::Check() const {
  const ec::Stripes& stripes = work_.group->stripes;
  if (work_.position >= stripes.Count() || work_.helpers.size() != stripes.Code().data ||
      work_.into.size() != stripes.ShardLength(work_.position) ||
      work_.shard->length() != work_.into.size()) {
    return Error(Errc::kInvalidArgument,
                 work_.shard->what()->name() + ": its place or its helpers do not fit the group");
  }
  return Ok();
}

void ShardRebuild::Note(std::uint32_t segment, ByteCount bytes) {
  done_[segment] = bytes;
  if (on_verified_) {
    on_verified_(std::accumulate(done_.begin(), done_.end(), ByteCount{0}));
  }
}

// One after the other, until one has given it whole.  The message of the error is of all of them,
// and empty where there are none.
asio::awaitable<Status> ShardRebuild::AskAll(std::uint32_t segment,
                                             std::span<const FeedSource> helpers,
                                             MutableByteView into,
                                             const std::vector<std::uint32_t>& digests) {
  std::string refusals;
  for (const FeedSource& helper : helpers) {
    const Status asked = co_await Ask(segment, helper, into, digests);
    if (asked.has_value()) {
      co_return Ok();
    }
    if (co_await Cancelled()) {
      co_return Error(Errc::kCancelled, "cancelled while a shard was rebuilt");
    }
    refusals += "; " + asked.error().message;
  }
  co_return Error(Errc::kUnavailable, refusals);
}

// A helper begins at the start of the segment, also after another has given a part of it.
asio::awaitable<Status> ShardRebuild::Ask(std::uint32_t segment,
                                          const FeedSource& helper,
                                          MutableByteView into,
                                          std::vector<std::uint32_t> digests) {
  // What a later helper writes over is as good, but the window in which it fails may be half
  // written: the decoding here goes on from where the last one was, not from the farthest.
  Note(segment, 0);
  pace_.Begin(segment);
  VerifiedBytes on_verified = [this, segment](ByteCount bytes) {
    Note(segment, bytes);
    pace_.Moved(segment);
  };
  Result<std::vector<std::uint32_t>> pulled = Error(Errc::kInternal, "ended without a result");
  TaskGroup pull(co_await asio::this_coro::executor, "pull of a segment", 1);
  HOLDFAST_CHECK(pull.Spawn(StoreResult(
      PullVector(cpu_, helper, into, std::move(digests), options_.pull, std::move(on_verified)),
      &pulled)));
  const bool slow = co_await Watch(segment, &pull);
  co_await pull.Finish();
  if (pulled.has_value()) {
    co_return Ok();
  }
  Error error = slow ? Error(Errc::kTimeout, "much slower than the others, or it hangs")
                     : std::move(pulled).error();
  co_return std::move(error).WithContext(helper.calls->Describe());
}

asio::awaitable<bool> ShardRebuild::Watch(std::uint32_t segment, TaskGroup* pull) {
  while (!co_await pull->Join(kLook)) {
    const auto slow_at = pace_.SlowAt(segment);
    if (co_await Cancelled()) {
      co_return false;
    }
    if (slow_at.has_value() && HelperPace::Clock::now() >= *slow_at) {
      pull->Cancel();
      co_return true;
    }
  }
  co_return false;
}

asio::awaitable<Status> ShardRebuild::DecodeHere(ByteCount offset,
                                                 MutableByteView into,
                                                 std::uint32_t segment) {
  const ByteCount step = options_.step_bytes;
  HF_CO_TRY(const auto permit, co_await decoders_.Acquire());
  while (done_[segment] < into.size()) {
    if (co_await Cancelled()) {
      co_return Error(Errc::kCancelled, "cancelled while a shard was rebuilt");
    }
    const ByteCount at = done_[segment];
    const MutableByteView place = into.subspan(at, std::min(step, into.size() - at));
    ShardReadOptions read;
    read.deadline = Clock::now() + options_.step_limit;
    HF_CO_TRYV(co_await work_.shard->ReadRange(offset + at, place, read));
    Note(segment, at + place.size());
  }
  co_return Ok();
}

asio::awaitable<Status> ShardRebuild::Segment(std::uint32_t segment) {
  const ec::Stripes& stripes = work_.group->stripes;
  const ByteCount length = stripes.SegmentLength(work_.position, segment);
  if (length == 0) {
    co_return Ok();
  }
  const ByteCount offset = segment * stripes.SegmentBytes();
  const MutableByteView into = work_.into.subspan(offset, length);
  HF_CO_TRY(const auto digests, work_.shard->what()->ChunksOf(offset, length));
  const std::span<const FeedSource> helpers = work_.helpers[segment];
  const std::size_t first = std::min(kBeforeDecodingHere, helpers.size());
  const Status asked = co_await AskAll(segment, helpers.first(first), into, digests);
  if (asked.has_value() || co_await Cancelled()) {
    co_return asked;
  }
  Status here = co_await DecodeHere(offset, into, segment);
  if (here.has_value() || co_await Cancelled()) {
    co_return here;
  }
  const Status others = co_await AskAll(segment, helpers.subspan(first), into, digests);
  if (others.has_value()) {
    co_return Ok();
  }
  co_return Error(here.error().code,
                  here.error().message + asked.error().message + others.error().message);
}

}  // namespace

asio::awaitable<Status> FeedShare(ShareToFeed work, ShareOptions options) {
  std::optional<TrafficPriority::Urgent> urgent;
  EnterIfGiven(options.priority, &urgent);
  const FeedShape& shape = work.feed->shape();
  if (shape.lanes != 1) {
    co_return Error(Errc::kInvalidArgument, "a share is fed to one taker");
  }
  auto step = [&](std::uint64_t number) { return FeedWindow(work, options, number); };
  Status done = co_await ForEachWindow(shape.windows.Count(), options.windows_in_flight, step);
  if (done.has_value()) {
    done = co_await work.feed->Drain(options.taker_limit);
  }
  if (!done.has_value()) {
    work.feed->Fail(Error(Errc::kUnavailable, "the survivor gave up: " + done.error().message));
  }
  co_return done;
}

asio::awaitable<Status> RebuildShard(WorkerPool* cpu,
                                     ShardToRebuild work,
                                     RebuildShardOptions options,
                                     VerifiedBytes on_verified) {
  std::optional<TrafficPriority::Urgent> urgent;
  EnterIfGiven(options.priority, &urgent);
  const std::uint32_t segments = work.group->stripes.Code().data;
  ShardRebuild rebuild(
      co_await asio::this_coro::executor, cpu, std::move(work), options, std::move(on_verified));
  HF_CO_TRYV(rebuild.Check());
  auto step = [&](std::uint64_t segment) {
    return rebuild.Segment(static_cast<std::uint32_t>(segment));
  };
  HF_CO_TRYV(co_await ForEachWindow(segments, segments, step));
  co_return FailpointStatus("rebuild.before_done");
}

namespace {

struct RowRebuild {
  asio::awaitable<Status> Window(std::uint64_t number);

  WorkerPool* cpu;
  VectorDecoder* decoder;
  std::uint32_t stripe;
  std::uint32_t index;
  MutableByteView into;
  const RebuildRowOptions* options;
  Windows windows;
  std::vector<std::uint32_t> digests;
};

asio::awaitable<Status> RowRebuild::Window(std::uint64_t number) {
  const MutableByteView place = into.subspan(windows.Begin(number), windows.Size(number));
  HF_CO_TRYV(co_await options->pacing.Turn(decoder->group().stripes.Code().data * place.size()));
  ShardReadOptions read;
  read.deadline = Clock::now() + options->window_limit;
  HF_CO_TRYV(co_await decoder->Decode(stripe, index, windows.Begin(number), place, read));
  auto digest = [place]() -> Result<std::vector<std::uint32_t>> { return ChunkDigests(place); };
  HF_CO_TRY(const auto made, co_await Offload(*cpu, std::move(digest)));
  std::copy(made.begin(),
            made.end(),
            digests.begin() + static_cast<std::ptrdiff_t>(windows.Begin(number) / kChunkBytes));
  co_return Ok();
}

}  // namespace

asio::awaitable<Result<std::vector<std::uint32_t>>> RebuildRow(WorkerPool* cpu,
                                                               SharedGroup group,
                                                               SharedSources sources,
                                                               std::uint32_t stripe,
                                                               std::uint32_t row,
                                                               MutableByteView into,
                                                               RebuildRowOptions options) {
  const ec::Stripes& stripes = group->stripes;
  if (stripe >= stripes.Count() || row >= stripes.Code().parity ||
      into.size() != stripes.RowLength(stripe)) {
    co_return Error(Errc::kInvalidArgument,
                    "no row " + std::to_string(row) + " of stripe " + std::to_string(stripe) +
                        " with " + std::to_string(into.size()) + " bytes in this group");
  }
  VectorDecoder decoder(cpu, group, std::move(sources), options.rebuild);
  RowRebuild rebuild{.cpu = cpu,
                     .decoder = &decoder,
                     .stripe = stripe,
                     .index = stripes.Code().data + row,
                     .into = into,
                     .options = &options,
                     .windows = Windows(into.size(), options.rebuild.window_bytes),
                     .digests = std::vector<std::uint32_t>(ChunkCount(into.size()))};
  auto step = [&rebuild](std::uint64_t number) { return rebuild.Window(number); };
  HF_CO_TRYV(
      co_await ForEachWindow(rebuild.windows.Count(), options.rebuild.windows_in_flight, step));
  HF_CO_TRYV(FailpointStatus("rebuild.before_row_done"));
  co_return std::move(rebuild.digests);
}

}  // namespace holdfast::daemon
