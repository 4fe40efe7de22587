// What an endpoint has done since it was opened: for metrics and tests.
//
// Threads: any.
#pragma once

#include <atomic>
#include <cstdint>

namespace holdfast::transport {

struct FabricStats {
  std::uint64_t reads = 0;    // blocks that came
  std::uint64_t bytes = 0;    // of these
  std::uint64_t retries = 0;  // tries after the first
  std::uint64_t resets = 0;   // connections closed under a read that did not end
};

struct FabricCounters {
  std::atomic<std::uint64_t> reads{0};
  std::atomic<std::uint64_t> bytes{0};
  std::atomic<std::uint64_t> retries{0};
  std::atomic<std::uint64_t> resets{0};
};

}  // namespace holdfast::transport
