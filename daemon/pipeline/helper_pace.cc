#include "daemon/pipeline/helper_pace.h"

#include <algorithm>

namespace holdfast::daemon {

void HelperPace::Begin(std::uint32_t segment) {
  segments_[segment].since = Clock::now();
  segments_[segment].moved = false;
}

void HelperPace::Moved(std::uint32_t segment) {
  Segment& one = segments_[segment];
  const auto now = Clock::now();
  one.took = now - one.since;
  one.since = now;
  one.moved = true;
}

std::optional<HelperPace::Clock::time_point> HelperPace::SlowAt(std::uint32_t segment) const {
  std::optional<Clock::duration> fastest;
  for (std::uint32_t other = 0; other < segments_.size(); ++other) {
    const auto& took = segments_[other].took;
    if (other != segment && took.has_value()) {
      fastest = std::min(fastest.value_or(*took), *took);
    }
  }
  if (!fastest.has_value()) {
    return std::nullopt;
  }
  const Segment& own = segments_[segment];
  const Clock::duration least = own.moved ? patience_.next : patience_.first;
  return own.since + std::max(least, *fastest * patience_.times);
}

}  // namespace holdfast::daemon
