// What nobody can have any more must not stop what comes after it.

#include <vector>

#include <gtest/gtest.h>

#include "tests/sim/groups_fixture.h"

namespace holdfast::daemon {
namespace {

// Every slot of each rank holds a complete snapshot, of none of which any parity is made.
class SimGroupsRotTest : public SimGroupsTest {
 protected:
  void FillSlots() {
    sim_.Start({0, 1, 2});
    for (int node = 0; node < 3; ++node) {
      sim_.Node(node).Hold("make");
    }
    for (std::int64_t step = 1; step <= 3; ++step) {
      sim_.Step(step);
    }
    Settle();
    ASSERT_FALSE(Protected().has_value());
  }

  void Rot(int node, std::int64_t step) {
    const auto shards = sim_.Node(node).Records().shards;
    for (const proto::ShardRecord& shard : shards) {
      if (KeyOf(shard.sidecar().id()) == SnapshotKey{1, step}) {
        const SlotRef ref{shard.slot(), shard.generation()};
        sim_.Node(node).DamageSlot(ref);
        sim_.Node(node).core()->OnSlotPoisoned(ref, "bits flipped");
      }
    }
    sim_.Node(node).Settle();
    sim_.Pump();
  }

  void MakeParity() {
    for (int node = 0; node < 3; ++node) {
      sim_.Node(node).Unhold("make");
      while (sim_.Node(node).FinishHeld("make", "ok")) {
      }
    }
    Settle();
  }
};

// L: all three are lost with the shard of one rank, and hold every slot.
TEST_F(SimGroupsRotTest, SnapshotsThatNobodyCanHaveGiveTheirSlotsBack) {
  FillSlots();
  for (const std::int64_t step : {1, 2, 3}) {
    Rot(1, step);
  }
  MakeParity();
  for (int node = 0; node < 3; ++node) {
    EXPECT_FALSE(Holds(sim_.Node(node), {1, 1})) << node;
  }
  sim_.Step(4);
  Settle();
  EXPECT_TRUE(Protected() == (SnapshotKey{1, 4}));
}

// I4: nothing else goes with it.
TEST_F(SimGroupsRotTest, OnlyWhatNobodyCanHaveGoes) {
  FillSlots();
  Rot(1, 1);
  for (int node = 0; node < 3; ++node) {
    EXPECT_FALSE(Holds(sim_.Node(node), {1, 1})) << node;
    EXPECT_TRUE(Holds(sim_.Node(node), {1, 2})) << node;
    EXPECT_TRUE(Holds(sim_.Node(node), {1, 3})) << node;
  }
  MakeParity();
  EXPECT_TRUE(Protected() == (SnapshotKey{1, 3}));
}

// I4: with its parity it can still be had, and stays until a newer one is protected.
TEST_F(SimGroupsRotTest, WhatCanBeDecodedStays) {
  sim_.Start({0, 1, 2});
  sim_.Step(1);
  Settle();
  ASSERT_TRUE(Protected() == (SnapshotKey{1, 1}));
  Rot(1, 1);
  EXPECT_TRUE(Holds(sim_.Node(0), {1, 1}));
  EXPECT_TRUE(Holds(sim_.Node(2), {1, 1}));
  sim_.Step(2);
  Settle();
  EXPECT_TRUE(Protected() == (SnapshotKey{1, 2}));
}

// I4: while the node that has the bad shard is not heard nobody knows what is there.
TEST_F(SimGroupsRotTest, NothingGoesWhileANodeIsSilent) {
  FillSlots();
  sim_.HoldFrom(2);
  Lose(2);
  Rot(1, 1);
  EXPECT_TRUE(Holds(sim_.Node(0), {1, 1}));
}

}  // namespace
}  // namespace holdfast::daemon
