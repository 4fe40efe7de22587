// How fast the helpers of a rebuild are, one beside the other, and which of them is too slow.
//
//   HelperPace pace(segments, patience);
//   pace.Begin(2);                     segment 2 is asked of a helper
//   pace.Moved(2);                     a window of it has come
//   pace.SlowAt(2)                     when its helper is left, if nothing more comes
//
// Only the others make one slow: where all take long, the network is slow or the nodes are busy,
// and another helper would be no better.
//
// Threads: the io thread only.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <vector>

namespace holdfast::daemon {

// A helper without a window for so long is left for the next one, where the helpers of other
// segments had theirs meanwhile: a node that hangs, or is much slower than the others.
struct HelperPatience {
  std::chrono::milliseconds first{5'000};  // with its search for sources
  std::chrono::milliseconds next{2'000};
  int times = 3;  // and at least so many times as long as another's last window took
};

class HelperPace {
 public:
  using Clock = std::chrono::steady_clock;

  HelperPace(std::uint32_t segments, const HelperPatience& patience)
      : patience_(patience), segments_(segments) {}

  void Begin(std::uint32_t segment);
  void Moved(std::uint32_t segment);

  // Nothing: no other segment has had a window, so that nobody knows what is slow.
  [[nodiscard]] std::optional<Clock::time_point> SlowAt(std::uint32_t segment) const;

 private:
  struct Segment {
    Clock::time_point since;              // it was asked for, or the last window came
    bool moved = false;                   // since it was asked for
    std::optional<Clock::duration> took;  // the last window, of whichever helper
  };

  const HelperPatience patience_;
  std::vector<Segment> segments_;
};

}  // namespace holdfast::daemon
