// Two launchers that cannot see each other took one number for their starts (R, I8).

#include <chrono>
#include <cstdint>
#include <set>

#include <gtest/gtest.h>

#include "tests/sim/sim_cluster.h"

namespace holdfast::daemon {
namespace {

constexpr SnapshotKey k21{2, 1};

// Of the start that took the shard: what lies where it was taken does not repeat it.
std::uint64_t TokenOf(CoreHarness& node, const proto::ShardRecord& shard) {
  std::uint64_t token = shard.start_token();
  for (const proto::IncarnationRecord& record : node.Records().incarnations) {
    const bool its_own = token == 0 && record.number() == shard.sidecar().id().incarnation();
    token = its_own ? record.token() : token;
  }
  return token;
}

// Two launchers took the number 2: (2,1) of the one is not (2,1) of the other.
TEST(SimTwinTest, same_step_of_twin_starts_never_mixes) {
  SimCluster sim({4, 2, 2});
  FakeJob& job = sim.Node(0).JobOf("r0");
  sim.Start({0, 1});
  const Epoch first = job.epoch;
  sim.Start({0, 1});
  sim.NodeOf(1).Begin("r1", 1);
  sim.NodeOf(1).Seal("r1", false);
  sim.Isolate(0);
  sim.Isolate(1);
  job.epoch = first;
  sim.Open({2, 3}, {0, 1});
  ASSERT_EQ(job.epoch.number, 2U);
  sim.Restore({});
  sim.NodeOf(0).Begin("r0", 1);
  sim.NodeOf(0).Seal("r0", false);
  sim.Pump();
  sim.Heal();
  sim.Node(0).Die("r0", false);
  sim.Node(1).Die("r1", false);
  sim.Start({2, 1});
  for (Rank rank = 0; rank < 2; ++rank) {
    EXPECT_FALSE(sim.Client(rank).told.has_value()) << "r" << rank;
  }
  EXPECT_TRUE(sim.violations().empty());
}

// Both were complete, and a rank comes back on a node that has the other start's shard of that id.
TEST(SimTwinTest, a_twin_starts_shard_is_not_taken_for_the_chosen_one) {
  SimCluster sim({4, 2, 3, 1, 1});
  FakeJob& job = sim.Node(0).JobOf("r0");
  sim.Start({0, 1});
  const Epoch first = job.epoch;
  sim.Start({0, 1});
  const Epoch one = job.epoch;
  sim.Step(1);
  sim.Tick(std::chrono::seconds(2));
  sim.Isolate(0);
  sim.Isolate(1);
  job.epoch = first;
  sim.Open({2, 3}, {0, 1});
  ASSERT_EQ(job.epoch.number, 2U);
  ASSERT_NE(job.epoch.token, one.token);
  sim.Restore({});
  sim.Tick(std::chrono::seconds(61));
  sim.LoadAll();
  sim.Step(1);
  sim.Tick(std::chrono::seconds(2));
  sim.Heal();
  sim.Node(0).Die("r0", false);
  sim.Node(1).Die("r1", false);
  sim.Start({0, 3});
  std::set<std::uint64_t> tokens;
  for (Rank rank = 0; rank < 2; ++rank) {
    ASSERT_TRUE(sim.Client(rank).told == k21) << sim.Client(rank).restore_error.value_or("");
    for (const proto::ShardRecord& shard : sim.NodeOf(rank).Records().shards) {
      if (KeyOf(shard.sidecar().id()) == k21 && shard.sidecar().rank() == rank) {
        tokens.insert(TokenOf(sim.NodeOf(rank), shard));
      }
    }
  }
  EXPECT_EQ(tokens.size(), 1U) << sim.log();
  EXPECT_TRUE(sim.violations().empty());
}

}  // namespace
}  // namespace holdfast::daemon
