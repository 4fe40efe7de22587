#include "daemon/core/recovery_planner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace holdfast::daemon {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

const Source kArena{};
const Source kTier{Source::Kind::kTier, "/pfs", ""};

void Give(Inventory* inventory, SnapshotKey id, std::vector<Rank> ranks, const Source& source) {
  inventory->world_sizes[id] = 2;
  inventory->sources[id];
  for (const Rank rank : ranks) {
    inventory->sources[id][rank].push_back(source);
  }
}

TEST(RecoveryPlannerTest, NothingKnownMeansStartingAfresh) {
  const RestorePlan plan = PlanRestore({}, 2, {});
  EXPECT_FALSE(plan.choice.has_value());
  EXPECT_FALSE(plan.error.has_value());
}

// R: incarnation first, then step.
TEST(RecoveryPlannerTest, TheGreatestIdThatEveryRankCanGetIsChosen) {
  Inventory inventory;
  Give(&inventory, {1, 90}, {0, 1}, kArena);
  Give(&inventory, {2, 10}, {0, 1}, kArena);
  Give(&inventory, {2, 20}, {0}, kArena);
  const RestorePlan plan = PlanRestore(inventory, 2, {});
  EXPECT_EQ(plan.choice, (SnapshotKey{2, 10}));
  EXPECT_THAT(plan.passed_over,
              ElementsAre(HasSubstr("step 20 of incarnation 2: no usable shard "
                                    "of rank 1")));
}

TEST(RecoveryPlannerTest, RanksMayTakeOneIdFromDifferentSources) {
  Inventory inventory;
  Give(&inventory, {1, 1}, {0}, kArena);
  Give(&inventory, {1, 1}, {0, 1}, kTier);
  const RestorePlan plan = PlanRestore(inventory, 2, {});
  EXPECT_EQ(plan.sources.at(0), kArena);
  EXPECT_EQ(plan.sources.at(1), kTier);
}

// I5: a source that was bad once is not used again.
TEST(RecoveryPlannerTest, ABadSourceGivesWayToTheNext) {
  Inventory inventory;
  Give(&inventory, {1, 1}, {0, 1}, kArena);
  Give(&inventory, {1, 1}, {0, 1}, kTier);
  inventory.bad[{{1, 1}, 1}][kArena] = "chunk 3 does not match";
  const RestorePlan plan = PlanRestore(inventory, 2, {});
  EXPECT_EQ(plan.choice, (SnapshotKey{1, 1}));
  EXPECT_EQ(plan.sources.at(1), kTier);
  EXPECT_THAT(plan.passed_over, ElementsAre(HasSubstr("chunk 3 does not match")));
}

// A source that hangs is not bad, but another one goes before it from then on.
TEST(RecoveryPlannerTest, OfGoodSourcesTheOneThatFailedLeastIsTaken) {
  Inventory inventory;
  Give(&inventory, {1, 1}, {0, 1}, kArena);
  Give(&inventory, {1, 1}, {0, 1}, kTier);
  inventory.failures[{{1, 1}, 1}][kArena] = 1;
  EXPECT_EQ(PlanRestore(inventory, 2, {}).sources.at(0), kArena);
  EXPECT_EQ(PlanRestore(inventory, 2, {}).sources.at(1), kTier);
  inventory.failures[{{1, 1}, 1}][kTier] = 2;
  EXPECT_EQ(PlanRestore(inventory, 2, {}).sources.at(1), kArena) << "failed less often";
  inventory.failures[{{1, 1}, 1}][kArena] = 2;
  EXPECT_EQ(PlanRestore(inventory, 2, {}).sources.at(1), kArena) << "the better of equals";
  inventory.bad[{{1, 1}, 1}][kArena] = "chunk 3 does not match";
  EXPECT_EQ(PlanRestore(inventory, 2, {}).sources.at(1), kTier) << "never one that is bad";
}

// I11: what was complete is never lost in silence.
TEST(RecoveryPlannerTest, OnlyLostCompleteSnapshotsIsAnErrorThatNamesThem) {
  Inventory inventory;
  Give(&inventory, {1, 1}, {0}, kArena);
  inventory.was_complete.insert({1, 1});
  const RestorePlan plan = PlanRestore(inventory, 2, {});
  EXPECT_FALSE(plan.choice.has_value());
  ASSERT_TRUE(plan.error.has_value());
  EXPECT_THAT(*plan.error, HasSubstr("step 1 of incarnation 1: no usable shard of rank 1"));
}

TEST(RecoveryPlannerTest, RemainsThatWereNeverCompleteAreNoError) {
  Inventory inventory;
  Give(&inventory, {1, 1}, {0}, kArena);
  const RestorePlan plan = PlanRestore(inventory, 2, {});
  EXPECT_FALSE(plan.choice.has_value());
  EXPECT_FALSE(plan.error.has_value());
}

TEST(RecoveryPlannerTest, ANamedStepIsNeverReplacedByAnOlderOne) {
  Inventory inventory;
  Give(&inventory, {1, 1}, {0, 1}, kArena);
  const RestorePlan plan = PlanRestore(inventory, 2, {2, false});
  EXPECT_FALSE(plan.choice.has_value());
  EXPECT_THAT(plan.error.value_or(""), HasSubstr("step 2 cannot be restored"));
}

TEST(RecoveryPlannerTest, ANamedStepIsTakenFromTheNewestHistoryThatHasIt) {
  Inventory inventory;
  Give(&inventory, {1, 5}, {0, 1}, kArena);
  Give(&inventory, {2, 5}, {0, 1}, kTier);
  Give(&inventory, {2, 6}, {0, 1}, kTier);
  EXPECT_EQ(PlanRestore(inventory, 2, {5, false}).choice, (SnapshotKey{2, 5}));
}

TEST(RecoveryPlannerTest, ADiscardedIdIsChosenOnlyWhenTheUserSaysSo) {
  Inventory inventory;
  Give(&inventory, {1, 1}, {0, 1}, kArena);
  Give(&inventory, {1, 2}, {0, 1}, kArena);
  inventory.discarded.insert({1, 2});
  EXPECT_EQ(PlanRestore(inventory, 2, {}).choice, (SnapshotKey{1, 1}));
  EXPECT_TRUE(PlanRestore(inventory, 2, {2, false}).error.has_value());
  EXPECT_EQ(PlanRestore(inventory, 2, {2, true}).choice, (SnapshotKey{1, 2}));
}

TEST(RecoveryPlannerTest, WithOnlyDiscardedSnapshotsTheErrorNamesThem) {
  Inventory inventory;
  Give(&inventory, {1, 2}, {0, 1}, kArena);
  inventory.discarded.insert({1, 2});
  inventory.was_complete.insert({1, 2});
  EXPECT_THAT(PlanRestore(inventory, 2, {}).error.value_or(""),
              HasSubstr("step 2 of incarnation 1 is discarded, and can be had by naming its step"));
}

TEST(RecoveryPlannerTest, AnotherWorldSizeIsPassedOverByName) {
  Inventory inventory;
  Give(&inventory, {1, 1}, {0, 1}, kArena);
  inventory.was_complete.insert({1, 1});
  EXPECT_THAT(PlanRestore(inventory, 4, {}).error.value_or(""),
              HasSubstr("taken with world size 2, the job has 4"));
}

TEST(RecoveryPlannerTest, AnIdThatWasTriedTooOftenIsLeftOut) {
  Inventory inventory;
  Give(&inventory, {1, 1}, {0, 1}, kArena);
  Give(&inventory, {1, 2}, {0, 1}, kArena);
  inventory.tried_too_often[{1, 2}] = "rank 1, parity: node 07 is not connected";
  EXPECT_EQ(PlanRestore(inventory, 2, {}).choice, (SnapshotKey{1, 1}));
}

// I11: who restores is told what was missing, not only that it was looked for often.
TEST(RecoveryPlannerTest, AnIdThatWasTriedTooOftenIsNamedWithItsLastFailure) {
  Inventory inventory;
  Give(&inventory, {1, 2}, {0, 1}, kArena);
  inventory.was_complete.insert({1, 2});
  inventory.tried_too_often[{1, 2}] = "rank 1, parity: node 07 is not connected";
  EXPECT_THAT(PlanRestore(inventory, 2, {}).error.value_or(""),
              HasSubstr("at last rank 1, parity: node 07 is not connected"));
}

// I4: what is safer than the choice is kept until the choice is as safe.
TEST(RecoveryPlannerTest, TheFallbackIsTheNewestOnASharedTierUnlessTheChoiceIs) {
  Inventory inventory;
  Give(&inventory, {1, 1}, {0, 1}, kTier);
  Give(&inventory, {1, 2}, {0, 1}, kTier);
  Give(&inventory, {1, 3}, {0, 1}, kArena);
  inventory.safe = {{1, 1}, {1, 2}};
  EXPECT_EQ(PlanRestore(inventory, 2, {}).fallback, (SnapshotKey{1, 2}));
  EXPECT_EQ(PlanRestore(inventory, 2, {1, false}).fallback, std::nullopt);
  inventory.discarded.insert({1, 2});
  EXPECT_EQ(PlanRestore(inventory, 2, {}).fallback, (SnapshotKey{1, 1}));
}

// I3: training without a restore keeps what a user could still name, whatever no attempt would
// take.
TEST(RecoveryPlannerTest, WhatIsKeptNeedNotBeWhatWouldBeChosen) {
  Inventory inventory;
  Give(&inventory, {1, 1}, {0, 1}, kArena);
  Give(&inventory, {1, 2}, {0, 1}, kArena);
  Give(&inventory, {1, 3}, {0}, kArena);
  inventory.ended_too_many_starts.insert({1, 2});
  inventory.world_sizes[{1, 2}] = 2;
  EXPECT_EQ(PlanKept(inventory), (SnapshotKey{1, 2}));
  inventory.bad[{{1, 2}, 0}][kArena] = "chunk 3 does not match";
  EXPECT_EQ(PlanKept(inventory), (SnapshotKey{1, 1}));
  inventory.out_of_reach[{1, 2}].push_back("persistent /pfs did not answer");
  EXPECT_EQ(PlanKept(inventory), (SnapshotKey{1, 1}));
  inventory.discarded.insert({1, 1});
  EXPECT_EQ(PlanKept(inventory), (SnapshotKey{1, 2}));
  inventory.out_of_reach[{1, 1}].push_back("its nodes serve other ranks now");
  inventory.bad[{{1, 1}, 0}][kArena] = "chunk 3 does not match";
  inventory.discarded.clear();
  EXPECT_EQ(PlanKept(inventory), (SnapshotKey{1, 2}));
  inventory.was_complete.insert({1, 1});
  EXPECT_EQ(PlanKept(inventory), (SnapshotKey{1, 1}));
  inventory.bad.clear();
  inventory.world_sizes[{1, 2}] = 3;
  inventory.discarded.insert({1, 1});
  inventory.out_of_reach.clear();
  EXPECT_EQ(PlanKept(inventory), (SnapshotKey{1, 1}));
}

}  // namespace
}  // namespace holdfast::daemon
