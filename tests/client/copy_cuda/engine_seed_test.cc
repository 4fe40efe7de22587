// The CUDA copy engine on the simulated runtime, orders explored by seed (I7, I12).
#include <gtest/gtest.h>

#include "tests/client/copy_cuda/seed_exploration.h"
#include "tests/support/sanitized.h"

namespace holdfast::client {
namespace {

constexpr std::uint64_t kSeeds = UnlessSanitized(1000, 100);

TEST(CudaEngineSeedTest, EveryOrderGivesTheStateAtTheSnapshot) {
  for (std::uint64_t seed = 1; seed <= kSeeds && !HasFailure(); ++seed) {
    EXPECT_EQ(ExploreSeed(seed), std::vector<std::string>{}) << "seed " << seed;
  }
}

}  // namespace
}  // namespace holdfast::client
