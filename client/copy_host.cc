#include "client/copy_host.h"

#include <algorithm>
#include <array>
#include <utility>

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
// Runs below this are gathered into a block first: digesting them one by one would cost more.
constexpr ByteCount kShortRunBytes = 4096;
// Waits end by a notification; the deadline only keeps a lost one from being for ever.
constexpr std::chrono::seconds kRecheck{1};

// Copies [offset, offset + bytes) of a source to "to", digesting on the way.
std::uint32_t CopySource(
    std::uint32_t crc, const SourceView& source, ByteCount offset, std::byte* to, ByteCount bytes) {
  std::array<std::byte, kShortRunBytes> block;
  while (bytes > 0) {
    ByteView piece;
    if (source.RunBytes() >= kShortRunBytes) {
      piece = source.RunAt(offset);
      piece = piece.first(static_cast<std::size_t>(std::min<ByteCount>(piece.size(), bytes)));
    } else {
      const auto size = static_cast<std::size_t>(std::min<ByteCount>(block.size(), bytes));
      source.Gather(offset, MutableByteView(block).first(size));
      piece = ByteView(block).first(size);
    }
    crc = CopyAndDigest(crc, to, piece.data(), piece.size());
    offset += piece.size();
    to += piece.size();
    bytes -= piece.size();
  }
  return crc;
}

void CopyStaged(const CopyJob& job) {
  for (std::size_t i = 0; i < job.sources.size(); ++i) {
    const PlannedTensor& tensor = job.plan->Tensors()[i];
    if (tensor.mode == CopyMode::kStaged) {
      job.sources[i].Gather(0,
                            MutableByteView(job.slot->Data() + tensor.offset,
                                            static_cast<std::size_t>(tensor.length)));
    }
  }
}

std::string TornText(const CopyJob& job, const std::string& tensor) {
  return "tensor \"" + tensor + "\" was written while step " + std::to_string(job.step) +
         " was copied: call the fence before every write to the state";
}

}  // namespace

std::uint32_t CopyChunk(const CopyPlan& plan,
                        std::span<const SourceView> sources,
                        std::byte* slot,
                        std::uint64_t chunk) {
  ByteCount at = chunk * kChunkBytes;
  HOLDFAST_CHECK(at < plan.ImageBytes());
  const ByteCount end = std::min(at + kChunkBytes, plan.ImageBytes());
  std::uint32_t crc = 0;
  // The daemon wrote the header when it granted the slot.
  const ByteCount header_end = std::min(end, plan.HeaderBytes());
  if (at < header_end) {
    crc = Crc32c(crc, ByteView(slot + at, static_cast<std::size_t>(header_end - at)));
    at = header_end;
  }
  std::size_t index = at < end ? plan.TensorAt(at) : 0;
  for (; at < end; ++index) {
    const PlannedTensor& tensor = plan.Tensors()[index];
    const ByteCount piece_end = std::min(end, tensor.offset + tensor.length);
    if (tensor.mode == CopyMode::kLazy) {
      crc = CopySource(crc, sources[index], at - tensor.offset, slot + at, piece_end - at);
    } else {
      crc = Crc32c(crc, ByteView(slot + at, static_cast<std::size_t>(piece_end - at)));
    }
    at = piece_end;
  }
  return crc;
}

// A job and its progress, shared by the threads.
struct HostCopyEngine::Running {
  Running(std::shared_ptr<CopyJob> j, JobDone d, SourceSample s)
      : job(std::move(j)),
        done(std::move(d)),
        sample(std::move(s)),
        chunks(ChunkCount(job->plan->ImageBytes())),
        ranges((chunks + kChunksPerRange - 1) / kChunksPerRange),
        ranges_left(ranges),
        began(SystemClock().Now()) {
    job->outcome = CopyOutcome();
    job->outcome.chunk_crc32c.resize(chunks);
  }

  const std::shared_ptr<CopyJob> job;
  const JobDone done;
  const SourceSample sample;
  const std::uint64_t chunks;
  const std::uint64_t ranges;
  std::atomic<std::uint64_t> next_range{0};
  // Whoever takes it to 0 sees all that the others copied.
  std::atomic<std::uint64_t> ranges_left;
  std::atomic<bool> failed{false};
  Mutex mutex;
  std::string failure HF_GUARDED_BY(mutex);  // of the first chunk that failed
  const MonotonicTime began;
};

HostCopyEngine::HostCopyEngine(std::uint32_t threads) {
  for (std::uint32_t i = 0; i < std::max(threads, 1U); ++i) {
    threads_.emplace_back([this] { Work(); });
  }
}

HostCopyEngine::~HostCopyEngine() {
  Stop();
}

Status HostCopyEngine::Adopt(std::shared_ptr<const CopyPlan> plan) {
  if (!plan->Devices().empty()) {
    return Error(Errc::kInvalidArgument,
                 "a tensor is on device " + std::to_string(plan->Devices().front()) +
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
  SourceSample sample(*job->plan, job->sample_fraction, static_cast<std::uint64_t>(job->step));
  sample.Take(job->sources);
  CopyStaged(*job);
  auto running = std::make_shared<Running>(std::move(job), std::move(done), std::move(sample));
  MutexLock lock(mutex_);
  if (stopping_ || running_ != nullptr) {
    return Error(Errc::kUnavailable, "the copy engine has stopped");
  }
  running_ = std::move(running);
  work_.NotifyAll();
  return Ok();
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
  CopyJob& job = *running->job;
  while (true) {
    const std::uint64_t range = running->next_range.fetch_add(1, std::memory_order_relaxed);
    if (range >= running->ranges) {
      return;
    }
    const std::uint64_t end = std::min((range + 1) * kChunksPerRange, running->chunks);
    for (std::uint64_t chunk = range * kChunksPerRange; chunk < end; ++chunk) {
      const Status status = FailpointStatus("client.copy.chunk");
      if (status.has_error()) {
        MutexLock lock(running->mutex);
        running->failure = status.error().ToString();
        running->failed.store(true, std::memory_order_relaxed);
      }
      if (running->failed.load(std::memory_order_relaxed)) {
        break;
      }
      job.outcome.chunk_crc32c[chunk] = CopyChunk(*job.plan, job.sources, job.slot->Data(), chunk);
    }
    EndStreaming();
    if (running->ranges_left.fetch_sub(1, std::memory_order_acq_rel) == 1) {
      Finish(running);
    }
  }
}

void HostCopyEngine::Finish(const std::shared_ptr<Running>& running) {
  CopyJob& job = *running->job;
  job.outcome.duration = SystemClock().Now() - running->began;
  if (running->failed.load(std::memory_order_relaxed)) {
    MutexLock lock(running->mutex);
    job.outcome.kind = CopyOutcome::Kind::kFailed;
    job.outcome.reason = running->failure;
  } else if (const auto torn = running->sample.Check(*job.plan, job.sources, job.slot->Data())) {
    job.outcome.kind = CopyOutcome::Kind::kTorn;
    job.outcome.reason = TornText(job, job.plan->Tensors()[*torn].name);
  } else {
    job.outcome.kind = CopyOutcome::Kind::kCopied;
  }
  {
    MutexLock lock(mutex_);
    running_.reset();
    idle_.NotifyAll();
  }
  // The fence is open; what follows costs the training nothing.
  running->done(running->job);
}

}  // namespace holdfast::client
