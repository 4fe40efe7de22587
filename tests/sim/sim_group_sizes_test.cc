// Groups of all sizes: two nodes, one, numbers that do not divide, and losses while others are
// rebuilt.

#include <algorithm>
#include <utility>

#include <gtest/gtest.h>

#include "tests/daemon/core/fake_code.h"
#include "tests/sim/sim_cluster.h"

namespace holdfast::daemon {
namespace {

using std::chrono::seconds;

constexpr SnapshotKey k11{1, 1};

void Settle(SimCluster* sim, seconds tick = seconds(2)) {
  for (int i = 0; i < 4; ++i) {
    sim->Tick(tick);
  }
}

// The machine and its trainer are gone, with all that it had.
void Lose(SimCluster* sim, int node, const char* rank) {
  sim->Node(node).Die(rank, false);
  sim->Node(node).LoseMemory();
  sim->Pump();
}

// Two nodes mirror each other.
TEST(SimGroupSizesTest, TwoNodesMirror) {
  SimCluster sim({3, 2, 3, 4, 2});
  sim.Start({0, 1});
  sim.Step(1);
  Settle(&sim);
  const auto job = sim.Node(0).core()->StatusNow().jobs(0);
  ASSERT_TRUE(job.has_protected_id());
  ASSERT_EQ(job.groups_size(), 1);
  EXPECT_EQ(job.groups(0).parity(), 1U);
  EXPECT_TRUE(job.groups(0).reduced());
  Lose(&sim, 1, "r1");
  sim.Start({0, 2});
  EXPECT_TRUE(sim.Client(1).returned);
  EXPECT_TRUE(sim.violations().empty());
}

// R: the client of a job of one node names no members.  What other nodes had is had all the same,
// from their memory, or by parity.
TEST(SimGroupSizesTest, OneNodeTakesInWhatTwoHad) {
  for (const bool lost : {false, true}) {
    SimCluster sim({3, 2, 3, 1, 1});
    sim.Start({0, 1});
    sim.Step(1);
    Settle(&sim);
    ASSERT_TRUE(sim.Node(0).core()->StatusNow().jobs(0).has_protected_id());
    if (lost) {
      Lose(&sim, 1, "r1");
    }
    sim.Open({0, 0});
    sim.Restore({});
    sim.Tick(seconds(61));  // who is lost may have had more
    sim.LoadAll();
    for (Rank rank = 0; rank < 2; ++rank) {
      EXPECT_TRUE(sim.Client(rank).told == k11)
          << "r" << rank << ": " << sim.Client(rank).restore_error.value_or("") << sim.log();
    }
    EXPECT_EQ(sim.Node(0).Records().incarnations.back().decision().attempt(), 1U);
    EXPECT_TRUE(sim.violations().empty());
  }
}

TEST(SimGroupSizesTest, OneNodeHasNoPeersAndIsNeverProtected) {
  SimCluster sim({1, 2, 3, 4, 2});
  sim.Start({0, 0});
  sim.Step(1);
  sim.Tick(seconds(2));
  const auto job = sim.Node(0).core()->StatusNow().jobs(0);
  EXPECT_FALSE(job.has_protected_id());
  EXPECT_NE(job.not_protected().find("no peers"), std::string::npos);
  sim.Step(2);
  EXPECT_FALSE(LeftOver({&sim.Node(0)}, job.job_uid(), k11).IsRestorable());  // as without groups
  EXPECT_TRUE(sim.violations().empty());
}

// Node counts that do not divide, nodes with one rank and with two, shards of unequal length: each
// loss of as many nodes as the margin says comes back.
TEST(SimGroupSizesTest, AnyNodeCountIsProtected) {
  for (const int nodes : {3, 5, 7, 11, 13, 21}) {
    for (const std::uint32_t data : {4U, 8U}) {
      SimCluster sim({nodes, static_cast<std::uint32_t>(nodes) + 2, 3, data, 2});
      std::vector<int> on;
      on.reserve(static_cast<std::size_t>(nodes) + 2);
      for (int rank = 0; rank < nodes + 2; ++rank) {
        on.push_back(rank % nodes);
      }
      for (int node = 0; node < nodes; ++node) {
        sim.Node(node).CheckEachCall(nodes < 8);
      }
      sim.Start(on);
      sim.Step(1);
      for (int i = 0; i < 4; ++i) {
        sim.Tick(seconds(2));
      }
      const auto job = sim.Node(0).core()->StatusNow().jobs(0);
      ASSERT_TRUE(job.has_protected_id()) << nodes << " nodes, " << job.not_protected();
      EXPECT_EQ(job.margin(), 2U) << nodes;
      for (int a = 0; a < nodes; ++a) {
        for (int b = a + 1; b < nodes; ++b) {
          std::vector<CoreHarness*> left;
          for (int node = 0; node < nodes; ++node) {
            if (node != a && node != b) {
              left.push_back(&sim.Node(node));
            }
          }
          EXPECT_TRUE(LeftOver(left, job.job_uid(), k11).IsRestorable())
              << nodes << " nodes without " << a << " and " << b;
        }
      }
      EXPECT_TRUE(sim.violations().empty());
    }
  }
}

// I10: where no rack has more than m members of a group, any rack may be lost.
TEST(SimGroupSizesTest, AWholeFailureDomainIsRebuilt) {
  // Two nodes a rack in two groups of 2+1, where groups that look at lengths alone would have two
  // of a rack; and two spares in a rack of their own.
  for (const auto& [first, second] : {std::pair(0, 4), std::pair(1, 5), std::pair(2, 3)}) {
    SimCluster sim({.nodes = 8,
                    .ranks = 6,
                    .slots = 3,
                    .data = 2,
                    .parity = 1,
                    .failure_domains = {"a", "b", "c", "c", "a", "b", "d", "d"}});
    std::vector<int> on = {0, 1, 2, 3, 4, 5};
    sim.Start(on);
    sim.Step(1);
    Settle(&sim);
    const auto job = sim.Node(0).core()->StatusNow().jobs(0);
    ASSERT_TRUE(job.has_protected_id()) << job.not_protected();
    ASSERT_EQ(job.groups_size(), 2);
    for (const auto& group : job.groups()) {
      EXPECT_EQ(group.uncovered_domains_size(), 0);
    }
    for (const int node : {first, second}) {
      Lose(&sim, node, ("r" + std::to_string(node)).c_str());
    }
    on[static_cast<std::size_t>(first)] = 6;
    on[static_cast<std::size_t>(second)] = 7;
    sim.Start(on);
    for (Rank rank = 0; rank < 6; ++rank) {
      EXPECT_TRUE(sim.Client(rank).returned)
          << "without n" << first << " and n" << second << ", r" << rank;
      EXPECT_TRUE(sim.Client(rank).told == k11)
          << "without n" << first << " and n" << second << ", r" << rank;
    }
    EXPECT_TRUE(sim.violations().empty());
  }
}

// A rack with more members of a group than rows is named, in the state and in the coordinator's
// words; what can be protected is protected all the same.
TEST(SimGroupSizesTest, AFailureDomainThatCannotBeCoveredIsNamed) {
  SimCluster sim({.nodes = 4,
                  .ranks = 4,
                  .slots = 3,
                  .data = 3,
                  .parity = 1,
                  .failure_domains = {"big", "big", "big", "other"}});
  sim.Start({0, 1, 2, 3});
  sim.Step(1);
  Settle(&sim);
  const auto status = sim.Node(0).core()->StatusNow();
  const auto& job = status.jobs(0);
  ASSERT_TRUE(job.has_protected_id()) << job.not_protected();
  EXPECT_EQ(job.margin(), 1U);
  ASSERT_EQ(job.groups_size(), 1);
  ASSERT_EQ(job.groups(0).uncovered_domains_size(), 1);
  EXPECT_EQ(job.groups(0).uncovered_domains(0), "big");
  EXPECT_NE(status.DebugString().find("failure domain big is not covered"), std::string::npos);
  EXPECT_TRUE(sim.violations().empty());
}

// One of two rows is not enough, also where the group is whole but for it.
TEST(SimGroupSizesTest, OneOfTwoRowsIsNotProtected) {
  SimCluster sim({4, 4, 3, 2, 2});
  sim.Start({0, 1, 2, 3});
  sim.Node(1).Hold("make");
  sim.Step(1);
  sim.Tick(seconds(2));
  ASSERT_EQ(sim.Node(1).HeldCount("make"), 2U);
  sim.Node(1).FinishHeld("make", "ok");
  sim.Tick(seconds(2));
  EXPECT_FALSE(sim.Node(0).core()->StatusNow().jobs(0).has_protected_id());
  sim.Node(1).FinishHeld("make", "ok");
  sim.Tick(seconds(2));
  EXPECT_TRUE(sim.Node(0).core()->StatusNow().jobs(0).has_protected_id());
  EXPECT_TRUE(sim.violations().empty());
}

// I9, I10: a node of a short shard, which has room to spare, took slots into the room of rows that
// the longest shard of its group makes long; it gives them back, and does not take them again.
TEST(SimGroupSizesTest, GrowthGivesWayToLongRows) {
  // The longest shard has 4 MiB, and with it two slots and two rows of 2 MiB just fit.
  SimCluster sim(
      {.nodes = 3, .ranks = 3, .slots = 6, .data = 2, .parity = 1, .budget_bytes = 12 * kMiB});
  sim.Node(1).Hold("make");
  sim.Start({0, 1, 2});
  for (Step step = 1; step <= 5; ++step) {
    sim.Step(step);
  }
  sim.Node(1).Unhold("make");
  while (sim.Node(1).HeldCount("make") > 0) {
    sim.Node(1).FinishHeld("make", "ok");
    sim.Pump();
  }
  for (Step step = 6; step <= 20; ++step) {
    sim.Step(step);
    Settle(&sim);
    const auto job = sim.Node(0).core()->StatusNow().jobs(0);
    ASSERT_TRUE(job.has_protected_id()) << job.not_protected();
    EXPECT_EQ(job.protected_id().step(), job.newest_complete().step()) << sim.log();
  }
  EXPECT_TRUE(sim.violations().empty());
}

// A second node is lost while the first is being rebuilt (VELOC issue 26).
TEST(SimGroupSizesTest, second_failure_while_the_first_is_rebuilt) {
  SimCluster sim({6, 4, 3, 2, 2});
  sim.Start({0, 1, 2, 3});
  sim.Step(1);
  Settle(&sim);
  ASSERT_EQ(sim.Node(0).core()->StatusNow().jobs(0).margin(), 2U);
  Lose(&sim, 1, "r1");
  sim.Open({0, 4, 2, 3});
  sim.Node(4).Hold("bring");
  sim.Restore({});
  ASSERT_EQ(sim.Node(4).HeldCount("bring"), 1U);
  Lose(&sim, 2, "r2");
  sim.Node(4).Unhold("bring");
  sim.Node(4).FinishHeld("bring", "ok");
  sim.Start({0, 4, 5, 3});
  for (Rank rank = 0; rank < 4; ++rank) {
    EXPECT_TRUE(sim.Client(rank).returned) << "r" << rank;
    EXPECT_TRUE(sim.Client(rank).told == k11) << "r" << rank;
  }
  Settle(&sim, seconds(61));
  EXPECT_EQ(sim.Node(0).core()->StatusNow().jobs(0).margin(), 2U);
  EXPECT_TRUE(sim.violations().empty());
}

// L: a file that the arena refuses fails the attempt, or waits; asking again at once would go round
// for ever, and no other source would be tried.
TEST(SimGroupSizesTest, AnArenaThatRefusesFilesEndsTheRestoreOrWaits) {
  SimCluster sim({4, 3, 3, 2, 1});
  sim.Start({0, 1, 2});
  sim.Step(1);
  Settle(&sim);
  ASSERT_EQ(sim.Node(0).core()->StatusNow().jobs(0).margin(), 1U);
  Lose(&sim, 1, "r1");
  sim.Node(3).Hold("prepare");
  sim.Open({0, 3, 2});
  sim.Restore({});
  const auto refuse_all = [&sim] {
    int refused = 0;
    while (refused < 50 && sim.Node(3).FinishHeld("prepare", "full")) {
      ++refused;
      sim.Pump();
    }
    return refused;
  };
  EXPECT_LT(refuse_all(), 10);
  for (int i = 0; i < 40 && !sim.Client(1).restore_error.has_value(); ++i) {
    sim.Tick(seconds(2));
    EXPECT_LT(refuse_all(), 10);
  }
  EXPECT_TRUE(sim.Client(1).restore_error.has_value());
  EXPECT_TRUE(sim.violations().empty());
}

}  // namespace
}  // namespace holdfast::daemon
