// How fast parity may be made: the bytes of a snapshot over a part of the time between two
// (docs/peers.md), so that a network which training needs is never filled for it at once.
//
//   pace.OnRow(job, id, bytes, now);      before a row is made of so many bytes of other nodes
//   budget.SetRate(pace.Rate());
//   pace.OnRowEnded(job, now);
//   budget.SetRate(pace.Rate());
//
// Nothing is slowed down where that could cost what it protects: the first snapshots of a start and
// what a restart has lost, whose interval nobody knows yet, and those of a job whose parity lags
// behind its snapshots already.  What is slowed down still takes at most kLongestSpread, and goes
// at kLeastRate at the least.
//
// Threads:   the io thread only.
// Ownership: values.
// Errors:    none.
#pragma once

#include <chrono>
#include <cstddef>
#include <deque>
#include <map>

#include "common/clock.h"
#include "common/units.h"
#include "daemon/core/ids.h"

namespace holdfast::daemon {

struct ParityPaceOptions {
  std::uint64_t spread_percent = 50;  // of the shortest of the last intervals; 0: at once
  ByteCount bytes_per_second = 0;     // the most, of all jobs together; 0: no limit
};

class ParityPace {
 public:
  static constexpr std::chrono::seconds kLongestSpread{30};
  static constexpr ByteCount kLeastRate = 64 * kMiB;

  explicit ParityPace(ParityPaceOptions options) : options_(options) {}

  void OnRow(const JobUid& job, const SnapshotKey& id, ByteCount bytes, MonotonicTime now);
  void OnRowEnded(const JobUid& job, MonotonicTime now);

  // Bytes a second that all rows under way may take in; 0: no limit.
  [[nodiscard]] ByteCount Rate() const;

 private:
  struct Pace {
    SnapshotKey id;
    MonotonicTime began;   // its first row
    MonotonicTime ended;   // its last row, where none is under way
    std::size_t rows = 0;  // under way
    ByteCount bytes = 0;   // of the id's rows so far
    ByteCount last_bytes = 0;
    bool lags = false;
    std::deque<std::chrono::nanoseconds> intervals;  // the last ones of this start
  };

  void Begin(Pace* pace, const SnapshotKey& id, MonotonicTime now) const;
  [[nodiscard]] ByteCount RateOf(const Pace& pace) const;
  void Forget(MonotonicTime now);

  const ParityPaceOptions options_;
  std::map<JobUid, Pace> jobs_;
};

}  // namespace holdfast::daemon
