// Failure stories of jobs with frozen tensors, whose images have parity of their own (README.md).

#include <algorithm>
#include <set>

#include <gtest/gtest.h>

#include "tests/sim/groups_fixture.h"

namespace holdfast::daemon {
namespace {

constexpr SnapshotKey k11{1, 1};
constexpr SnapshotKey k12{1, 2};
constexpr SnapshotKey k13{1, 3};

// Nodes n0 to n2 in one group of 2+1, n3 is a spare; ranks 0 and 2 have frozen tensors.
class SimGroupsStaticTest : public SimGroupsTest {
 protected:
  SimGroupsStaticTest()
      : SimGroupsTest(
            SimSize{.nodes = 4, .ranks = 3, .slots = 3, .data = 2, .parity = 1, .statics = true}) {}

  // Slots of "node" with rows of static images.
  std::set<std::uint32_t> StaticRowSlots(int node) {
    std::set<std::uint32_t> slots;
    for (const proto::RowRecord& row : sim_.Node(node).Records().rows) {
      if (row.set().kind() == proto::STATIC) {
        slots.insert(row.slot());
      }
    }
    return slots;
  }

  std::size_t MadeRows() {
    std::size_t made = 0;
    const std::string log = sim_.log();
    for (auto at = log.find("parity: row"); at != std::string::npos;
         at = log.find("parity: row", at + 1)) {
      ++made;
    }
    return made;
  }

  // Of what is held: each node's rows of dynamic images come first.
  void MakeAllButStaticRows() {
    for (bool any = true; any;) {
      any = false;
      for (const int node : {0, 1, 2}) {
        const bool more = sim_.Node(node).HeldCount("make") > 1;
        any = (more && sim_.Node(node).FinishHeld("make", "ok")) || any;
      }
      Settle();
    }
  }

  void Train(Step step) {
    sim_.Step(step);
    Settle();
    const SnapshotKey id{sim_.job().epoch.number, step};
    ASSERT_TRUE(Protected() == id) << Status().not_protected();
    EXPECT_EQ(Status().margin(), 1U);
  }
};

// I10: what is frozen is lost with the node as what is not.
TEST_F(SimGroupsStaticTest, FrozenTensorsOfALostNodeComeBack) {
  sim_.Start({0, 1, 2});
  Train(1);
  Lose(2);
  sim_.Start({0, 1, 3});
  ExpectReturned(k11);
  EXPECT_EQ(sim_.Client(2).told_static, "base of r2");
  Settle();
  EXPECT_TRUE(Protected() == k11);
  EXPECT_EQ(Status().margin(), 1U);
  Lose(0);
  sim_.Open({2, 1, 3});
  sim_.Restore({});
  sim_.Tick(std::chrono::seconds(61));  // nobody here knows what n0 had decided
  sim_.LoadAll();
  ExpectReturned(k11);
  EXPECT_EQ(sim_.Client(0).told_static, "base of r0");
  EXPECT_EQ(sim_.Client(2).told_static, "base of r2");
}

// I4, I9: they are encoded once; every later snapshot names the same rows, until the last is gone.
TEST_F(SimGroupsStaticTest, RowsOfFrozenTensorsAreMadeOnce) {
  sim_.Start({0, 1, 2});
  Train(1);
  const std::set<std::uint32_t> first = StaticRowSlots(0);
  ASSERT_EQ(first.size(), 1U);
  EXPECT_EQ(MadeRows(), 6U);  // one of each image for each node
  Train(2);
  Train(3);
  EXPECT_EQ(MadeRows(), 12U);
  EXPECT_EQ(StaticRowSlots(0), first);
  EXPECT_EQ(Rows(sim_.Node(0), k12), 0U);
  EXPECT_EQ(Rows(sim_.Node(0), k13), 2U);
  Lose(2);
  sim_.Start({0, 1, 3});
  ExpectReturned(k13);
}

// L: the image that both share says in the older one's sidecar that it is its own.
TEST_F(SimGroupsStaticTest, RowsAreMadeOnceThoughTheNewerSnapshotIsSealedFirst) {
  sim_.Start({0, 1, 2});
  const auto step = [&](Rank rank, Step number, bool daemon_digests) {
    sim_.NodeOf(rank).Begin("r" + std::to_string(rank), number);
    sim_.Pump();
    sim_.NodeOf(rank).Seal("r" + std::to_string(rank), daemon_digests);
    sim_.Pump();
  };
  sim_.Node(0).Hold("digest");
  step(0, 1, true);
  step(0, 2, false);
  step(1, 1, false);
  step(2, 1, false);
  ASSERT_TRUE(Holds(sim_.Node(0), k12));
  ASSERT_FALSE(Holds(sim_.Node(0), k11));
  sim_.Node(0).Unhold("digest");
  ASSERT_TRUE(sim_.Node(0).FinishHeld("digest", "ok"));
  sim_.Pump();
  Settle();
  ASSERT_TRUE(Protected() == k11) << Status().not_protected();
  step(1, 2, false);
  step(2, 2, false);
  Settle();
  EXPECT_TRUE(Protected() == k12) << Status().not_protected();
  EXPECT_EQ(MadeRows(), 9U);  // dynamic ones of two ids, static ones of one
}

// I10: the dynamic rows alone bring nothing back.
TEST_F(SimGroupsStaticTest, ASnapshotWithoutRowsOfItsFrozenTensorsIsNotProtected) {
  sim_.Start({0, 1, 2});
  for (const int node : {0, 1, 2}) {
    sim_.Node(node).Hold("make");
  }
  sim_.Step(1);
  Settle();
  MakeAllButStaticRows();
  EXPECT_FALSE(Protected().has_value());
  for (const int node : {0, 1, 2}) {
    EXPECT_EQ(Rows(sim_.Node(node), k11), 1U);
    EXPECT_TRUE(StaticRowSlots(node).empty());
  }
  EXPECT_EQ(Status().margin(), 0U);
}

// R: what cannot be had whole is passed over, and costs no attempt.
TEST_F(SimGroupsStaticTest, WhatLacksRowsOfItsFrozenTensorsIsPassedOver) {
  sim_.Start({0, 1, 2});
  Train(1);
  for (const Rank rank : {0, 2}) {
    sim_.Client(rank).layout.static_bytes += kMiB;
    sim_.NodeOf(rank).Register("r" + std::to_string(rank), /*names_slots=*/false);
  }
  sim_.Pump();
  for (const int node : {0, 1, 2}) {
    sim_.Node(node).Hold("make");
  }
  sim_.Step(2);
  Settle();
  MakeAllButStaticRows();
  Lose(2);
  sim_.Start({0, 1, 3});
  sim_.Tick(std::chrono::seconds(61));  // n2 may have had more of (1,2)
  sim_.LoadAll();
  ExpectReturned(k11);
  EXPECT_EQ(sim_.Client(0).attempt, 1U);
}

// A row that every snapshot shares is every snapshot's loss, and made again for the newest.
TEST_F(SimGroupsStaticTest, ABadSharedRowIsMadeAgain) {
  sim_.Start({0, 1, 2});
  Train(1);
  sim_.Node(1).Hold("make");
  const std::uint32_t slot = *StaticRowSlots(1).begin();
  for (const proto::RowRecord& row : sim_.Node(1).Records().rows) {
    if (row.slot() == slot) {
      const SlotRef ref{row.slot(), row.generation()};
      sim_.Node(1).core()->OnSlotPoisoned(ref, "bits flipped");
      break;
    }
  }
  sim_.Node(1).Settle();
  Settle();
  EXPECT_FALSE(Protected().has_value());
  EXPECT_EQ(Rows(sim_.Node(1), k11), 1U);
  sim_.Node(1).Unhold("make");
  ASSERT_TRUE(sim_.Node(1).FinishHeld("make", "ok"));
  Settle();
  EXPECT_TRUE(Protected() == k11);
  Lose(0);
  sim_.Start({3, 1, 2});
  ExpectReturned(k11);
}

// I4: another base makes rows of its own; the old ones stay until they are not needed.
TEST_F(SimGroupsStaticTest, AnotherBaseHasRowsOfItsOwn) {
  sim_.Start({0, 1, 2});
  Train(1);
  const std::set<std::uint32_t> first = StaticRowSlots(0);
  sim_.Client(0).layout.static_bytes = 3 * kMiB;
  sim_.Client(0).layout.name = "merged";
  sim_.Client(0).base = "another base of r0";
  sim_.NodeOf(0).Register("r0", /*names_slots=*/false);
  sim_.Pump();
  sim_.Node(0).Hold("make");
  sim_.Step(2);
  Settle();
  EXPECT_EQ(Rows(sim_.Node(0), k11), 2U);
  EXPECT_EQ(StaticRowSlots(0), first);
  sim_.Node(0).Unhold("make");
  while (sim_.Node(0).FinishHeld("make", "ok")) {
    Settle();
  }
  Settle();
  ASSERT_TRUE(Protected() == k12);
  EXPECT_EQ(StaticRowSlots(0).size(), 1U);
  EXPECT_NE(StaticRowSlots(0), first);
  Lose(0);
  sim_.Start({3, 1, 2});
  ExpectReturned(k12);
  EXPECT_EQ(sim_.Client(0).told_static, "another base of r0");
}

// I5, I10: rows are shared by what the images are, not by how long they are.
TEST_F(SimGroupsStaticTest, AnotherBaseOfTheSameShapeHasRowsOfItsOwn) {
  sim_.Start({0, 1, 2});
  Train(1);
  const std::set<std::uint32_t> first = StaticRowSlots(0);
  sim_.Start({0, 1, 2});
  ExpectReturned(k11);
  sim_.Client(0).base = "another base of r0";
  sim_.Step(1);  // skipped by rank 0, which compares what it was offered
  Train(2);
  EXPECT_NE(StaticRowSlots(0), first);
  Lose(0);
  sim_.Open({3, 1, 2});
  sim_.Restore({});
  sim_.Tick(std::chrono::seconds(61));
  sim_.LoadAll();
  ExpectReturned(SnapshotKey{2, 2});
  EXPECT_EQ(sim_.Client(0).told_static, "another base of r0");
}

// A daemon that comes back knows which of its slots many snapshots' rows are in.
TEST_F(SimGroupsStaticTest, SharedRowsOutliveADaemon) {
  sim_.Start({0, 1, 2});
  Train(1);
  const std::set<std::uint32_t> first = StaticRowSlots(0);
  sim_.Node(1).Hold("make");
  sim_.Step(2);
  Settle();
  EXPECT_EQ(Rows(sim_.Node(0), k12), 2U);  // beside those of the first
  sim_.Node(0).Crash();
  sim_.Node(0).Restart();
  sim_.NodeOf(0).Resume("r0");
  Settle();
  EXPECT_EQ(StaticRowSlots(0), first);
  sim_.Node(1).Unhold("make");
  while (sim_.Node(1).FinishHeld("make", "ok")) {
    Settle();
  }
  Settle();
  EXPECT_TRUE(Protected() == k12);
  EXPECT_EQ(Rows(sim_.Node(0), k11), 0U);
  EXPECT_EQ(StaticRowSlots(0), first);
  Lose(1);
  sim_.Start({0, 3, 2});
  ExpectReturned(k12);
}

// A second node that is lost meanwhile takes no more than its own; a try that failed goes on from
// the image that it had brought.
TEST_F(SimGroupsStaticTest, ARestoreThatFailsKeepsTheFrozenTensorsThatItBrought) {
  sim_.Start({0, 1, 2});
  Train(1);
  Lose(2);
  sim_.Node(3).Hold("bring");
  sim_.Open({0, 1, 3});
  sim_.Restore({});
  Settle();
  ASSERT_TRUE(sim_.Node(3).FinishHeld("bring", "ok"));  // the static image
  Settle();
  ASSERT_TRUE(sim_.Node(3).FinishHeld("bring", "io"));
  Settle();
  ReleaseBring(3, "ok");
  Settle();
  sim_.LoadAll();
  ExpectReturned(k11);
  const std::string log = sim_.log();
  std::size_t decodes = 0;
  for (auto at = log.find("decodes (1,1) of r2"); at != std::string::npos;
       at = log.find("decodes (1,1) of r2", at + 1)) {
    ++decodes;
  }
  EXPECT_EQ(decodes, 3U);  // static, dynamic, dynamic
}

}  // namespace
}  // namespace holdfast::daemon
