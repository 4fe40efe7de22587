#include "client/copy_host.h"

#include <algorithm>
#include <set>
#include <utility>

#include "client/chunk_copy.h"
#include "client/stream_copy.h"
#include "common/check.h"
#include "common/crc32c.h"
#include "common/failpoint.h"

namespace holdfast::client {
namespace {

// What a thread takes at a time: long enough to stream, short enough to share evenly.
constexpr std::uint64_t kChunksPerRange = 4;
// Slots come one at a time; more waiting ones are no daemon of ours.
constexpr std::size_t kMaxPreparations = 64;
// Waits end by a notification; the deadline only keeps a lost one from being for ever.
constexpr std::chrono::seconds kRecheck{1};

}  // namespace

std::uint32_t CopyChunk(const CopyPlan& plan,
                        std::span<const SourceView> sources,
                        std::byte* slot,
                        std::uint64_t chunk) {
  HOLDFAST_CHECK(chunk < ChunkCount(plan.ImageBytes()));
  std::uint32_t crc = 0;
  const auto digest = [&](ByteCount at, ByteCount bytes) {
    crc = Crc32c(crc, ByteView(slot + at, static_cast<std::size_t>(bytes)));
  };
  // The daemon wrote the header when it granted the slot.
  ForEachPiece(plan, chunk, digest, [&](std::size_t index, ByteCount offset, ByteCount bytes) {
    const PlannedTensor& tensor = plan.Tensors()[index];
    const ByteCount at = tensor.offset + offset;
    if (tensor.mode == CopyMode::kLazy) {
      crc = CopySource(crc, sources[index], offset, slot + at, bytes);
    } else {
      digest(at, bytes);
    }
  });
  return crc;
}

// A job and its progress, shared by the threads.
struct HostCopyEngine::Running {
  Running(std::shared_ptr<CopyJob> j, JobDone d, SourceSample s)
      : job(std::move(j)),
        done(std::move(d)),
        sample(std::move(s)),
        chunks(ChunkCount(job->plan->ImageBytes())),
        frozen_chunks(FrozenChunks(*job)),
        own_ranges(RangesOf(chunks)),
        ranges(own_ranges + RangesOf(frozen_chunks)),
        ranges_left(ranges),
        began(SystemClock().Now()) {
    job->outcome = CopyOutcome();
    job->outcome.chunk_crc32c.resize(chunks);
    if (frozen_chunks > 0 && job->frozen->work == FrozenPart::Work::kFill) {
      job->frozen->chunk_crc32c.resize(frozen_chunks);
    }
  }

  static std::uint64_t RangesOf(std::uint64_t count) {
    return (count + kChunksPerRange - 1) / kChunksPerRange;
  }

  // A sample is read at the end.
  static std::uint64_t FrozenChunks(const CopyJob& job) {
    const bool all = job.frozen.has_value() && job.frozen->work != FrozenPart::Work::kSample;
    return all ? ChunkCount(job.frozen->plan->ImageBytes()) : 0;
  }

  const std::shared_ptr<CopyJob> job;
  const JobDone done;
  SourceSample sample;
  const std::uint64_t chunks;
  const std::uint64_t frozen_chunks;
  const std::uint64_t own_ranges;  // of the dynamic image; those of the static one follow
  const std::uint64_t ranges;
  std::atomic<std::uint64_t> next_range{0};
  // Whoever takes it to 0 sees all that the others copied.
  std::atomic<std::uint64_t> ranges_left;
  std::atomic<bool> failed{false};
  Mutex mutex;
  std::string failure HF_GUARDED_BY(mutex);            // of the first chunk that failed
  std::set<std::size_t> changed HF_GUARDED_BY(mutex);  // planned tensors of the static image
  const MonotonicTime began;
};

HostCopyEngine::HostCopyEngine(std::uint32_t threads, const ThreadStarter& start) {
  const Status started = StartThreads(
      std::max(threads, 1U), [this] { Work(); }, &threads_, start);
  if (threads_.empty()) {
    no_threads_ = Error(started.error()).WithContext("the copy engine");
    Stop();  // nothing is to wait for it
  }
}

HostCopyEngine::~HostCopyEngine() {
  Stop();
}

Status HostCopyEngine::Adopt(std::shared_ptr<const CopyPlan> plan) {
  if (no_threads_.has_value()) {
    return *no_threads_;
  }
  if (const auto devices = plan->AllDevices(); !devices.empty()) {
    return Error(Errc::kInvalidArgument,
                 "a tensor is on device " + std::to_string(devices.front()) +
                     ", and this library copies from host memory only");
  }
  return Ok();
}

Status HostCopyEngine::Prepare(std::shared_ptr<SlotMapping> slot, SlotReady ready) {
  MutexLock lock(mutex_);
  if (stopping_ || preparations_.size() >= kMaxPreparations) {
    return Error(Errc::kUnavailable, "the copy engine takes no more slots");
  }
  preparations_.push_back(Preparation{std::move(slot), std::move(ready)});
  work_.NotifyOne();
  return Ok();
}

Status HostCopyEngine::Start(std::shared_ptr<CopyJob> job, JobDone done) {
  if (std::string busy = Busy(); !busy.empty()) {
    return Error(Errc::kUnavailable, std::move(busy));
  }
  HOLDFAST_CHECK(job->sources.size() == job->plan->Tensors().size());
  HOLDFAST_CHECK(job->slot->Size() >= job->plan->ImageBytes());
  SourceSample sample = SampleFor(*job);
  sample.Take(job->sources);
  CopyStaged(*job->plan, job->sources, job->slot->Data());
  auto running = std::make_shared<Running>(std::move(job), std::move(done), std::move(sample));
  MutexLock lock(mutex_);
  if (stopping_ || running_ != nullptr) {
    return Error(Errc::kUnavailable, "the copy engine has stopped");
  }
  running_ = std::move(running);
  work_.NotifyAll();
  return Ok();
}

SourceSample HostCopyEngine::SampleFor(const CopyJob& job) {
  std::optional<NextSample> next;
  {
    MutexLock lock(mutex_);
    next.swap(next_sample_);
  }
  if (next.has_value() && next->plan == job.plan && next->fraction == job.sample_fraction) {
    return std::move(next->sample);
  }
  return {*job.plan, job.sample_fraction, static_cast<std::uint64_t>(job.step)};
}

std::string HostCopyEngine::Busy() const {
  MutexLock lock(mutex_);
  return running_ == nullptr
             ? ""
             : "the copy of the snapshot before is still under way: call the fence first";
}

bool HostCopyEngine::WaitFence(std::span<const DeviceStream> /*streams*/) {
  MutexLock lock(mutex_);
  while (running_ != nullptr) {
    idle_.WaitUntil(lock, SystemClock().Now() + kRecheck);
  }
  return true;
}

void HostCopyEngine::Stop() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    work_.NotifyAll();
  }
  for (std::thread& thread : threads_) {
    thread.join();
  }
  threads_.clear();
}

void HostCopyEngine::Work() {
  MutexLock lock(mutex_);
  while (true) {
    const bool ranges_wait =
        running_ != nullptr &&
        running_->next_range.load(std::memory_order_relaxed) < running_->ranges;
    if (ranges_wait) {
      const std::shared_ptr<Running> running = running_;
      lock.Unlock();
      CopyRanges(running);
      lock.Lock();
    } else if (!preparations_.empty()) {
      Preparation next = std::move(preparations_.front());
      preparations_.pop_front();
      const bool stopping = stopping_;
      lock.Unlock();
      next.ready(stopping ? Status(Error(Errc::kCancelled, "the client is being closed"))
                          : next.slot->Populate());
      lock.Lock();
    } else if (stopping_) {
      return;
    } else {
      work_.WaitUntil(lock, SystemClock().Now() + kRecheck);
    }
  }
}

void HostCopyEngine::CopyRanges(const std::shared_ptr<Running>& running) {
  while (true) {
    const std::uint64_t range = running->next_range.fetch_add(1, std::memory_order_relaxed);
    if (range >= running->ranges) {
      return;
    }
    const bool own = range < running->own_ranges;
    const std::uint64_t first = (own ? range : range - running->own_ranges) * kChunksPerRange;
    const std::uint64_t end =
        std::min(first + kChunksPerRange, own ? running->chunks : running->frozen_chunks);
    for (std::uint64_t chunk = first; chunk < end; ++chunk) {
      const Status status = FailpointStatus("client.copy.chunk");
      if (status.has_error()) {
        MutexLock lock(running->mutex);
        running->failure = status.error().ToString();
        running->failed.store(true, std::memory_order_relaxed);
      }
      if (running->failed.load(std::memory_order_relaxed)) {
        break;
      }
      own ? CopyOne(running.get(), chunk) : DoFrozen(running.get(), chunk);
    }
    EndStreaming();
    if (running->ranges_left.fetch_sub(1, std::memory_order_acq_rel) == 1) {
      Finish(running);
    }
  }
}

void HostCopyEngine::CopyOne(Running* running, std::uint64_t chunk) {
  CopyJob& job = *running->job;
  job.outcome.chunk_crc32c[chunk] = CopyChunk(*job.plan, job.sources, job.slot->Data(), chunk);
}

void HostCopyEngine::DoFrozen(Running* running, std::uint64_t chunk) {
  FrozenPart& frozen = *running->job->frozen;
  if (frozen.work == FrozenPart::Work::kFill) {
    frozen.chunk_crc32c[chunk] =
        CopyChunk(*frozen.plan, frozen.sources, frozen.slot->Data(), chunk);
    return;
  }
  const std::vector<std::size_t> differing = CompareChunk(frozen, chunk);
  if (!differing.empty()) {
    MutexLock lock(running->mutex);
    running->changed.insert(differing.begin(), differing.end());
  }
}

// Also after a fill or a comparison: what was written meanwhile is not frozen.
void HostCopyEngine::CheckFrozen(Running* running) {
  FrozenPart& frozen = *running->job->frozen;
  const SourceSample sample(
      *frozen.plan, running->job->sample_fraction, static_cast<std::uint64_t>(running->job->step));
  const auto differing = sample.Differences(*frozen.plan, frozen.sources, frozen.slot->Data());
  MutexLock lock(running->mutex);
  running->changed.insert(differing.begin(), differing.end());
  frozen.changed.assign(running->changed.begin(), running->changed.end());
  frozen.good = frozen.changed.empty();
}

void HostCopyEngine::Finish(const std::shared_ptr<Running>& running) {
  CopyJob& job = *running->job;
  const bool failed = running->failed.load(std::memory_order_relaxed);
  if (job.frozen.has_value() && !failed) {
    CheckFrozen(running.get());
  }
  job.outcome.duration = SystemClock().Now() - running->began;
  if (failed) {
    MutexLock lock(running->mutex);
    Conclude(&job, running->failure, std::nullopt);
  } else {
    Conclude(&job, std::nullopt, running->sample.Check(*job.plan, job.sources, job.slot->Data()));
  }
  {
    MutexLock lock(mutex_);
    running_.reset();
    idle_.NotifyAll();
  }
  // The fence is open; what follows costs the training nothing.
  running->done(running->job);
  ChooseNextSample(running.get());
}

void HostCopyEngine::ChooseNextSample(Running* running) {
  const CopyJob& job = *running->job;
  running->sample.ChooseAnew(*job.plan, static_cast<std::uint64_t>(job.step) + 1);
  MutexLock lock(mutex_);
  next_sample_ = NextSample{job.plan, job.sample_fraction, std::move(running->sample)};
}

}  // namespace holdfast::client
