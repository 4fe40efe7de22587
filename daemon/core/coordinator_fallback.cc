// The fallback of a choice that was made while a tier or a node was silent: open, so that
// everything is kept, until all have answered or restore_wait is over a second time
// (docs/peers.md).

#include <algorithm>

#include "daemon/core/coordinator.h"

namespace holdfast::daemon {

bool Coordinator::EveryoneAnswered() const {
  return Silent().empty() && std::all_of(listings_.begin(), listings_.end(), [](const auto& entry) {
           return entry.second.answered;
         });
}

// One that comes back asks again: the answers went with the daemon.
void Coordinator::ReopenFallback() {
  if (decision().fallback_open()) {
    attempt_started_ = context_->now - context_->options.restore_wait;
    ListTiers();
  }
}

void Coordinator::CloseFallback() {
  const bool waited = context_->now - attempt_started_ >= 2 * context_->options.restore_wait;
  if (!decision().fallback_open() || (!EveryoneAnswered() && !waited)) {
    return;
  }
  const auto base = Base();
  const Inventory inventory = TakeInventory();
  auto fallback = base.has_value() ? PlanFallback(inventory, *base) : PlanKept(inventory);
  // Training began without anything: what late answers show to have been complete is still the
  // newest there is (I3).  What they show to be half is not.
  if (!base.has_value() && fallback.has_value() && !inventory.was_complete.contains(*fallback)) {
    fallback.reset();
  }
  MutableDecision()->set_fallback_open(false);
  if (fallback.has_value()) {
    *MutableDecision()->mutable_fallback() = job_->Id(*fallback);
  }
  RecordDecision();
}

}  // namespace holdfast::daemon
