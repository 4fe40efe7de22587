// The engine's part in static images: frozen tensors, which a snapshot fills, compares or samples.
#include <algorithm>
#include <utility>

#include "client/chunk_copy.h"
#include "client/copy_cuda/copy_cuda.h"
#include "client/copy_cuda/running.h"
#include "client/stream_copy.h"
#include "common/failpoint.h"

namespace holdfast::client {

// Made anew for each plan: a room's tables are of its tensors.
Status CudaCopyEngine::AdoptFrozen(const CopyPlan& plan) {
  frozen_lanes_.clear();
  if (plan.Frozen() == nullptr) {
    return Ok();
  }
  for (const std::int32_t device : plan.Frozen()->Devices()) {
    HF_TRY(frozen_lanes_[device],
           FrozenLane::Make(plan.Frozen(), device, options_.window_bytes, kMostUnderWay));
  }
  return Ok();
}

Status CudaCopyEngine::BeginFrozen(Running* running) {
  if (!running->job->frozen.has_value()) {
    return Ok();
  }
  FrozenPart& part = *running->job->frozen;
  if (part.work == FrozenPart::Work::kFill) {
    part.chunk_crc32c.resize(ChunkCount(part.plan->ImageBytes()));
  }
  running->frozen_taken = running->frozen_read = running->frozen_done = false;
  for (const std::int32_t device : part.plan->Devices()) {
    FrozenLane* const lane = frozen_lanes_.at(device).get();
    HF_TRY(cudaStream_t const stream, TrainerStream(running->job->streams, device));
    Room* room = nullptr;
    {
      MutexLock lock(mutex_);
      room = lane->rooms().Take();
    }
    running->frozen_flights.push_back(std::make_unique<FrozenFlight>(lane, running->job, room));
    HF_TRYV(running->frozen_flights.back()->Begin(stream));
  }
  return Ok();
}

// All that a snapshot does with the static image.
void CudaCopyEngine::DoFrozen(Running* running) {
  LeaveCapturesAlone();
  FrozenPart& part = *running->job->frozen;
  std::set<std::size_t> changed;
  const Status read = ReadFrozen(running, &changed);
  if (part.work == FrozenPart::Work::kCompare) {
    NoteMemory();  // the first comparison makes a buffer
  }
  MutexLock lock(mutex_);
  running->frozen_read = true;
  if (read.has_error() && !running->failure.has_value()) {
    running->failure = read.error().ToString();
  }
  const bool failed = running->failure.has_value();
  changed_.NotifyAll();  // the fence need not wait for digests
  lock.Unlock();
  if (!failed) {
    for (std::uint64_t chunk = 0; chunk < part.chunk_crc32c.size(); ++chunk) {
      const ByteCount at = chunk * kChunkBytes;
      const ByteCount bytes = std::min<ByteCount>(kChunkBytes, part.plan->ImageBytes() - at);
      part.chunk_crc32c[chunk] =
          Crc32c(0, ByteView(part.slot->Data() + at, static_cast<std::size_t>(bytes)));
    }
    part.changed.assign(changed.begin(), changed.end());
    part.good = changed.empty();
  }
  lock.Lock();
}

Status CudaCopyEngine::ReadFrozen(Running* running, std::set<std::size_t>* changed) {
  {
    MutexLock lock(mutex_);
    if (running->failure.has_value()) {
      return Ok();  // of a flight: what has begun of this part reads nothing of its own accord
    }
  }
  HF_TRYV(FailpointStatus("client.copy.chunk"));
  ReadFrozenOfHost(running, changed);
  if (running->job->frozen->work == FrozenPart::Work::kSample) {
    // The sample of devices was read on the trainer's streams: nobody waits for them.
    MutexLock lock(mutex_);
    running->frozen_read = true;
    changed_.NotifyAll();
  }
  for (const auto& flight : running->frozen_flights) {
    HF_TRYV(flight->Read(changed));
  }
  return Ok();
}

void CudaCopyEngine::ReadFrozenOfHost(Running* running, std::set<std::size_t>* changed) {
  const FrozenPart& part = *running->job->frozen;
  const auto& tensors = part.plan->Tensors();
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    if (tensors[i].device != kHostDevice || part.work == FrozenPart::Work::kSample) {
      continue;
    }
    std::byte* const in_slot = part.slot->Data() + tensors[i].offset;
    if (part.work == FrozenPart::Work::kFill) {
      static_cast<void>(CopySource(0, part.sources[i], 0, in_slot, tensors[i].length));
    } else if (!IsInSlot(part.sources[i], 0, in_slot, tensors[i].length)) {
      changed->insert(i);
    }
  }
  EndStreaming();
  const SourceSample sample(
      *part.plan, running->job->sample_fraction, static_cast<std::uint64_t>(running->job->step));
  for (const std::size_t tensor : sample.Differences(*part.plan, part.sources, part.slot->Data())) {
    changed->insert(tensor);
  }
}

}  // namespace holdfast::client
