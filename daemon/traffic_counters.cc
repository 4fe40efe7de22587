#include "daemon/traffic_counters.h"

#include <chrono>

#include "proto/catalog.pb.h"
#include "storage_tiers/catalog_keys.h"

namespace holdfast::daemon {
namespace {

// Requests whose answer is awaited; a client has a few at most.
constexpr std::size_t kMostSeals = 4'096;
constexpr std::size_t kMostSkips = 4'096;

// Sessions remembered after their connection; one more, and some client's own word of what is
// counted must do.
constexpr std::size_t kMostTokens = 4'096;

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
  if (message.has_missed() || message.has_register_()) {
    NoteSkips(session, message);
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
  CountSkips(session, message);
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

void TrafficCounters::NoteSkips(SessionId session, const proto::ClientMessage& message) {
  if (skips_.size() >= kMostSkips) {
    return;
  }
  Skips skips;
  if (message.has_register_()) {
    const proto::RegisterRequest& body = message.register_();
    skips.told = body.skipped_told();
    skips.total = body.has_skipped_total() ? std::optional(body.skipped_total()) : std::nullopt;
  } else if (message.missed().has_skipped_total()) {
    skips.total = message.missed().skipped_total();
  }
  skips_[{session, message.request_id()}] = skips;
}

// With the answer: what is refused is said again.
void TrafficCounters::CountSkips(SessionId session, const proto::ServerMessage& message) {
  const auto found = skips_.find({session, message.request_id()});
  if (found == skips_.end()) {
    return;
  }
  const Skips skips = found->second;
  skips_.erase(found);
  if (message.has_register_()) {
    const std::uint64_t token = message.register_().session_token();
    tokens_[session] = token;
    if (!counted_.contains(token) && counted_.size() >= kMostTokens) {
      counted_.erase(counted_.begin());
    }
    counted_.try_emplace(token, skips.told);
  } else if (!message.has_missed()) {
    return;
  }
  if (!skips.total.has_value()) {
    counts_.skipped += message.has_missed() ? 1 : 0;
    return;
  }
  const auto token = tokens_.find(session);
  const auto counted = token == tokens_.end() ? counted_.end() : counted_.find(token->second);
  if (counted != counted_.end() && *skips.total > counted->second) {
    counts_.skipped += *skips.total - counted->second;
    counted->second = *skips.total;
  }
}

void TrafficCounters::OnSessionEnded(SessionId session) {
  skips_.erase(skips_.lower_bound({session, 0}), skips_.lower_bound({session + 1, 0}));
  tokens_.erase(session);
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
