// The clock seam: code that decides by time takes a Clock, so that tests move time by hand.
#pragma once

#include <chrono>

namespace holdfast {

// Monotonic: survives changes of the wall clock; means nothing in another process or boot.
using MonotonicTime = std::chrono::steady_clock::time_point;
using WallTime = std::chrono::system_clock::time_point;

class Clock {
 public:
  virtual ~Clock() = default;
  virtual MonotonicTime Now() const = 0;
  // For records that people and other processes read.
  virtual WallTime WallNow() const = 0;
};

// The system's clocks; one instance for the process, any thread.
const Clock& SystemClock();

}  // namespace holdfast
