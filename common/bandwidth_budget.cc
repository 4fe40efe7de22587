#include "common/bandwidth_budget.h"

#include <algorithm>
#include <thread>

namespace holdfast {

namespace {

constexpr double kBucketSeconds = 0.25;
constexpr std::chrono::milliseconds kCancelPoll{20};

}  // namespace

BandwidthBudget::BandwidthBudget(ByteCount bytes_per_second, const Clock& clock)
    : clock_(clock),
      rate_(static_cast<double>(bytes_per_second)),
      balance_(rate_ * kBucketSeconds),
      refilled_at_(clock.Now()) {}

void BandwidthBudget::SetRate(ByteCount bytes_per_second) {
  const std::lock_guard lock(mu_);
  rate_ = static_cast<double>(bytes_per_second);
}

std::chrono::nanoseconds BandwidthBudget::Take(ByteCount bytes) {
  const std::lock_guard lock(mu_);
  const MonotonicTime now = clock_.Now();
  const double elapsed = std::chrono::duration<double>(now - refilled_at_).count();
  refilled_at_ = now;
  if (rate_ <= 0) {
    balance_ = 0;
    return std::chrono::nanoseconds(0);
  }
  balance_ = std::min(balance_ + elapsed * rate_, rate_ * kBucketSeconds);
  balance_ -= static_cast<double>(bytes);
  if (balance_ >= 0) {
    return std::chrono::nanoseconds(0);
  }
  // A year bounds the conversion: a tiny rate must not overflow the duration.
  const double seconds = std::min(-balance_ / rate_, 365.0 * 86400.0);
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
      std::chrono::duration<double>(seconds));
}

Status BandwidthBudget::Acquire(ByteCount bytes, const std::atomic<bool>* cancel) {
  std::chrono::nanoseconds left = Take(bytes);
  while (left.count() > 0) {
    if (cancel != nullptr && cancel->load(std::memory_order_relaxed)) {
      return Error(Errc::kCancelled, "cancelled while waiting for the bandwidth budget");
    }
    const auto slice = std::min<std::chrono::nanoseconds>(left, kCancelPoll);
    const auto before = std::chrono::steady_clock::now();
    std::this_thread::sleep_for(slice);
    // What really passed: sleeps overshoot, and the overshoot is time already paid.
    left -= std::chrono::steady_clock::now() - before;
  }
  return Ok();
}

}  // namespace holdfast
