#include "daemon/core/flush_scheduler.h"

#include <utility>

namespace holdfast::daemon {

FlushScheduler::FlushScheduler(proto::TierPolicy policy, MonotonicTime now)
    : policy_(std::move(policy)), last_start_(now) {}

void FlushScheduler::OnBase(const SnapshotKey& base, bool durable_here) {
  last_ = base;
  base_due_ = !durable_here && (policy_.every_steps() > 0 || policy_.every_seconds() > 0);
}

bool FlushScheduler::Consider(const SnapshotKey& newest_complete,
                              bool durable_here,
                              bool drain,
                              MonotonicTime now) {
  if (target_.has_value()) {
    const bool becomes_urgent = drain && *target_ == newest_complete && !must_finish_;
    must_finish_ = must_finish_ || becomes_urgent;
    return becomes_urgent;
  }
  if (durable_here || !(drain || Due(newest_complete, now))) {
    return false;
  }
  target_ = newest_complete;
  must_finish_ = drain;
  last_start_ = now;
  return true;
}

bool FlushScheduler::Due(const SnapshotKey& id, MonotonicTime now) const {
  if (base_due_) {
    return true;
  }
  if (policy_.every_steps() > 0) {
    // A multiple of the interval has been reached since the last one; also where that very step was
    // skipped or passed while a slow flush was under way.
    const auto interval = static_cast<Step>(policy_.every_steps());
    const Step last = last_.has_value() ? last_->step : 0;
    if (id.step / interval > last / interval) {
      return true;
    }
  }
  return policy_.every_seconds() > 0 &&
         now - last_start_ >= std::chrono::seconds(policy_.every_seconds());
}

void FlushScheduler::OnGivenUp(const SnapshotKey& id) {
  if (target_ == id) {
    target_.reset();
    must_finish_ = false;
  }
}

void FlushScheduler::OnDurable(const SnapshotKey& id) {
  if (!last_.has_value() || id > *last_) {
    last_ = id;
  }
  base_due_ = false;
  if (target_ == id) {
    target_.reset();
    must_finish_ = false;
  }
}

}  // namespace holdfast::daemon
