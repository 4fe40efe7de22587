// A tier that several nodes share: whose files of a snapshot are there, and who writes them again.

#include <chrono>

#include <gtest/gtest.h>

#include "tests/sim/sim_cluster.h"

namespace holdfast::daemon {
namespace {

constexpr SnapshotKey k11{1, 1};

class SimTierTest : public ::testing::Test {
 protected:
  SimTierTest() { sim_.AddTier("/pfs"); }

  void TearDown() override {
    for (const std::string& violation : sim_.violations()) {
      ADD_FAILURE() << violation;
    }
  }

  FakeTier& Tier() { return sim_.Node(0).Tier("/pfs"); }

  SimCluster sim_{{2, 2, 3}};
};

// Each node knows of its own ranks' files alone: the coordinator finds them missing when it
// publishes, and says so to all.
TEST_F(SimTierTest, flushed_files_of_another_node_that_vanish_are_flushed_again) {
  sim_.Start({0, 1});
  sim_.Node(0).Hold("publish");
  sim_.Step(1);
  ASSERT_EQ(sim_.Node(0).HeldCount("publish"), 1U);
  ASSERT_EQ(Tier().Folder("train").files.at(k11).erase(1), 1U);
  ASSERT_TRUE(sim_.Node(0).FinishHeld("publish", "missing"));
  sim_.Node(0).Unhold("publish");
  for (int second = 0; second < 10 && !Tier().Published("train", k11); ++second) {
    sim_.Tick(std::chrono::seconds(1));
  }
  EXPECT_TRUE(Tier().Restorable("train", k11)) << sim_.log();
}

}  // namespace
}  // namespace holdfast::daemon
