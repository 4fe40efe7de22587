// The engine's own threads.
#include <algorithm>
#include <utility>

#include "client/chunk_copy.h"
#include "client/copy_cuda/copy_cuda.h"
#include "client/copy_cuda/running.h"
#include "client/copy_cuda/slot_registration.h"
#include "client/copy_cuda/word_sum.h"
#include "client/stream_copy.h"
#include "common/check.h"
#include "common/failpoint.h"

namespace holdfast::client {
namespace {

constexpr std::chrono::seconds kRecheck{1};
// How often the copy thread looks whether something landed: a window takes about a millisecond.
constexpr std::chrono::microseconds kPoll{100};

}  // namespace

// ---- the copy thread ----

void CudaCopyEngine::Drive() {
  bool ready = false;
  MutexLock lock(mutex_);
  while (true) {
    if (running_.empty()) {
      if (stopping_) {
        return;
      }
      drive_.WaitUntil(lock, SystemClock().Now() + kRecheck);
      continue;
    }
    const std::vector<std::shared_ptr<Running>> all(running_.begin(), running_.end());
    lock.Unlock();
    if (!ready) {
      LeaveCapturesAlone();
      ready = true;
    }
    const bool moved = AdvanceAll(all);
    lock.Lock();
    if (!moved && !running_.empty()) {
      const bool landing = std::any_of(running_.begin(), running_.end(), [](const auto& running) {
        return !running->landed_all;
      });
      drive_.WaitUntil(lock,
                       landing ? SystemClock().Now() + kPoll : SystemClock().Now() + kRecheck);
    }
  }
}

bool CudaCopyEngine::AdvanceAll(const std::vector<std::shared_ptr<Running>>& all) {
  bool moved = false;
  // Lanes on which an older snapshot has not issued all yet: the order of the image is its alone.
  std::vector<Lane*> closed;
  for (const std::shared_ptr<Running>& running : all) {
    bool hurry = false;
    {
      MutexLock lock(mutex_);
      if (running->landed_all) {
        continue;
      }
      hurry = running->hurry;
    }
    moved = AdvanceOne(running.get(), closed, hurry) || moved;
    for (const auto& flight : running->flights) {
      if (!flight->Issued()) {
        closed.push_back(flight->lane());
      }
    }
  }
  return moved;
}

bool CudaCopyEngine::AdvanceOne(Running* running, const std::vector<Lane*>& closed, bool hurry) {
  bool moved = false;
  bool released = true;
  bool ended = true;
  ByteCount landed = running->job->plan->ImageBytes();
  const Error* failure = nullptr;
  for (const auto& flight : running->flights) {
    const bool open = std::find(closed.begin(), closed.end(), flight->lane()) == closed.end();
    moved = flight->Advance(hurry, open) || moved;
    released = released && flight->Released();
    ended = ended && flight->Ended();
    landed = std::min(landed, flight->Landed());
    failure = flight->Failure().has_value() ? &*flight->Failure() : failure;
  }
  if (ended) {
    for (const auto& flight : running->flights) {
      flight->lane()->Tidy();
    }
  }
  MutexLock lock(mutex_);
  if (failure != nullptr && !running->failure.has_value()) {
    running->failure = failure->ToString();
  }
  moved = moved || running->released != released || running->landed_all != ended;
  running->released = released;
  running->landed_all = ended;
  running->landed = landed;
  if (moved) {
    changed_.NotifyAll();
    work_.NotifyAll();
  }
  return moved;
}

// ---- the workers ----

void CudaCopyEngine::Work() {
  MutexLock lock(mutex_);
  while (true) {
    const Task task = NextTask();
    if (task.run != nullptr) {
      lock.Unlock();
      task.run();
      lock.Lock();
      task.record();
      if (task.wakes) {
        changed_.NotifyAll();
        work_.NotifyAll();
      }
      continue;
    }
    if (stopping_ && running_.empty()) {
      return;
    }
    work_.WaitUntil(lock, SystemClock().Now() + kRecheck);
  }
}

CudaCopyEngine::Task CudaCopyEngine::NextTask() {
  for (const std::shared_ptr<Running>& running : running_) {
    if (running->Finishable()) {
      running->finishing = true;
      return Task{[this, running] { Finish(running); }, [] {}};
    }
    Task task = NextTaskOf(running);
    if (task.run != nullptr) {
      ++running->working;
      return Task{std::move(task.run),
                  [running, record = std::move(task.record)] {
                    record();
                    --running->working;
                  },
                  task.wakes};
    }
  }
  if (preparations_.empty()) {
    return {};
  }
  const Preparation next = std::move(preparations_.front());
  preparations_.pop_front();
  return Task{[this, next] { PrepareSlot(next); }, [] {}};
}

CudaCopyEngine::Task CudaCopyEngine::NextTaskOf(const std::shared_ptr<Running>& running) {
  if (running->HostPiecesLeft()) {
    const std::size_t piece = running->next_host_piece++;
    ++running->host_working;
    return Task{[running, piece] { CopyHostPiece(running.get(), piece); },
                [running] { --running->host_working; }};
  }
  if (running->HostCheckDue()) {
    running->host_check_taken = true;
    ++running->host_working;
    return Task{[running] { CheckHost(running.get()); },
                [running] {
                  --running->host_working;
                  running->host_done = true;
                }};
  }
  if (!running->frozen_taken) {
    running->frozen_taken = true;
    return Task{[this, running] { DoFrozen(running.get()); },
                [running] {
                  running->frozen_read = true;
                  running->frozen_done = true;
                }};
  }
  if (running->RangeReady(options_.threads)) {
    const std::uint64_t range = running->next_range++;
    ++running->digesting;
    // Nobody waits for a range: whoever ends the last one finds the end itself.
    return Task{[this, running, range] { DigestRange(running.get(), range); },
                [running] { --running->digesting; },
                false};
  }
  return {};
}

void CudaCopyEngine::CheckHost(Running* running) {
  const CopyJob& job = *running->job;
  const auto torn = running->sample.Check(*job.plan, job.sources, job.slot->Data());
  if (torn.has_value()) {
    running->bad_tensor.store(*torn, std::memory_order_relaxed);
  }
}

void CudaCopyEngine::PrepareSlot(const Preparation& preparation) {
  std::int32_t device = kHostDevice;
  {
    MutexLock lock(mutex_);
    if (stopping_) {
      lock.Unlock();
      preparation.ready(Error(Errc::kCancelled, "the client is being closed"));
      return;
    }
    device = pin_device_;
  }
  const Status populated = preparation.slot->Populate();
  if (device != kHostDevice) {
    auto pinned = SlotRegistration::Make(*preparation.slot, device);
    MutexLock lock(mutex_);
    if (pinned.has_value()) {
      preparation.slot->SetPin(std::move(pinned).value());
      ++state_.pinned_slots;
    } else {
      preparation.slot->SetPin(nullptr);
      ++state_.unpinned_slots;
      Note("slots cannot be pinned, so copies take a multiple of the time: " +
           pinned.error().ToString());
    }
  }
  preparation.ready(populated);
}

void CudaCopyEngine::CopyHostPiece(Running* running, std::size_t piece) {
  const TensorPiece& what = running->host_pieces[piece];
  const CopyPlan& plan = *running->job->plan;
  // The digest is taken with its chunk's, when all of that is there.
  static_cast<void>(
      CopySource(0,
                 running->job->sources[what.tensor],
                 what.offset,
                 running->job->slot->Data() + plan.Tensors()[what.tensor].offset + what.offset,
                 what.bytes));
  EndStreaming();
}

void CudaCopyEngine::DigestRange(Running* running, std::uint64_t range) {
  const std::uint64_t end = std::min((range + 1) * Running::kChunksPerRange, running->chunks);
  for (std::uint64_t chunk = range * Running::kChunksPerRange; chunk < end; ++chunk) {
    if (const Status status = FailpointStatus("client.copy.chunk"); status.has_error()) {
      MutexLock lock(mutex_);
      running->failure = status.error().ToString();
      break;
    }
    running->job->outcome.chunk_crc32c[chunk] = DigestChunk(running, chunk);
  }
  EndStreaming();
}

std::uint32_t CudaCopyEngine::DigestChunk(Running* running, std::uint64_t chunk) {
  const CopyPlan& plan = *running->job->plan;
  std::byte* const slot = running->job->slot->Data();
  std::uint32_t crc = 0;
  const auto digest = [&](ByteCount at, ByteCount bytes) {
    crc = Crc32c(crc, ByteView(slot + at, static_cast<std::size_t>(bytes)));
  };
  ForEachPiece(plan, chunk, digest, [&](std::size_t index, ByteCount offset, ByteCount bytes) {
    const PlannedTensor& tensor = plan.Tensors()[index];
    const ByteCount at = tensor.offset + offset;
    const Flight* const flight = running->flight_of[index];
    if (flight == nullptr) {
      digest(at, bytes);
      return;
    }
    const LanePlan& lane = flight->lane()->Plan();
    const ByteCount small = lane.SmallAt(index);
    const std::byte* landed = slot + at;
    if (small != LanePlan::kNotSmall) {
      landed = flight->room()->Small(small) + offset;
      crc = CopyAndDigest(crc, slot + at, landed, static_cast<std::size_t>(bytes));
    } else {
      digest(at, bytes);
    }
    const std::size_t segment =
        lane.FirstSegment(index) +
        static_cast<std::size_t>(at / kChunkBytes - tensor.offset / kChunkBytes);
    const auto sum = flight->room()->Sum(segment);
    if (sum.has_value() && WordSum(ByteView(landed, static_cast<std::size_t>(bytes))) != *sum) {
      running->bad_tensor.store(index, std::memory_order_relaxed);
    }
  });
  return crc;
}

void CudaCopyEngine::Finish(const std::shared_ptr<Running>& running) {
  CopyJob& job = *running->job;
  std::optional<std::string> failure;
  std::chrono::nanoseconds held{0};
  {
    MutexLock lock(mutex_);
    failure = running->failure;
    if (!running->flights.empty()) {
      LeaveCapturesAlone();  // for the times between events, here and below
    }
    for (const HeldBack& wait : running->held_back) {
      held = wait.before == nullptr ? held : std::max(held, wait.Duration());
    }
  }
  std::size_t torn = running->bad_tensor.load(std::memory_order_relaxed);
  if (!failure.has_value() && torn == Running::kNone) {
    for (const auto& flight : running->flights) {
      torn = std::min(torn, flight->room()->ChangedTensor(job.slot->Data()).value_or(torn));
    }
  }
  job.outcome.duration = SystemClock().Now() - running->began;
  job.outcome.device_wait = held;
  Conclude(&job, failure, torn == Running::kNone ? std::nullopt : std::optional<std::size_t>(torn));
  {
    MutexLock lock(mutex_);
    for (const auto& flight : running->flights) {
      flight->lane()->rooms().Return(flight->room());
      flight->NoteWait(running->held_back);
      if (!failure.has_value()) {
        state_.unpinned += flight->Unpinned();
      }
    }
    for (const auto& flight : running->frozen_flights) {
      flight->lane()->rooms().Return(flight->room());
      state_.unpinned += flight->Unpinned();
    }
    running->ended = true;
    std::erase(running_, running);
    changed_.NotifyAll();
    drive_.NotifyAll();  // Stop waits for its end
  }
  running->done(running->job);
}

}  // namespace holdfast::client
