#include "daemon/traffic_counters.h"

#include <chrono>
#include <cstdint>
#include <optional>

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
  using Total = std::optional<std::uint64_t>;

  void Register(SessionId session,
                std::uint64_t token,
                Total skipped,
                std::uint64_t told = 0,
                bool ok = true) {
    proto::ClientMessage message;
    message.set_request_id(++request_);
    message.mutable_register_()->set_skipped_told(told);
    if (skipped.has_value()) {
      message.mutable_register_()->set_skipped_total(*skipped);
    }
    counters_.OnRequest(session, message, start_);
    proto::ServerMessage answer = Answer(request_, false);
    if (ok) {
      answer.mutable_register_()->set_session_token(token);
    }
    counters_.OnReply(session, answer, start_);
  }

  void Miss(SessionId session, Total skipped) {
    proto::ClientMessage message;
    message.set_request_id(++request_);
    message.mutable_missed();
    if (skipped.has_value()) {
      message.mutable_missed()->set_skipped_total(*skipped);
    }
    counters_.OnRequest(session, message, start_);
    proto::ServerMessage answer;
    answer.set_request_id(request_);
    answer.mutable_missed();
    counters_.OnReply(session, answer, start_);
  }

  RequestId request_ = 100;
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
}

TEST_F(TrafficCountersTest, AReportOfAnOlderClientIsOneSkippedStep) {
  Register(1, 5, std::nullopt);
  Miss(1, std::nullopt);
  Miss(1, std::nullopt);
  EXPECT_EQ(counters_.counts().skipped, 2U);
}

TEST_F(TrafficCountersTest, EachSkippedStepCountsThoughNotEachIsReported) {
  Register(1, 5, 3);  // before there was a daemon
  EXPECT_EQ(counters_.counts().skipped, 3U);
  Miss(1, 4);
  Miss(1, 50);
  Miss(1, 50);
  Register(1, 5, 50);  // another layout
  EXPECT_EQ(counters_.counts().skipped, 50U);
}

TEST_F(TrafficCountersTest, AReconnectNeitherLosesNorRepeatsSkippedSteps) {
  Register(1, 5, 0);
  Miss(1, 4);  // its answer is lost: the client does not know that they are counted
  counters_.OnSessionEnded(1);
  Register(2, 5, 7, 0);
  EXPECT_EQ(counters_.counts().skipped, 7U);
  Register(3, 6, 2);  // another rank
  EXPECT_EQ(counters_.counts().skipped, 9U);
}

TEST_F(TrafficCountersTest, ADaemonThatKnowsNothingGoesOnWhereTheClientSaysThatTheLastOneEnded) {
  Register(1, 5, 7, 4);
  EXPECT_EQ(counters_.counts().skipped, 3U);
  Miss(1, 8);
  EXPECT_EQ(counters_.counts().skipped, 4U);
}

TEST_F(TrafficCountersTest, WhatIsRefusedIsNotCounted) {
  Register(1, 5, 7, 0, false);
  EXPECT_EQ(counters_.counts().skipped, 0U);
  Miss(1, 8);  // of a session that is none
  EXPECT_EQ(counters_.counts().skipped, 0U);
  Register(1, 5, 8);
  EXPECT_EQ(counters_.counts().skipped, 8U);
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
