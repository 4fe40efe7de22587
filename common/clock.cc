#include "common/clock.h"

namespace holdfast {
namespace {

class SystemClockImpl final : public Clock {
 public:
  MonotonicTime Now() const override { return std::chrono::steady_clock::now(); }

  WallTime WallNow() const override { return std::chrono::system_clock::now(); }
};

}  // namespace

const Clock& SystemClock() {
  static const SystemClockImpl clock;
  return clock;
}

}  // namespace holdfast
