#include "client/copy_cuda/lane.h"

#include <utility>

namespace holdfast::client {

Result<bool> IsCapturing(cudaStream_t stream) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  HF_TRYV(CudaStatus(cudaStreamIsCapturing(stream, &status), "cudaStreamIsCapturing"));
  return status != cudaStreamCaptureStatusNone;
}

Result<std::unique_ptr<Lane>> Lane::Make(std::int32_t device,
                                         double staging_share,
                                         std::chrono::nanoseconds staging_worth) {
  HF_TRYV(CudaStatus(cudaSetDevice(device), "cudaSetDevice"));
  std::unique_ptr<Lane> lane(new Lane(device, staging_share, staging_worth));
  HF_TRY(lane->copies_, MakeStream());
  HF_TRY(lane->within_, MakeStream());
  HF_TRY(lane->link_free_, MakeEvent(cudaEventDefault));
  return lane;
}

Status Lane::Adopt(std::shared_ptr<const CopyPlan> plan,
                   ByteCount window_bytes,
                   ByteCount most_gathered,
                   std::size_t rooms) {
  HF_TRYV(CudaStatus(cudaSetDevice(device_), "cudaSetDevice"));
  auto lane_plan = std::make_unique<const LanePlan>(std::move(plan), device_, window_bytes);
  const ByteCount gathered = lane_plan->Room().before;
  if (gathered > most_gathered) {
    return Error(Errc::kNoSpace,
                 "the tensors on device " + std::to_string(device_) +
                     " that must be copied at once (buffers, scalars, small ones) have " +
                     FormatBytes(gathered) + ", the limit is " + FormatBytes(most_gathered) +
                     ": declare those that only the optimizer writes as parameters, or raise "
                     "gather_bytes");
  }
  rooms_.Clear();  // before the new ones are made: both may not fit
  plan_ = std::move(lane_plan);
  return rooms_.Fill(*plan_, rooms);
}

Result<CudaEvent> Lane::TakeEvent() {
  if (events_.empty()) {
    return MakeEvent();
  }
  CudaEvent event = std::move(events_.back());
  events_.pop_back();
  return event;
}

void Lane::Tidy() {
  if (cudaSetDevice(device_) == cudaSuccess) {
    staging_.Tidy();
  }
}

std::optional<std::chrono::nanoseconds> Between(const CudaEvent& first, const CudaEvent& second) {
  float milliseconds = 0;
  if (first == nullptr || second == nullptr || cudaEventQuery(second.get()) != cudaSuccess ||
      cudaEventElapsedTime(&milliseconds, first.get(), second.get()) != cudaSuccess) {
    return std::nullopt;
  }
  return std::chrono::nanoseconds(static_cast<std::int64_t>(milliseconds * 1e6F));
}

std::chrono::nanoseconds HeldBack::Duration() const {
  return Between(before, after).value_or(std::chrono::nanoseconds(0));
}

}  // namespace holdfast::client
