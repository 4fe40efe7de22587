#include "daemon/parity/parity_pace.h"

#include <algorithm>

namespace holdfast::daemon {
namespace {

// Intervals looked at: training now and then stops for longer, as to evaluate itself.
constexpr std::size_t kIntervals = 4;
// Parity that was whole so shortly before the next id's began, as a part of the interval, lags.
constexpr int kLagPart = 10;
constexpr std::chrono::hours kForgotten{1};

}  // namespace

void ParityPace::OnRow(const JobUid& job,
                       const SnapshotKey& id,
                       ByteCount bytes,
                       MonotonicTime now) {
  Forget(now);
  Pace& pace = jobs_[job];
  if (pace.id != id) {
    Begin(&pace, id, now);
  }
  ++pace.rows;
  pace.bytes += bytes;
}

void ParityPace::Begin(Pace* pace, const SnapshotKey& id, MonotonicTime now) const {
  const bool goes_on = pace->id.incarnation == id.incarnation && pace->id < id;
  if (!goes_on) {
    *pace = {};
  } else {
    const auto interval = now - pace->began;
    pace->lags = pace->rows > 0 || now - pace->ended < interval / kLagPart;
    pace->intervals.push_back(interval);
    if (pace->intervals.size() > kIntervals) {
      pace->intervals.pop_front();
    }
    pace->last_bytes = pace->bytes;
  }
  pace->id = id;
  pace->began = now;
  pace->bytes = 0;
}

void ParityPace::OnRowEnded(const JobUid& job, MonotonicTime now) {
  const auto found = jobs_.find(job);
  if (found != jobs_.end() && found->second.rows > 0) {
    --found->second.rows;
    found->second.ended = now;
  }
}

ByteCount ParityPace::RateOf(const Pace& pace) const {
  if (options_.spread_percent == 0 || pace.intervals.empty() || pace.lags) {
    return 0;
  }
  const auto shortest = *std::min_element(pace.intervals.begin(), pace.intervals.end());
  const std::chrono::duration<double> spread =
      std::min<std::chrono::nanoseconds>(shortest * options_.spread_percent / 100, kLongestSpread);
  const auto bytes = static_cast<double>(std::max(pace.bytes, pace.last_bytes));
  // Ids that come this close together leave nothing to spread over.
  if (spread.count() <= 0.001) {
    return 0;
  }
  return std::max(kLeastRate, static_cast<ByteCount>(bytes / spread.count()));
}

ByteCount ParityPace::Rate() const {
  ByteCount sum = 0;
  for (const auto& [job, pace] : jobs_) {
    if (pace.rows == 0) {
      continue;
    }
    const ByteCount rate = RateOf(pace);
    if (rate == 0) {
      return options_.bytes_per_second;
    }
    sum += rate;
  }
  const ByteCount most = options_.bytes_per_second;
  return most == 0 || sum == 0 ? std::max(most, sum) : std::min(most, sum);
}

void ParityPace::Forget(MonotonicTime now) {
  std::erase_if(jobs_, [now](const auto& entry) {
    return entry.second.rows == 0 && now - entry.second.ended > kForgotten;
  });
}

}  // namespace holdfast::daemon
