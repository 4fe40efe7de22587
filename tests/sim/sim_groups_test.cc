// Failure stories of nodes that protect each other (README.md).

#include <algorithm>

#include <gtest/gtest.h>

#include "tests/sim/groups_fixture.h"

namespace holdfast::daemon {
namespace {

using std::chrono::seconds;

constexpr SnapshotKey k11{1, 1};
constexpr SnapshotKey k12{1, 2};

TEST_F(SimGroupsTest, ALostNodeIsRebuiltAndTheMarginClimbsBack) {
  sim_.Start({0, 1, 2});
  sim_.Step(1);
  Settle();
  ASSERT_TRUE(Protected() == k11);
  EXPECT_EQ(Status().margin(), 1U);
  Lose(1);
  sim_.Start({0, 3, 2});
  ExpectReturned(k11);
  Settle();
  EXPECT_TRUE(Protected() == k11);
  EXPECT_EQ(Status().margin(), 1U);
  Lose(2);
  sim_.Start({0, 3, 1});
  ExpectReturned(k11);
}

TEST_F(SimGroupsTest, one_parity_row_is_not_protected) {
  sim_.Start({0, 1, 2});
  sim_.Step(1);
  Settle();
  ASSERT_TRUE(Protected() == k11);
  sim_.Node(0).Hold("make");
  sim_.Node(1).Hold("make");
  sim_.Step(2);
  Settle();
  EXPECT_EQ(Rows(sim_.Node(2), k12), 1U);
  EXPECT_TRUE(Protected() == k11);
  for (const int node : {0, 1, 2}) {
    EXPECT_TRUE(Holds(sim_.Node(node), k11)) << node;
  }
  Lose(2);
  sim_.Node(0).Unhold("make");
  sim_.Node(1).Unhold("make");
  sim_.Open({0, 1, 3});
  sim_.Restore({});
  sim_.Tick(seconds(61));  // nobody knows what n2 had of (1,2)
  sim_.LoadAll();
  ExpectReturned(k11);
}

TEST_F(SimGroupsTest, older_report_overtaken_by_newer) {
  sim_.Start({0, 1, 2});
  sim_.Step(1);
  Settle();
  sim_.HoldFrom(1);
  sim_.Step(2);
  Settle();
  ASSERT_EQ(Rows(sim_.Node(1), k11), 1U);
  const auto older = sim_.pending();
  proto::RowRecord row;
  for (const proto::RowRecord& held : sim_.Node(1).Records().rows) {
    row = held;
  }
  sim_.pending().clear();
  sim_.Node(1).Hold("make");
  sim_.Node(1).core()->OnSlotPoisoned({row.slot(), row.generation()}, "bits flipped");
  sim_.Node(1).Settle();
  sim_.HoldFrom(1, false);
  Settle();
  EXPECT_FALSE(Protected() == k11 && Status().margin() > 0);
  for (const auto& envelope : older) {
    sim_.pending().push_back(envelope);
  }
  sim_.Pump();
  EXPECT_FALSE(Protected().has_value());
  EXPECT_TRUE(Holds(sim_.Node(0), k11));
}

TEST_F(SimGroupsTest, report_of_a_lost_member_does_not_count) {
  sim_.Start({0, 1, 2});
  sim_.Step(1);
  Settle();
  ASSERT_TRUE(Protected() == k11);
  sim_.Node(2).Hold("make");
  sim_.Step(2);
  Settle();
  sim_.HoldFrom(2);
  sim_.Node(2).Unhold("make");
  ASSERT_TRUE(sim_.Node(2).FinishHeld("make", "ok"));
  Lose(1);
  sim_.HoldFrom(2, false);
  Settle();
  EXPECT_FALSE(Protected().has_value());
  for (const int node : {0, 2}) {
    EXPECT_TRUE(Holds(sim_.Node(node), k11)) << node;
  }
}

TEST_F(SimGroupsTest, discarded_id_never_counts_as_newer) {
  sim_.Start({0, 1, 2});
  sim_.Step(1);
  Settle();
  sim_.HoldFrom(1);
  sim_.HoldFrom(2);
  sim_.Step(2);
  sim_.pending().clear();
  sim_.HoldFrom(1, false);
  sim_.HoldFrom(2, false);
  RestoreWish wish;
  wish.named_step = 1;
  sim_.Start({0, 1, 2}, wish);
  ExpectReturned(k11);
  Settle();
  EXPECT_TRUE(Protected() == k11);
  EXPECT_FALSE(Holds(sim_.Node(0), k12));
  sim_.Step(2);
  Settle();
  EXPECT_TRUE(Protected() == (SnapshotKey{2, 2}));
}

TEST_F(SimGroupsTest, protect_oldest_first_so_parity_space_returns) {
  sim_.Start({0, 1, 2});
  sim_.Step(1);
  Settle();
  sim_.Node(0).Hold("make");
  sim_.Node(2).Hold("make");
  sim_.Step(2);
  sim_.Step(3);
  Settle();
  EXPECT_EQ(Rows(sim_.Node(1), k12), 1U);
  sim_.Node(0).Restart();
  sim_.Pump();
  sim_.Node(0).Resume("r0");
  Settle();
  EXPECT_TRUE(KeyOf(Status().protecting()) == k12);
  sim_.Node(0).Unhold("make");
  sim_.Node(2).Unhold("make");
  sim_.Node(2).FinishHeld("make", "ok");
  while (sim_.Node(0).FinishHeld("make", "ok")) {
  }
  Settle();
  EXPECT_TRUE(Protected() == (SnapshotKey{1, 3}));
  EXPECT_FALSE(Holds(sim_.Node(1), k11));
  EXPECT_EQ(Rows(sim_.Node(1), k11) + Rows(sim_.Node(1), k12), 0U);
}

TEST_F(SimGroupsTest, former_member_holds_what_the_new_ones_lack) {
  sim_.Start({0, 1, 2});
  sim_.Step(1);
  Settle();
  ASSERT_TRUE(Protected() == k11);
  Lose(1);
  sim_.Start({0, 1, 3});  // n2 is healthy, reachable, but no member now
  ExpectReturned(k11);
  EXPECT_NE(sim_.log().find("copies (1,1) of r2"), std::string::npos);
  EXPECT_NE(sim_.log().find("decodes (1,1) of r1"), std::string::npos);
}

TEST_F(SimGroupsTest, nothing_is_freed_while_restoring) {
  sim_.Start({0, 1, 2});
  sim_.Step(1);
  Settle();
  sim_.Step(2);
  Settle();
  Lose(2);
  sim_.Open({0, 1, 3});
  sim_.Node(3).Hold("bring");
  sim_.Restore({});
  ASSERT_EQ(sim_.Node(3).HeldCount("bring"), 1U);
  Settle();
  EXPECT_EQ(Rows(sim_.Node(0), k12) + Rows(sim_.Node(1), k12), 2U);
  ReleaseBring(3, "io");
  ExpectReturned(k12);
}

// Margin 1 of the older id is worth more than the newest, which no row covers yet.
TEST_F(SimGroupsTest, fallback_is_the_id_with_the_most_margin) {
  sim_.Start({0, 1, 2});
  sim_.Step(1);
  Settle();
  for (const int node : {0, 1, 2}) {
    sim_.Node(node).Hold("make");
  }
  sim_.Step(2);
  Settle();
  sim_.Start({0, 1, 2});
  ExpectReturned(k12);
  Settle();
  for (const int node : {0, 1, 2}) {
    EXPECT_TRUE(Holds(sim_.Node(node), k11)) << node;
    EXPECT_EQ(Rows(sim_.Node(node), k11), 1U) << node;
  }
  Lose(2);
  for (const int node : {0, 1}) {
    sim_.Node(node).Unhold("make");
    while (sim_.Node(node).FinishHeld("make", "io")) {
    }
  }
  sim_.Open({0, 1, 3});
  sim_.Restore({});
  sim_.Tick(seconds(61));
  sim_.LoadAll();
  ExpectReturned(k11);
}

TEST_F(SimGroupsTest, discarded_id_is_kept_while_it_is_the_safest) {
  sim_.Start({0, 1, 2});
  for (const int node : {0, 1, 2}) {
    sim_.Node(node).Hold("make");
  }
  sim_.Step(1);
  Settle();
  sim_.Start({0, 1, 2});
  ExpectReturned(k11);
  for (const int node : {0, 1, 2}) {
    sim_.Node(node).Unhold("make");
    while (sim_.Node(node).FinishHeld("make", "ok")) {
    }
  }
  Settle();
  sim_.Step(3);
  sim_.HoldFrom(0);
  Settle();  // (2,3) has its rows, nobody has been told to free (1,1)
  sim_.pending().clear();
  sim_.HoldFrom(0, false);
  ASSERT_EQ(Rows(sim_.Node(1), {2, 3}), 1U);
  RestoreWish wish;
  wish.named_step = 1;
  sim_.Start({0, 1, 2}, wish);
  if (!sim_.Client(0).returned) {
    GTEST_SKIP() << "(1,1) was gone already: " << sim_.Client(0).restore_error.value_or("");
  }
  ExpectReturned(k11);
}

TEST_F(SimGroupsTest, repaired_rows_bring_all_sidecars) {
  sim_.Start({0, 1, 2});
  sim_.Step(1);
  Settle();
  Lose(1);
  sim_.Start({0, 1, 2});
  ExpectReturned(k11);
  Settle();
  Lose(0);
  sim_.Open({0, 1, 2});
  sim_.Restore({});
  sim_.Tick(seconds(61));  // the new coordinator does not know who trained in the last start
  sim_.Node(0).Hold("fetch");
  sim_.LoadAll();
  ExpectReturned(k11);
  Settle();
  EXPECT_FALSE(Protected().has_value());
  sim_.Node(0).Unhold("fetch");
  while (sim_.Node(0).FinishHeld("fetch", "ok")) {
  }
  Settle();
  ASSERT_TRUE(Protected() == k11);
  Lose(2);
  sim_.Start({0, 1, 2});
  ExpectReturned(k11);
}

TEST_F(SimGroupsTest, remains_of_a_lost_incarnation_are_freed) {
  sim_.Start({0, 1, 2});
  for (const Step step : {1, 2}) {
    sim_.NodeOf(1).Begin("r1", step);
    sim_.NodeOf(1).Seal("r1", false);
  }
  sim_.Pump();
  sim_.Start({0, 1, 2});
  ExpectReturned(std::nullopt);
  EXPECT_FALSE(Holds(sim_.Node(1), k11));
  sim_.Step(1);
  Settle();
  EXPECT_TRUE(Protected() == (SnapshotKey{2, 1}));
}

// The same nodes again: what is there counts, and nothing is encoded anew.
TEST_F(SimGroupsTest, RowsOfTheLastStartCountForTheNext) {
  sim_.Start({0, 1, 2});
  sim_.Step(1);
  Settle();
  ASSERT_TRUE(Protected() == k11);
  const std::size_t before = sim_.log().size();
  sim_.Start({0, 1, 2});
  ExpectReturned(k11);
  Settle();
  EXPECT_TRUE(Protected() == k11);
  EXPECT_EQ(sim_.log().find("parity: row", before), std::string::npos);
}

// I10: a node that has not heard of the newest groups has rows of the same code under older ones.
TEST_F(SimGroupsTest, RowsUnderOlderGroupsOfTheSameCodeCount) {
  sim_.Start({0, 1, 2});
  sim_.Step(1);
  Settle();
  ASSERT_TRUE(Protected() == k11);
  sim_.Open({0, 1, 2});
  sim_.Restore({});
  sim_.HoldFrom(0);
  sim_.LoadAll();
  Settle();
  const auto epoch_of = [&](int node) {
    return sim_.Node(node).Records().rows.at(0).set().epoch_number();
  };
  ASSERT_EQ(epoch_of(0), 2U);
  ASSERT_EQ(epoch_of(1), 1U);
  Lose(2);
  sim_.pending().clear();
  sim_.HoldFrom(0, false);
  sim_.Start({0, 1, 3});
  ExpectReturned(k11);
}

TEST_F(SimGroupsTest, ARowThatCannotBePulledIsDecoded) {
  sim_.Start({0, 1, 2});
  sim_.Node(1).Hold("make");
  sim_.Step(1);
  Settle();
  EXPECT_FALSE(Protected().has_value());
  sim_.Node(1).Unhold("make");
  ASSERT_TRUE(sim_.Node(1).FinishHeld("make", "io"));
  sim_.Pump();
  EXPECT_NE(Status().not_protected().find("a row of step 1"), std::string::npos);
  Settle();
  EXPECT_TRUE(Protected() == k11);
}

TEST_F(SimGroupsTest, SkippedSnapshotsSayThatProtectionLags) {
  sim_.Start({0, 1, 2});
  sim_.Node(1).Hold("make");
  for (const Step step : {1, 2, 3, 4}) {
    sim_.Step(step);
    Settle();
  }
  const auto job = sim_.Node(0).core()->StatusNow().jobs(0);
  EXPECT_NE(job.ranks(0).last_missed_reason().find("protection lags"), std::string::npos);
  EXPECT_TRUE(Holds(sim_.Node(0), k11));
}

// L: who is skipped because a node is out of sight learns which one, on whatever node it is.
TEST_F(SimGroupsTest, a_silent_node_is_named_to_who_is_skipped) {
  sim_.Start({0, 1, 2});
  sim_.Step(1);
  Settle();
  const auto said = [&](int node) {
    const proto::JobStatus job = sim_.Node(node).core()->StatusNow().jobs(0);
    return job.not_protected() + "\n" + job.ranks(0).last_missed_reason();
  };
  const auto named = [&](int node, int whom) {
    const std::string uuid = NodeText(sim_.Node(whom).node_uuid());
    const std::string text = said(node);
    return text.find(uuid) != std::string::npos && text.rfind(uuid) > text.find('\n');
  };
  for (const int lost : {2, 0}) {
    sim_.Isolate(lost);
    sim_.Tick(seconds(2));
    sim_.Tick(std::chrono::milliseconds(250));  // who is out of sight is looked up at each
    for (Step step = lost == 2 ? 2 : 12; step < (lost == 2 ? 8 : 18); ++step) {
      sim_.Step(step);
    }
    for (const int node : {0, 1, 2}) {
      EXPECT_TRUE(named(node, node == lost ? (lost == 0 ? 1 : 0) : lost)) << said(node);
    }
    sim_.Isolate(lost, false);
    Settle();
    EXPECT_EQ(Status().not_protected(), "");
  }
}

}  // namespace
}  // namespace holdfast::daemon
