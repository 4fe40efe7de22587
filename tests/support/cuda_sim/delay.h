// The simulator's pauses: often none, sometimes a yield, sometimes up to the limit.
#pragma once

#include <chrono>
#include <thread>

#include "tests/support/cuda_sim/state.h"

namespace holdfast::cuda_sim {

inline void Delay(Random& random, std::chrono::microseconds limit) {
  switch (random.Below(4)) {
    case 0:
    case 1:
      return;
    case 2:
      std::this_thread::yield();
      return;
    default:
      if (limit.count() > 0) {
        const auto pause = random.Below(static_cast<std::uint64_t>(limit.count()) + 1);
        std::this_thread::sleep_for(std::chrono::microseconds(pause));
      }
  }
}

}  // namespace holdfast::cuda_sim
