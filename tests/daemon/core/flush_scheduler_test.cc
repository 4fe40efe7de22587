#include "daemon/core/flush_scheduler.h"

#include <gtest/gtest.h>

namespace holdfast::daemon {
namespace {

using std::chrono::seconds;

class FlushSchedulerTest : public ::testing::Test {
 protected:
  FlushScheduler Every(std::uint64_t steps, std::uint64_t every_seconds) {
    proto::TierPolicy policy;
    policy.set_root("/pfs");
    policy.set_every_steps(steps);
    policy.set_every_seconds(every_seconds);
    return FlushScheduler(policy, now_);
  }

  MonotonicTime now_{std::chrono::hours(1)};
};

TEST_F(FlushSchedulerTest, AMultipleOfTheIntervalIsDue) {
  FlushScheduler scheduler = Every(10, 0);
  EXPECT_FALSE(scheduler.Consider({1, 9}, false, false, now_));
  EXPECT_TRUE(scheduler.Consider({1, 10}, false, false, now_));
  EXPECT_EQ(scheduler.target(), (SnapshotKey{1, 10}));
}

TEST_F(FlushSchedulerTest, AStepThatWasSkippedMakesTheNextOneDue) {
  FlushScheduler scheduler = Every(10, 0);
  EXPECT_TRUE(scheduler.Consider({1, 13}, false, false, now_));
  scheduler.OnDurable({1, 13});
  EXPECT_FALSE(scheduler.Consider({1, 19}, false, false, now_));
  EXPECT_TRUE(scheduler.Consider({1, 21}, false, false, now_));
}

TEST_F(FlushSchedulerTest, OneSnapshotGoesAtATimeAndThenTheNewest) {
  FlushScheduler scheduler = Every(1, 0);
  EXPECT_TRUE(scheduler.Consider({1, 1}, false, false, now_));
  EXPECT_FALSE(scheduler.Consider({1, 2}, false, false, now_));
  EXPECT_EQ(scheduler.target(), (SnapshotKey{1, 1}));
  scheduler.OnDurable({1, 1});
  EXPECT_TRUE(scheduler.Consider({1, 9}, false, false, now_));
  EXPECT_EQ(scheduler.target(), (SnapshotKey{1, 9}));
}

TEST_F(FlushSchedulerTest, TimeMakesASnapshotDue) {
  FlushScheduler scheduler = Every(0, 60);
  EXPECT_FALSE(scheduler.Consider({1, 5}, false, false, now_ + seconds(59)));
  EXPECT_TRUE(scheduler.Consider({1, 5}, false, false, now_ + seconds(60)));
}

TEST_F(FlushSchedulerTest, ADrainMakesTheNewestDueAndUrgent) {
  FlushScheduler scheduler = Every(100, 0);
  EXPECT_TRUE(scheduler.Consider({1, 5}, false, true, now_));
  EXPECT_TRUE(scheduler.must_finish());
}

TEST_F(FlushSchedulerTest, ADrainMakesTheFlushUnderWayUrgentIfItIsTheNewest) {
  FlushScheduler scheduler = Every(5, 0);
  EXPECT_TRUE(scheduler.Consider({1, 5}, false, false, now_));
  EXPECT_FALSE(scheduler.must_finish());
  EXPECT_FALSE(scheduler.Consider({1, 6}, false, true, now_));
  EXPECT_FALSE(scheduler.must_finish());
  EXPECT_TRUE(scheduler.Consider({1, 5}, false, true, now_));
  EXPECT_TRUE(scheduler.must_finish());
}

TEST_F(FlushSchedulerTest, WhatIsDurableAlreadyIsNoTarget) {
  FlushScheduler scheduler = Every(1, 0);
  EXPECT_FALSE(scheduler.Consider({1, 5}, true, true, now_));
}

TEST_F(FlushSchedulerTest, ARestoredBaseThatTheTierLacksIsDueAtOnce) {
  FlushScheduler scheduler = Every(100, 0);
  scheduler.OnBase({1, 150}, false);
  EXPECT_TRUE(scheduler.Consider({1, 150}, false, false, now_));
  FlushScheduler other = Every(100, 0);
  other.OnBase({1, 150}, true);
  EXPECT_FALSE(other.Consider({2, 160}, false, false, now_));
  EXPECT_TRUE(other.Consider({2, 200}, false, false, now_));
}

TEST_F(FlushSchedulerTest, ATierWithoutPolicyTakesDrainsOnly) {
  FlushScheduler scheduler = Every(0, 0);
  scheduler.OnBase({1, 150}, false);
  EXPECT_FALSE(scheduler.Consider({2, 1000}, false, false, now_ + seconds(100000)));
  EXPECT_TRUE(scheduler.Consider({2, 1000}, false, true, now_));
}

TEST_F(FlushSchedulerTest, AGivenUpTargetMakesPlaceForTheNext) {
  FlushScheduler scheduler = Every(1, 0);
  EXPECT_TRUE(scheduler.Consider({1, 1}, false, true, now_));
  scheduler.OnGivenUp({1, 2});
  EXPECT_TRUE(scheduler.target().has_value());
  scheduler.OnGivenUp({1, 1});
  EXPECT_FALSE(scheduler.target().has_value());
  EXPECT_FALSE(scheduler.must_finish());
  EXPECT_TRUE(scheduler.Consider({1, 2}, false, false, now_));
}

}  // namespace
}  // namespace holdfast::daemon
