// Whether the exploration by seed would see a broken engine: each fault that can be built into it
// (client/copy_cuda/mutation.h) must be found by the very run that finds nothing in the engine as
// it is (engine_seed_test.cc).  This list is that of docs/gpu.md; I7.
#include <iostream>

#include <gtest/gtest.h>

#include "client/copy_cuda/mutation.h"
#include "tests/client/copy_cuda/seed_exploration.h"

namespace holdfast::client {
namespace {

Mutation chosen = Mutation::kNone;

}  // namespace

bool Mutated(Mutation mutation) {
  return chosen == mutation;
}

namespace {

// Fewer than engine_seed_test explores: what is found late there is found by luck.
constexpr std::uint64_t kMostSeeds = 100;

struct Listed {
  Mutation mutation;
  const char* name;
};

class CudaEngineMutationTest : public testing::TestWithParam<Listed> {
 protected:
  void TearDown() override { chosen = Mutation::kNone; }
};

TEST_P(CudaEngineMutationTest, IsFoundByTheExploration) {
  chosen = GetParam().mutation;
  for (std::uint64_t seed = 1; seed <= kMostSeeds; ++seed) {
    const std::vector<std::string> wrong = ExploreSeed(seed);
    if (!wrong.empty()) {
      std::cout << GetParam().name << ": found by seed " << seed << ", " << wrong.front() << '\n';
      RecordProperty("seeds", static_cast<int>(seed));
      return;
    }
  }
  FAIL() << GetParam().name << " was not found by " << kMostSeeds << " seeds";
}

INSTANTIATE_TEST_SUITE_P(
    EachOne,
    CudaEngineMutationTest,
    testing::Values(Listed{Mutation::kFenceWithoutHostWait, "FenceWithoutHostWait"},
                    Listed{Mutation::kDoneEventReused, "DoneEventReused"},
                    Listed{Mutation::kFreeBeforeLastCopy, "FreeBeforeLastCopy"},
                    Listed{Mutation::kSampleAfterDone, "SampleAfterDone"},
                    Listed{Mutation::kCopiesDoNotWaitForBegin, "CopiesDoNotWaitForBegin"},
                    Listed{Mutation::kFenceWithoutDeviceWait, "FenceWithoutDeviceWait"},
                    Listed{Mutation::kNamedStreamIgnored, "NamedStreamIgnored"},
                    Listed{Mutation::kCurrentDeviceLeft, "CurrentDeviceLeft"},
                    Listed{Mutation::kStagingFreedAtOnce, "StagingFreedAtOnce"}),
    [](const auto& info) { return info.param.name; });

// The build with faults to choose from has none by itself.
TEST(CudaEngineWithoutMutationTest, IsLeftInPeace) {
  for (std::uint64_t seed = 1; seed <= kMostSeeds && !testing::Test::HasFailure(); ++seed) {
    EXPECT_EQ(ExploreSeed(seed), std::vector<std::string>{}) << "seed " << seed;
  }
}

}  // namespace
}  // namespace holdfast::client
