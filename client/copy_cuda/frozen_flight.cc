#include "client/copy_cuda/frozen_flight.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <thread>

#include "client/copy_cuda/stream_mark.h"

namespace holdfast::client {
namespace {

// A window takes milliseconds, a sample less; the worker has nothing better to do.
constexpr std::chrono::microseconds kPoll{100};

}  // namespace

Result<std::unique_ptr<FrozenLane>> FrozenLane::Make(std::shared_ptr<const CopyPlan> plan,
                                                     std::int32_t device,
                                                     ByteCount window_bytes,
                                                     std::size_t rooms) {
  HF_TRYV(CudaStatus(cudaSetDevice(device), "cudaSetDevice"));
  std::unique_ptr<FrozenLane> lane(new FrozenLane(std::move(plan), device, window_bytes));
  HF_TRY(lane->copies_, MakeStream());
  HF_TRYV(lane->rooms_.Fill(lane->plan_, rooms));
  return lane;
}

std::string FrozenLane::WhyUnpinned() const {
  const std::string of_rooms = rooms_.WhyUnpinned();
  return of_rooms.empty() ? bounce_.WhyNot() : of_rooms;
}

Status FrozenFlight::Begin(cudaStream_t stream) {
  HF_TRY(begun_, MakeEvent());
  HF_TRYV(room_->Begin(part().sources, job_->step, false, stream));
  return CudaStatus(cudaEventRecord(begun_.get(), stream), "cudaEventRecord");
}

Status FrozenFlight::Read(std::set<std::size_t>* changed) {
  HF_TRYV(CudaStatus(cudaSetDevice(lane_->device_), "cudaSetDevice"));
  const MonotonicTime began = SystemClock().Now();
  Status done = Issue();
  if (done.has_value() && part().work == FrozenPart::Work::kCompare) {
    done = Compare(changed);
  }
  // Also after an error: what was issued lands.
  const Status landed = WaitLanded();
  HF_TRYV(std::move(done));
  HF_TRYV(landed);
  if (part().work == FrozenPart::Work::kFill && !part().slot->Pinned()) {
    for (const CopyWindow& window : lane_->plan_.Windows()) {
      unpinned_.bytes += window.bytes;
    }
    unpinned_.took = SystemClock().Now() - began;
  }
  for (const std::size_t tensor : room_->DifferingTensors(part().slot->Data())) {
    changed->insert(tensor);
  }
  return Ok();
}

Status FrozenFlight::Issue() {
  cudaStream_t const copies = lane_->copies_.get();
  HF_TRYV(CudaStatus(cudaStreamWaitEvent(copies, begun_.get(), 0), "cudaStreamWaitEvent"));
  HF_TRYV(room_->ReadBack(copies));
  return part().work == FrozenPart::Work::kFill ? Fill() : Ok();
}

Status FrozenFlight::Fill() {
  CudaCopies batch;
  for (const CopyWindow& window : lane_->plan_.Windows()) {
    batch.Clear();
    for (std::size_t i = window.first; i < window.end; ++i) {
      const TensorPiece& piece = lane_->plan_.Pieces()[i];
      const ByteCount at = part().plan->Tensors()[piece.tensor].offset + piece.offset;
      batch.Add(part().slot->Data() + at,
                part().sources[piece.tensor].Base() + piece.offset,
                piece.bytes);
    }
    HF_TRYV(lane_->copier_.Issue(
        batch, cudaMemcpyDeviceToHost, lane_->copies_.get(), part().slot->Pinned()));
  }
  return Ok();
}

Status FrozenFlight::Compare(std::set<std::size_t>* changed) {
  for (const CopyWindow& window : lane_->plan_.Windows()) {
    if (lane_->bounce_.Data() == nullptr) {
      ByteCount most = 0;
      for (const CopyWindow& each : lane_->plan_.Windows()) {
        most = std::max(most, each.bytes);
      }
      HF_TRY(lane_->bounce_, HostBuffer::Make(most));
    }
    CudaCopies batch;
    ByteCount room = 0;
    for (std::size_t i = window.first; i < window.end; ++i) {
      const TensorPiece& piece = lane_->plan_.Pieces()[i];
      batch.Add(lane_->bounce_.Data() + room,
                part().sources[piece.tensor].Base() + piece.offset,
                piece.bytes);
      room += piece.bytes;
    }
    HF_TRYV(lane_->copier_.Issue(
        batch, cudaMemcpyDeviceToHost, lane_->copies_.get(), lane_->bounce_.Pinned()));
    HF_TRYV(WaitLanded());
    room = 0;
    for (std::size_t i = window.first; i < window.end; ++i) {
      const TensorPiece& piece = lane_->plan_.Pieces()[i];
      const ByteCount at = part().plan->Tensors()[piece.tensor].offset + piece.offset;
      if (std::memcmp(lane_->bounce_.Data() + room, part().slot->Data() + at, piece.bytes) != 0) {
        changed->insert(piece.tensor);
      }
      room += piece.bytes;
    }
  }
  return Ok();
}

Status FrozenFlight::WaitLanded() {
  StreamMark issued = StreamMark::Put(lane_->copies_.get(), lane_->device_);
  cudaError_t code = issued.Query();
  while (code == cudaErrorNotReady) {
    std::this_thread::sleep_for(kPoll);
    code = issued.Query();
  }
  return CudaStatus(code, "a copy of frozen tensors");
}

}  // namespace holdfast::client
