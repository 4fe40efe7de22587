#include "client/copy_cuda/staging.h"

#include <algorithm>
#include <utility>

namespace holdfast::client {
namespace {

// A framework that is near its limit frees and retries before it fails: what is left below this is
// not ours to take.
constexpr double kReserve = 0.05;
// Of a snapshot behind another one.  What an update writes takes a fiftieth of the time that the
// copy of a state to the host takes; the rest is for everything else between two snapshots.
constexpr ByteCount kTailPart = 8;

}  // namespace

void Staging::NoteWait(std::chrono::nanoseconds wait) {
  helps_.store(wait >= worth_, std::memory_order_relaxed);
}

bool Staging::Useful(ByteCount rest) {
  if (!Helps()) {
    return false;
  }
  wanted_ = std::max(wanted_, rest);
  return true;
}

ByteCount Staging::Free(ByteCount all, bool behind) const {
  if (leaving_) {
    return 0;
  }
  return behind || users_ > 0 ? std::min(bytes_, all / kTailPart) : bytes_;
}

void Staging::Tidy() {
  if (share_ <= 0 || refused_ || (bytes_ == 0 && wanted_ == 0)) {
    return;
  }
  std::size_t free = 0;
  std::size_t total = 0;
  if (cudaMemGetInfo(&free, &total) != cudaSuccess) {
    refused_ = true;
    return;
  }
  const auto reserve = static_cast<ByteCount>(kReserve * static_cast<double>(total));
  leaving_ = bytes_ > 0 && free < reserve;
  if (users_ > 0) {
    return;
  }
  if (leaving_) {
    memory_.reset();
    bytes_ = 0;
    leaving_ = false;
    return;
  }
  if (wanted_ <= bytes_) {
    return;
  }
  const ByteCount available = free + bytes_ > reserve ? free + bytes_ - reserve : 0;
  const auto allowed = static_cast<ByteCount>(share_ * static_cast<double>(available));
  const ByteCount bytes = std::min(wanted_ + wanted_ / 8, allowed);
  if (bytes <= bytes_) {
    return;  // that much is not free: later, perhaps
  }
  memory_.reset();
  bytes_ = 0;
  auto memory = MakeDeviceMemory(bytes);
  if (memory.has_error()) {
    static_cast<void>(cudaGetLastError());
    refused_ = true;  // the update waits for the copies instead
    return;
  }
  memory_ = std::move(memory).value();
  bytes_ = bytes;
}

}  // namespace holdfast::client
