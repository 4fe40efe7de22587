// The CUDA copy engine on the simulated runtime, orders explored by seed (I7, I12).
#include <gtest/gtest.h>

#include "tests/client/copy_cuda/seed_exploration.h"

namespace holdfast::client {
namespace {

#if __has_feature(thread_sanitizer) || __has_feature(address_sanitizer)
constexpr std::uint64_t kSeeds = 250;
#else
constexpr std::uint64_t kSeeds = 1000;
#endif

TEST(CudaEngineSeedTest, EveryOrderGivesTheStateAtTheSnapshot) {
  for (std::uint64_t seed = 1; seed <= kSeeds && !HasFailure(); ++seed) {
    EXPECT_EQ(ExploreSeed(seed), std::vector<std::string>{}) << "seed " << seed;
  }
}

}  // namespace
}  // namespace holdfast::client
