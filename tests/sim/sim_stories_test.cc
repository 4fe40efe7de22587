// Failure stories that need several nodes (README.md).

#include <gtest/gtest.h>

#include "tests/sim/sim_cluster.h"

namespace holdfast::daemon {
namespace {

using std::chrono::seconds;

constexpr SnapshotKey k11{1, 1};
constexpr SnapshotKey k12{1, 2};

bool IsComplete(CoreHarness& node, const SnapshotKey& id) {
  const auto& outcomes = node.Records().outcomes;
  return std::any_of(outcomes.begin(), outcomes.end(), [&](const proto::OutcomeRecord& outcome) {
    return KeyOf(outcome.id()) == id && outcome.outcome() == proto::COMPLETE;
  });
}

bool Holds(CoreHarness& node, const SnapshotKey& id) {
  const auto& shards = node.Records().shards;
  return std::any_of(shards.begin(), shards.end(), [&](const proto::ShardRecord& shard) {
    return KeyOf(shard.sidecar().id()) == id;
  });
}

class SimStoriesTest : public ::testing::Test {
 protected:
  void TearDown() override {
    for (const std::string& violation : sim_.violations()) {
      ADD_FAILURE() << violation;
    }
  }

  void ExpectReturned(const std::optional<SnapshotKey>& id) {
    for (Rank rank = 0; rank < 3; ++rank) {
      EXPECT_TRUE(sim_.Client(rank).returned) << "r" << rank;
      EXPECT_TRUE(sim_.Client(rank).told == id) << "r" << rank;
    }
  }

  SimCluster sim_{{4, 3, 2}};
};

TEST_F(SimStoriesTest, TrainsAndRestoresOverThreeNodes) {
  sim_.Start({0, 1, 2});
  sim_.Step(1);
  for (int node = 0; node < 3; ++node) {
    EXPECT_TRUE(IsComplete(sim_.Node(node), k11)) << node;
  }
  sim_.Start({0, 1, 2});
  ExpectReturned(k11);
}

TEST_F(SimStoriesTest, new_epoch_keeps_old_snapshots) {
  sim_.Start({0, 1, 2});
  sim_.Step(1);
  sim_.Open({0, 1, 2});
  for (int node = 0; node < 3; ++node) {
    EXPECT_TRUE(Holds(sim_.Node(node), k11)) << node;
  }
  sim_.Restore({});
  sim_.LoadAll();
  ExpectReturned(k11);
}

TEST_F(SimStoriesTest, lower_epoch_command_changes_nothing) {
  sim_.Start({0, 1, 2});
  sim_.HoldFrom(0);
  sim_.Step(1);  // the word that (1,1) is complete is on its way
  const auto late = sim_.pending();
  ASSERT_FALSE(late.empty());
  sim_.pending().clear();
  sim_.HoldFrom(0, false);
  sim_.Open({0, 1, 2});
  sim_.pending().clear();
  const auto before = sim_.Node(1).catalog();
  const int fenced = sim_.answers[static_cast<int>(Errc::kFenced)];
  for (const auto& envelope : late) {
    if (envelope.to == 1) {
      sim_.pending().push_back(envelope);
      sim_.Deliver(sim_.pending().size() - 1, false);
    }
  }
  EXPECT_EQ(sim_.Node(1).catalog(), before);
  EXPECT_GT(sim_.answers[static_cast<int>(Errc::kFenced)], fenced);
}

TEST_F(SimStoriesTest, report_of_a_lost_member_does_not_count) {
  sim_.Start({0, 1, 2});
  for (Rank rank = 0; rank < 3; ++rank) {
    sim_.NodeOf(rank).Begin("r" + std::to_string(rank), 1);
  }
  sim_.Pump();
  sim_.NodeOf(0).Seal("r0", false);
  sim_.NodeOf(1).Seal("r1", false);
  sim_.Pump();
  sim_.Isolate(1);
  sim_.NodeOf(2).Seal("r2", false);
  sim_.Pump();
  EXPECT_FALSE(IsComplete(sim_.Node(0), k11));
  sim_.Isolate(1, false);
  sim_.Pump();
  EXPECT_TRUE(IsComplete(sim_.Node(0), k11));
}

TEST_F(SimStoriesTest, lost_report_is_repaired_by_the_next) {
  sim_.Start({0, 1, 2});
  sim_.Step(1);
  sim_.Open({0, 1, 2});
  sim_.HoldFrom(1);
  sim_.Restore({});
  sim_.pending().clear();
  sim_.HoldFrom(1, false);
  EXPECT_FALSE(sim_.Client(0).told.has_value());
  sim_.Tick(seconds(2));
  sim_.LoadAll();
  ExpectReturned(k11);
}

TEST_F(SimStoriesTest, former_member_holds_what_the_new_ones_lack) {
  sim_.Start({0, 1, 2});
  sim_.Step(1);
  sim_.Start({0, 1, 3});
  // Without parity the shard of rank 2 is out of reach: an error that says where, never silence.
  ASSERT_TRUE(sim_.Client(0).restore_error.has_value());
  EXPECT_NE(sim_.Client(0).restore_error->find(NodeText(sim_.Node(2).node_uuid())),
            std::string::npos);
  sim_.Start({0, 1, 2});
  ExpectReturned(k11);
}

TEST_F(SimStoriesTest, silent_member_is_named) {
  sim_.Start({0, 1, 2});
  sim_.Step(1);
  sim_.Isolate(2);
  sim_.Open({0, 1, 3});
  sim_.Restore({});
  EXPECT_FALSE(sim_.Client(0).restore_error.has_value());
  sim_.Tick(seconds(61));
  ASSERT_TRUE(sim_.Client(0).restore_error.has_value());
  EXPECT_NE(sim_.Client(0).restore_error->find("did not answer"), std::string::npos);
  EXPECT_TRUE(Holds(sim_.Node(0), k11));
}

TEST_F(SimStoriesTest, silent_former_member_returns_with_newer_id) {
  sim_.Start({0, 1, 3});
  sim_.NodeOf(2).Begin("r2", 2);
  sim_.NodeOf(2).Seal("r2", false);
  sim_.Pump();
  sim_.Isolate(3);
  sim_.Open({0, 1, 2});
  sim_.Restore({});
  sim_.Tick(seconds(61));
  ExpectReturned(std::nullopt);
  sim_.Tick(seconds(61));
  sim_.Isolate(3, false);
  sim_.Tick(seconds(2));
  EXPECT_FALSE(Holds(sim_.Node(3), k12));  // remains of a lost incarnation
}

TEST_F(SimStoriesTest, two_starts_with_the_same_number) {
  sim_.Start({0, 1, 2});
  FakeJob& job = sim_.Node(0).JobOf("r0");
  const FakeJob first = job;
  sim_.Isolate(2);
  sim_.Open({2, 2, 2});
  const Epoch b = job.epoch;
  job.epoch = first.epoch;
  sim_.Open({0, 1, 1});
  ASSERT_EQ(job.epoch.number, b.number);
  sim_.Restore({});
  sim_.Isolate(2, false);
  sim_.Tick(seconds(2));
  ASSERT_TRUE(sim_.Client(0).restore_error.has_value());
  EXPECT_NE(sim_.Client(0).restore_error->find("another token"), std::string::npos);
  for (Rank rank = 0; rank < 3; ++rank) {
    EXPECT_TRUE(sim_.Client(rank).fenced) << "r" << rank;
  }
}

// Nobody asks the node any more: it learns from the refusal of its own report.
TEST_F(SimStoriesTest, fenced_member_ends_its_ranks) {
  sim_.Start({0, 1, 2});
  sim_.Isolate(1);
  sim_.Open({0, 2, 3}, {1});
  sim_.Restore({});
  sim_.Tick(seconds(61));
  ExpectReturned(std::nullopt);
  sim_.Start({0, 2, 3});
  FakeClient& half_dead = sim_.Node(1).Client("r1");
  EXPECT_FALSE(half_dead.fenced);
  sim_.Isolate(1, false);
  sim_.Tick(seconds(2));
  EXPECT_TRUE(half_dead.fenced);
  sim_.Node(1).Disconnect("r1");
  half_dead.fenced = false;
  sim_.Node(1).Register("r1");
  EXPECT_TRUE(half_dead.fenced);
  ExpectReturned(std::nullopt);
}

TEST_F(SimStoriesTest, silent_coordinator_is_named_in_time) {
  sim_.Start({0, 1, 2});
  sim_.Step(1);
  sim_.Open({0, 1, 2});
  sim_.Isolate(0);
  sim_.Restore({});
  sim_.Tick(seconds(1));
  sim_.Tick(seconds(59));
  EXPECT_FALSE(sim_.Client(1).restore_error.has_value());
  sim_.Tick(seconds(1));
  for (const Rank rank : {1U, 2U}) {
    ASSERT_TRUE(sim_.Client(rank).restore_error.has_value());
    EXPECT_NE(sim_.Client(rank).restore_error->find(NodeText(sim_.Node(0).node_uuid())),
              std::string::npos);
    EXPECT_NE(sim_.Client(rank).restore_error->find("waits for"), std::string::npos);
  }
  sim_.Isolate(0, false);
  sim_.Tick(seconds(2));
  sim_.Restore({});
  sim_.LoadAll();
  ExpectReturned(k11);
}

// The coordinator must not count a rank that was told an error, and the others must not wait for
// it.
TEST_F(SimStoriesTest, rank_that_gave_up_a_silent_coordinator_ends_the_attempt) {
  sim_.Start({0, 1, 2});
  sim_.Step(1);
  sim_.Open({0, 1, 2});
  sim_.Restore({});
  sim_.Isolate(1);
  sim_.LoadAll();
  sim_.Tick(seconds(1));
  sim_.Tick(seconds(61));
  ASSERT_TRUE(sim_.Client(1).restore_error.has_value());
  EXPECT_NE(sim_.Client(1).restore_error->find("all ranks have loaded step 1"), std::string::npos);
  sim_.Isolate(1, false);
  sim_.Tick(seconds(2));
  for (const Rank rank : {0U, 2U}) {
    EXPECT_FALSE(sim_.Client(rank).returned);
    ASSERT_TRUE(sim_.Client(rank).restore_error.has_value());
    EXPECT_NE(sim_.Client(rank).restore_error->find("rank 1"), std::string::npos);
  }
  sim_.Restore({});
  sim_.LoadAll();
  ExpectReturned(k11);
}

TEST_F(SimStoriesTest, rank_that_leaves_another_node_is_named) {
  sim_.Start({0, 1, 2});
  sim_.Step(1);
  sim_.Open({0, 1, 2});
  sim_.Node(2).Leave("r2");
  sim_.Restore({});
  sim_.Tick(seconds(1));
  sim_.Tick(seconds(61));
  ASSERT_TRUE(sim_.Client(1).restore_error.has_value());
  EXPECT_NE(sim_.Client(1).restore_error->find("rank 2"), std::string::npos);
  sim_.Start({0, 1, 2});
  ExpectReturned(k11);
}

// What was sealed by all but recorded by nobody, and found only when training had begun afresh.
TEST_F(SimStoriesTest, late_answers_show_a_complete_snapshot) {
  sim_.Start({0, 1, 2});
  sim_.HoldFrom(1);
  sim_.HoldFrom(2);
  sim_.Step(1);
  EXPECT_FALSE(IsComplete(sim_.Node(0), k11));
  sim_.pending().clear();
  sim_.HoldFrom(1, false);
  sim_.HoldFrom(2, false);
  sim_.Isolate(2);
  sim_.Open({0, 1, 3});
  sim_.Restore({});
  sim_.Tick(seconds(61));
  ExpectReturned(std::nullopt);
  sim_.Isolate(2, false);
  sim_.Tick(seconds(2));
  for (const int node : {0, 1, 2}) {
    EXPECT_TRUE(Holds(sim_.Node(node), k11)) << node;
  }
  sim_.Start({0, 1, 2});
  ExpectReturned(k11);
}

TEST_F(SimStoriesTest, older_command_is_dropped) {
  sim_.Start({0, 1, 2});
  sim_.Step(1);
  sim_.Open({0, 1, 2});
  sim_.Restore({});
  sim_.HoldFrom(0);
  sim_.Isolate(1);
  sim_.Reconcile();
  sim_.Isolate(1, false);
  sim_.Pump();  // the command of phase go, once more
  const auto late = sim_.pending();
  sim_.HoldFrom(0, false);
  sim_.Pump();
  sim_.LoadAll();
  ExpectReturned(k11);
  for (const auto& envelope : late) {
    sim_.pending().push_back(envelope);
  }
  sim_.Pump();
  EXPECT_TRUE(sim_.Node(1).Records().incarnations.back().decision().committed());
}

TEST_F(SimStoriesTest, old_inventory_does_not_answer_new_attempt) {
  sim_.Start({0, 1, 2});
  sim_.Step(1);
  sim_.Open({0, 1, 2});
  sim_.NodeOf(0).Restore("r0", {});
  sim_.NodeOf(2).Restore("r2", {});
  sim_.Pump();
  sim_.HoldFrom(2);
  sim_.HoldFrom(0);
  sim_.NodeOf(1).Restore("r1", {});
  sim_.Pump();  // the choice is made, nobody has heard of it
  const proto::ShardRecord shard = sim_.Node(1).Records().shards.front();
  const SlotRef ref{shard.slot(), shard.generation()};
  sim_.Node(1).DamageSlot(ref);
  sim_.Node(1).core()->OnSlotPoisoned(ref, "bits flipped");
  sim_.Node(1).Settle();
  sim_.HoldFrom(0, false);
  sim_.Pump();
  EXPECT_EQ(sim_.Node(0).Records().incarnations.back().decision().attempt(), 2U);
  EXPECT_FALSE(sim_.Client(0).restore_error.has_value());
  sim_.HoldFrom(2, false);
  sim_.Pump();
  EXPECT_TRUE(sim_.Client(0).restore_error.has_value());
}

// Two slots: one for the base, one to train with; the fallback lies on the tier.
TEST_F(SimStoriesTest, fallback_on_a_tier_needs_no_slot) {
  sim_.AddTier("/pfs");
  sim_.Start({0, 1, 2});
  sim_.Step(1);
  sim_.Node(0).Tier("/pfs").SetFailing(true);
  sim_.HoldFrom(1);
  sim_.HoldFrom(2);
  sim_.Step(2);  // so (1,1) is not freed: nobody knows yet that (1,2) is complete
  sim_.pending().clear();
  sim_.HoldFrom(1, false);
  sim_.HoldFrom(2, false);
  sim_.Node(0).Tier("/pfs").SetFailing(false);
  sim_.Start({0, 1, 2});
  ExpectReturned(k12);
  sim_.Step(1);
  EXPECT_TRUE(IsComplete(sim_.Node(0), {2, 1}));
}

}  // namespace
}  // namespace holdfast::daemon
