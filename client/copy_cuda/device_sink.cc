#include "client/copy_cuda/device_sink.h"

#include <algorithm>
#include <utility>

#include "client/device.h"
#include "common/crc32c.h"

namespace holdfast::client {
namespace {

constexpr std::size_t kRoomBytes = LoadSink::kRoomChunks * kChunkBytes;
// Beside those that threads fill: on their way, so that the link is never idle.  No more than that:
// the fewer there are, the more of them the caches hold.
constexpr std::uint32_t kMoreRooms = 4;
constexpr std::chrono::seconds kRecheck{1};

}  // namespace

Result<std::unique_ptr<LoadSink>> DeviceSink::Make(std::uint32_t threads) {
  auto guard = std::make_unique<const TrainerThread>();
  const std::uint32_t fillers = std::clamp(threads, 1U, 32U);
  const std::uint32_t rooms = fillers + kMoreRooms;
  HF_TRY(PinnedPages memory, PinnedPages::Make(rooms * kRoomBytes, fillers));
  std::unique_ptr<DeviceSink> sink(new DeviceSink(std::move(guard), std::move(memory)));
  MutexLock lock(sink->mutex_);
  for (std::uint32_t i = 0; i < rooms; ++i) {
    sink->free_.emplace_back(sink->memory_.Data() + i * kRoomBytes, kRoomBytes);
  }
  lock.Unlock();
  return std::unique_ptr<LoadSink>(std::move(sink));
}

DeviceSink::~DeviceSink() {
  MutexLock lock(mutex_);
  for (const auto& [device, stream] : streams_) {
    static_cast<void>(cudaStreamSynchronize(stream.get()));  // until then the memory is read
  }
}

Result<MutableByteView> DeviceSink::Borrow() {
  const BesideCaptures guard;  // of the threads that load, which the trainer does not know
  MutexLock lock(mutex_);
  while (true) {
    if (failure_.has_value()) {
      return *failure_;
    }
    if (!free_.empty()) {
      const MutableByteView room = free_.back();
      free_.pop_back();
      return room;
    }
    if (sent_.empty()) {
      changed_.WaitUntil(lock, SystemClock().Now() + kRecheck);
      continue;
    }
    const Sent oldest = sent_.front();
    sent_.pop_front();
    lock.Unlock();
    const Status arrived = CudaStatus(cudaEventSynchronize(oldest.event), "a copy to the device");
    lock.Lock();
    free_.push_back(oldest.room);
    changed_.NotifyAll();
    if (arrived.has_error()) {
      failure_ = arrived.error();
    }
  }
}

Status DeviceSink::Send(MutableByteView room, std::span<const Part> parts) {
  const BesideCaptures guard;
  MutexLock lock(mutex_);
  Status sent = failure_.has_value() ? Status(*failure_) : Ok();
  if (sent.has_value() && !parts.empty()) {
    sent = SendParts(room, parts);
  } else {
    free_.push_back(room);
  }
  if (sent.has_error() && !failure_.has_value()) {
    failure_ = sent.error();
  }
  changed_.NotifyAll();
  return sent;
}

// Under the lock: the driver takes copies one at a time anyway.
Status DeviceSink::SendParts(MutableByteView room, std::span<const Part> parts) {
  std::int32_t current = -1;
  cudaStream_t stream = nullptr;
  for (const Part& part : parts) {
    if (part.device != current) {
      HF_TRY(stream, StreamFor(part.device));
      current = part.device;
    }
    HF_TRYV(CudaStatus(cudaMemcpyAsync(part.destination,
                                       room.data() + part.room_offset,
                                       part.bytes,
                                       cudaMemcpyHostToDevice,
                                       stream),
                       "cudaMemcpyAsync to the device"));
  }
  // A room with parts for several devices is free when the last one's has gone: the streams of the
  // others are waited for by it.
  for (const auto& [device, other] : streams_) {
    const bool used = std::any_of(
        parts.begin(), parts.end(), [&, d = device](const Part& part) { return part.device == d; });
    if (used && device != current) {
      HF_TRYV(
          CudaStatus(cudaSetDevice(device), "cudaSetDevice"));  // an event is of the current one
      HF_TRY(CudaEvent event, MakeEvent());
      HF_TRYV(CudaStatus(cudaEventRecord(event.get(), other.get()), "cudaEventRecord"));
      HF_TRYV(CudaStatus(cudaStreamWaitEvent(stream, event.get(), 0), "cudaStreamWaitEvent"));
    }
  }
  CudaEvent& event = events_[room.data()][current];
  if (event == nullptr) {
    HF_TRYV(CudaStatus(cudaSetDevice(current), "cudaSetDevice"));
    HF_TRY(event, MakeEvent(cudaEventDisableTiming | cudaEventBlockingSync));
  }
  HF_TRYV(CudaStatus(cudaEventRecord(event.get(), stream), "cudaEventRecord"));
  sent_.push_back(Sent{room, event.get()});
  return Ok();
}

Result<cudaStream_t> DeviceSink::StreamFor(std::int32_t device) {
  HF_TRYV(CudaStatus(cudaSetDevice(device), "cudaSetDevice"));
  CudaStream& stream = streams_[device];
  if (stream == nullptr) {
    // What the trainer's streams still do to the destinations (initialisation) comes before.
    HF_TRYV(CudaStatus(cudaDeviceSynchronize(), "cudaDeviceSynchronize"));
    HF_TRY(stream, MakeStream());
  }
  return stream.get();
}

Status DeviceSink::Duplicate(std::byte* to,
                             std::int32_t device,
                             const std::byte* from,
                             ByteCount bytes) {
  if (device != kHostDevice) {
    HF_TRYV(CudaStatus(cudaSetDevice(device), "cudaSetDevice"));
  }
  HF_TRYV(CudaStatus(cudaMemcpy(to, from, bytes, cudaMemcpyDefault), "cudaMemcpy"));
  // From device to device it does not wait, and neither need the trainer's streams for this one.
  return CudaStatus(cudaStreamSynchronize(nullptr), "cudaStreamSynchronize");
}

std::string DeviceSink::Note() const {
  return memory_.Pinned() ? ""
                          : "the buffers of the restore could not be pinned, so it took a multiple "
                            "of the time: " +
                                memory_.WhyNot();
}

Status DeviceSink::Finish() {
  MutexLock lock(mutex_);
  while (!sent_.empty()) {
    const Sent oldest = sent_.front();
    sent_.pop_front();
    const Status arrived = CudaStatus(cudaEventSynchronize(oldest.event), "a copy to the device");
    free_.push_back(oldest.room);
    if (arrived.has_error() && !failure_.has_value()) {
      failure_ = arrived.error();
    }
  }
  return failure_.has_value() ? Status(*failure_) : Ok();
}

}  // namespace holdfast::client
