// Counts what passes between clients and core, for metrics: what the core itself has no reason to
// remember.
//
// Threads:   the io thread only.
// Ownership: values.
// Errors:    none.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "common/clock.h"
#include "daemon/core/ids.h"
#include "proto/client.pb.h"
#include "storage_tiers/catalog_batch.h"

namespace holdfast::daemon {

// Cumulative as Prometheus wants it: the count of bucket i is of all values up to its bound.
class DurationHistogram {
 public:
  static constexpr std::array<double, 12> kBounds = {
      0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10};

  void Observe(double seconds);

  [[nodiscard]] const std::array<std::uint64_t, kBounds.size()>& buckets() const {
    return buckets_;
  }

  [[nodiscard]] std::uint64_t count() const { return count_; }

  [[nodiscard]] double sum() const { return sum_; }

 private:
  std::array<std::uint64_t, kBounds.size()> buckets_{};
  std::uint64_t count_ = 0;
  double sum_ = 0;
};

class TrafficCounters {
 public:
  void OnRequest(SessionId session, const proto::ClientMessage& message, MonotonicTime now);
  void OnReply(SessionId session, const proto::ServerMessage& message, MonotonicTime now);
  void OnSessionEnded(SessionId session);

  // A batch that is about to be written: outcomes that are new in it.
  void OnBatch(const storage_tiers::CatalogBatch& batch);

  void OnCatalogWrite(double seconds, bool ok);

  [[nodiscard]] const DurationHistogram& seal_seconds() const { return seal_seconds_; }

  [[nodiscard]] const DurationHistogram& catalog_seconds() const { return catalog_seconds_; }

  struct Counts {
    std::uint64_t sealed = 0;
    std::uint64_t skipped = 0;  // steps: the client had no slot, or the daemon was away
    std::uint64_t torn = 0;
    std::uint64_t complete = 0;
    std::uint64_t abandoned = 0;
    std::uint64_t restores = 0;  // requests of ranks
    std::uint64_t restores_failed = 0;
    std::uint64_t restore_mismatches = 0;  // a client found wrong bytes while it loaded
    std::uint64_t catalog_failures = 0;
  };

  [[nodiscard]] const Counts& counts() const { return counts_; }

 private:
  using Pending = std::pair<SessionId, RequestId>;

  // What a request says of the steps that its client skipped.
  struct Skips {
    std::uint64_t told = 0;              // of these the client knows that they are counted
    std::optional<std::uint64_t> total;  // absent: an older client
  };

  void NoteSkips(SessionId session, const proto::ClientMessage& message);
  void CountSkips(SessionId session, const proto::ServerMessage& message);

  Counts counts_;
  DurationHistogram seal_seconds_;
  DurationHistogram catalog_seconds_;
  std::map<Pending, MonotonicTime> seals_;
  std::map<Pending, Skips> skips_;
  // By session token, which outlives connections: how many of its client's skipped steps are
  // counted.
  std::map<std::uint64_t, std::uint64_t> counted_;
  std::map<SessionId, std::uint64_t> tokens_;
};

}  // namespace holdfast::daemon
