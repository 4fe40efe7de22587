#include "daemon/traffic_counters.h"

#include <chrono>

#include <gtest/gtest.h>

#include "proto/catalog.pb.h"

namespace holdfast::daemon {
namespace {

using std::chrono::milliseconds;

proto::ClientMessage Seal(RequestId request) {
  proto::ClientMessage message;
  message.set_request_id(request);
  message.mutable_seal();
  return message;
}

proto::ServerMessage Answer(RequestId request, bool ok) {
  proto::ServerMessage message;
  message.set_request_id(request);
  if (ok) {
    message.mutable_seal();
  } else {
    message.mutable_error();
  }
  return message;
}

class TrafficCountersTest : public ::testing::Test {
 protected:
  const MonotonicTime start_{};
  TrafficCounters counters_;
};

TEST_F(TrafficCountersTest, ASealIsTimedFromItsRequestAndOnlyASuccessCounts) {
  counters_.OnRequest(1, Seal(5), start_);
  counters_.OnRequest(2, Seal(5), start_);
  counters_.OnReply(1, Answer(5, true), start_ + milliseconds(20));
  counters_.OnReply(2, Answer(5, false), start_ + milliseconds(20));
  counters_.OnReply(1, Answer(5, true), start_ + milliseconds(20));
  EXPECT_EQ(counters_.counts().sealed, 1U);
  EXPECT_EQ(counters_.seal_seconds().count(), 1U);
  EXPECT_DOUBLE_EQ(counters_.seal_seconds().sum(), 0.02);
}

// I12.
TEST_F(TrafficCountersTest, WhatALostSessionWaitedForIsForgottenAndNobodyElsesIs) {
  counters_.OnRequest(1, Seal(5), start_);
  counters_.OnRequest(2, Seal(6), start_);
  counters_.OnRequest(3, Seal(7), start_);
  counters_.OnSessionEnded(2);
  counters_.OnReply(2, Answer(6, true), start_);
  EXPECT_EQ(counters_.counts().sealed, 0U);
  counters_.OnReply(1, Answer(5, true), start_);
  counters_.OnReply(3, Answer(7, true), start_);
  EXPECT_EQ(counters_.counts().sealed, 2U);
}

TEST_F(TrafficCountersTest, AFailedLoadIsARestoreThatFailed) {
  proto::ClientMessage loaded;
  loaded.mutable_loaded()->set_ok(true);
  counters_.OnRequest(1, loaded, start_);
  EXPECT_EQ(counters_.counts().restores_failed, 0U);
  loaded.mutable_loaded()->set_ok(false);
  counters_.OnRequest(1, loaded, start_);
  EXPECT_EQ(counters_.counts().restores_failed, 1U);
  proto::ClientMessage missed;
  missed.mutable_missed();
  counters_.OnRequest(1, missed, start_);
  EXPECT_EQ(counters_.counts().missed, 1U);
}

TEST_F(TrafficCountersTest, OutcomesAreCountedAsTheyAreDecidedAndDiscardingIsNoOutcome) {
  proto::OutcomeRecord record;
  record.mutable_id()->set_job_uid(std::string(16, 'u'));
  record.mutable_id()->set_incarnation(1);
  record.set_outcome(proto::COMPLETE);
  storage_tiers::CatalogBatch batch;
  record.mutable_id()->set_step(1);
  batch.PutOutcome(record);
  record.set_outcome(proto::ABANDONED);
  record.mutable_id()->set_step(2);
  batch.PutOutcome(record);
  record.set_outcome(proto::COMPLETE);
  record.set_discarded(true);
  record.mutable_id()->set_step(3);
  batch.PutOutcome(record);
  counters_.OnBatch(batch);
  EXPECT_EQ(counters_.counts().complete, 1U);
  EXPECT_EQ(counters_.counts().abandoned, 1U);
}

TEST_F(TrafficCountersTest, AFailedWriteOfTheCatalogIsCountedAndNotTimed) {
  counters_.OnCatalogWrite(0.5, true);
  counters_.OnCatalogWrite(30, false);
  EXPECT_EQ(counters_.catalog_seconds().count(), 1U);
  EXPECT_EQ(counters_.counts().catalog_failures, 1U);
}

TEST(DurationHistogramTest, BucketsAreCumulativeAndABoundBelongsToItsBucket) {
  DurationHistogram histogram;
  histogram.Observe(0);
  histogram.Observe(0.005);
  histogram.Observe(11);
  const auto& buckets = histogram.buckets();
  EXPECT_EQ(buckets[0], 1U);
  EXPECT_EQ(buckets[2], 2U);
  EXPECT_EQ(buckets.back(), 2U) << "above the last bound: only in the count";
  EXPECT_EQ(histogram.count(), 3U);
}

}  // namespace
}  // namespace holdfast::daemon
