#include "storage_tiers/uring_parked.h"

#include <chrono>
#include <list>
#include <mutex>
#include <utility>

namespace holdfast::storage_tiers {

namespace {

struct Registry {
  std::mutex mu;
  // Guarded by mu.  Bounded: AdmitTransfer refuses new transfers above kMaxParkedTransfers, so it
  // can exceed that only by the transfers that ran at that moment.
  std::list<ParkedTransfer> transfers;
};

Registry& TheRegistry() {
  // Never destroyed: at exit the kernel may still write to the memory.
  static Registry& registry = *std::make_unique<Registry>().release();
  return registry;
}

// True once nothing of the transfer is in the kernel.
bool Drain(ParkedTransfer& transfer) {
  while (transfer.in_flight > 0) {
    const Result<IoCompletion> completion = transfer.queue->Wait(std::chrono::milliseconds(0));
    if (!completion) {
      return false;  // also where the queue fails: better a slot too few than one under a read
    }
    --transfer.in_flight;
  }
  return true;
}

}  // namespace

void ParkTransfer(ParkedTransfer transfer) {
  Registry& registry = TheRegistry();
  const std::lock_guard lock(registry.mu);
  registry.transfers.push_back(std::move(transfer));
}

std::size_t ReapParkedTransfers() {
  Registry& registry = TheRegistry();
  // Destroyed after the lock is released: keep_alive runs the caller's code.
  std::list<ParkedTransfer> ended;
  const std::lock_guard lock(registry.mu);
  for (auto it = registry.transfers.begin(); it != registry.transfers.end();) {
    const auto current = it++;
    if (Drain(*current)) {
      ended.splice(ended.end(), registry.transfers, current);
    }
  }
  return registry.transfers.size();
}

Status AdmitTransfer() {
  if (ReapParkedTransfers() < kMaxParkedTransfers) {
    return Ok();
  }
  Registry& registry = TheRegistry();
  const std::lock_guard lock(registry.mu);
  const std::string path = registry.transfers.empty() ? "a file" : registry.transfers.front().path;
  return Error(Errc::kUnavailable,
               std::to_string(registry.transfers.size()) +
                   " transfers hang in the file system, among them " + path +
                   "; new ones start when it answers again");
}

}  // namespace holdfast::storage_tiers
