#include "daemon/traffic_counters.h"

#include <chrono>

#include "proto/catalog.pb.h"
#include "storage_tiers/catalog_keys.h"

namespace holdfast::daemon {
namespace {

// Seals whose answer is awaited; a client has a few at most.
constexpr std::size_t kMostSeals = 4'096;

}  // namespace

void DurationHistogram::Observe(double seconds) {
  for (std::size_t i = 0; i < kBounds.size(); ++i) {
    buckets_[i] += seconds <= kBounds[i] ? 1 : 0;
  }
  ++count_;
  sum_ += seconds;
}

void TrafficCounters::OnRequest(SessionId session,
                                const proto::ClientMessage& message,
                                MonotonicTime now) {
  if (message.has_missed()) {
    ++counts_.missed;
  } else if (message.has_torn()) {
    ++counts_.torn;
  } else if (message.has_restore()) {
    ++counts_.restores;
  } else if (message.has_loaded() && !message.loaded().ok()) {
    ++counts_.restores_failed;
    counts_.restore_mismatches += message.loaded().source_is_bad() ? 1 : 0;
  } else if (message.has_seal() && seals_.size() < kMostSeals) {
    seals_[{session, message.request_id()}] = now;
  }
}

void TrafficCounters::OnReply(SessionId session,
                              const proto::ServerMessage& message,
                              MonotonicTime now) {
  const auto found = seals_.find({session, message.request_id()});
  if (found == seals_.end()) {
    return;
  }
  if (message.has_seal()) {
    ++counts_.sealed;
    seal_seconds_.Observe(std::chrono::duration<double>(now - found->second).count());
  }
  seals_.erase(found);
}

void TrafficCounters::OnSessionEnded(SessionId session) {
  seals_.erase(seals_.lower_bound({session, 0}), seals_.lower_bound({session + 1, 0}));
}

void TrafficCounters::OnBatch(const storage_tiers::CatalogBatch& batch) {
  for (const auto& op : batch.ops()) {
    const char family = op.key.empty() ? '\0' : op.key.front();
    proto::OutcomeRecord record;
    if (family != static_cast<char>(storage_tiers::CatalogFamily::kOutcome) ||
        !op.value.has_value() || !record.ParseFromString(*op.value) || record.discarded()) {
      continue;
    }
    counts_.complete += record.outcome() == proto::COMPLETE ? 1 : 0;
    counts_.abandoned += record.outcome() == proto::ABANDONED ? 1 : 0;
  }
}

void TrafficCounters::OnCatalogWrite(double seconds, bool ok) {
  if (ok) {
    catalog_seconds_.Observe(seconds);
  } else {
    ++counts_.catalog_failures;
  }
}

}  // namespace holdfast::daemon
