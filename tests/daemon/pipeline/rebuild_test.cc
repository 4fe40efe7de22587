// Rebuild of a lost shard and of a lost row, with survivors that help, lag, hang and lie.

#include "daemon/pipeline/rebuild.h"

#include <gmock/gmock.h>

#include "tests/daemon/pipeline/rebuild_fixture.h"
#include "tests/support/bulk_bytes.h"

namespace holdfast::daemon {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using Clock = std::chrono::steady_clock;

// Section 6: survivors decode in parallel, the replacement pulls S and not a byte more.
TEST_F(RebuildTest, SurvivorsDecodeSharesAndTheReplacementPullsItsShardOnce) {
  const Status done = Rebuild(WorkWithHelpers());
  ASSERT_TRUE(done.has_value()) << done.error().ToString();
  EXPECT_TRUE(SameBytes(into_, group_->images[kLost]));
  EXPECT_EQ(verified_, into_.size());
  ByteCount pulled = 0;
  for (const auto& helper : helpers_) {
    pulled += helper->ring->bytes_read;
  }
  EXPECT_EQ(pulled, into_.size());
  EXPECT_EQ(BytesReadBy(kReplacement), 0U);
  ASSERT_TRUE(HelpersEnded());
  for (const auto& helper : helpers_) {
    EXPECT_TRUE(helper->done->has_value());
    EXPECT_TRUE(helper->feed->Taken(0));
  }
}

TEST_F(RebuildTest, WithoutHelpersItIsDecodedAtTheReplacement) {
  const Status done = Rebuild(Work(LostShard(kReplacement)));
  ASSERT_TRUE(done.has_value()) << done.error().ToString();
  EXPECT_TRUE(SameBytes(into_, group_->images[kLost]));
  EXPECT_EQ(verified_, into_.size());
}

TEST_F(RebuildTest, AHelperThatDiesHalfwayIsReplacedByDecodingHere) {
  ShardToRebuild work = WorkWithHelpers();
  helpers_[1]->calls->fault = [](std::uint64_t number) -> std::optional<Error> {
    if (number == 2) {
      return Error(Errc::kUnavailable, "connection lost");
    }
    return std::nullopt;
  };
  helpers_[2]->ring->faults = [](ByteCount, ByteCount) {
    FaultRangeReader::Fault fault;
    fault.error = Error(Errc::kNotFound, "gone");
    return fault;
  };
  share_.taker_limit = milliseconds(200);
  const Status done = Rebuild(std::move(work));
  ASSERT_TRUE(done.has_value()) << done.error().ToString();
  EXPECT_TRUE(SameBytes(into_, group_->images[kLost]));
  EXPECT_EQ(verified_, into_.size());
}

// Counts the reads that are under way.
class CountedReader final : public ShardReader {
 public:
  CountedReader(WorkerPool* cpu, std::shared_ptr<ShardReader> inner)
      : ShardReader(cpu, inner->what()), inner_(std::move(inner)) {}

  std::string Describe() const override { return inner_->Describe(); }

  std::size_t most() const { return most_; }

 private:
  boost::asio::awaitable<Status> ReadBytes(ByteCount offset,
                                           MutableByteView into,
                                           ShardReadOptions options) override {
    most_ = std::max(most_, ++now_);
    Status read = co_await inner_->ReadRange(offset, into, options);
    --now_;
    co_return read;
  }

  const std::shared_ptr<ShardReader> inner_;
  std::size_t now_ = 0;
  std::size_t most_ = 0;
};

// Each segment that is decoded here takes k times its windows of memory.
TEST_F(RebuildTest, WhenAllHelpersFailOnlySomeSegmentsAreDecodedHereAtATime) {
  auto reader = std::make_shared<CountedReader>(&cpu_, LostShard(kReplacement));
  ShardToRebuild work = WorkWithHelpers();
  work.shard = reader;
  for (const auto& helper : helpers_) {
    helper->calls->fault = [](std::uint64_t) { return Error(Errc::kUnavailable, "gone"); };
  }
  share_.taker_limit = milliseconds(200);
  const Status done = Rebuild(std::move(work));
  ASSERT_TRUE(done.has_value()) << done.error().ToString();
  EXPECT_TRUE(SameBytes(into_, group_->images[kLost]));
  EXPECT_EQ(reader->most(), RebuildShardOptions().segments_at_once);
}

// A survivor may reach whom the replacement cannot.
TEST_F(RebuildTest, WhatCannotBeDecodedHereIsAskedOfEveryOtherHelper) {
  ShardToRebuild work = WorkWithHelpers();
  work.shard = LostShard(kReplacement, {kLost, 0, 2, 3});
  Helper& second = StartHelper(0, 2);
  Helper& third = StartHelper(0, 4);
  work.helpers[0].push_back({second.calls, second.ring});
  work.helpers[0].push_back({third.calls, third.ring});
  for (const auto& helper : {helpers_[0].get(), &second}) {
    helper->calls->fault = [](std::uint64_t) { return Error(Errc::kUnavailable, "gone"); };
  }
  share_.taker_limit = milliseconds(200);
  const Status done = Rebuild(std::move(work));
  ASSERT_TRUE(done.has_value()) << done.error().ToString();
  EXPECT_TRUE(SameBytes(into_, group_->images[kLost]));
  EXPECT_EQ(third.ring->bytes_read, 3 * kMiB);
}

// I5.
TEST_F(RebuildTest, AHelperThatLiesIsFoundByTheSidecarAndTheNextOneIsAsked) {
  ShardToRebuild work = WorkWithHelpers();
  helpers_[0]->ring->faults = [](ByteCount, ByteCount) {
    FaultRangeReader::Fault fault;
    fault.flip_byte = 3;
    return fault;
  };
  Helper& second = StartHelper(0, 4);
  work.helpers[0].push_back({second.calls, second.ring});
  const Status done = Rebuild(std::move(work));
  ASSERT_TRUE(done.has_value()) << done.error().ToString();
  EXPECT_TRUE(SameBytes(into_, group_->images[kLost]));
  EXPECT_EQ(second.ring->bytes_read, 3 * kMiB);
}

TEST_F(RebuildTest, AHelperThatHangsIsLeftAfterItsLimit) {
  pull_.window_limit = milliseconds(80);
  ShardToRebuild work = WorkWithHelpers();
  helpers_[2]->ring->faults = Hang();
  const auto began = Clock::now();
  const Status done = Rebuild(std::move(work));
  ASSERT_TRUE(done.has_value()) << done.error().ToString();
  EXPECT_TRUE(SameBytes(into_, group_->images[kLost]));
  EXPECT_LT(Clock::now() - began, seconds(10));
}

// A slow source is not waited for.  The limits are those of the default: a minute and more.
TEST_F(RebuildTest, AHelperThatHangsWhereOthersGoOnIsLeftLongBeforeItsLimit) {
  patience_.first = milliseconds(1'000);
  ShardToRebuild work = WorkWithHelpers();
  helpers_[2]->ring->faults = Hang();
  Helper& second = StartHelper(2, 4);
  work.helpers[2].push_back({second.calls, second.ring});
  const auto began = Clock::now();
  const Status done = Rebuild(std::move(work));
  ASSERT_TRUE(done.has_value()) << done.error().ToString();
  EXPECT_TRUE(SameBytes(into_, group_->images[kLost]));
  EXPECT_EQ(second.ring->bytes_read, group_->group->stripes.SegmentLength(kLost, 2));
  EXPECT_LT(Clock::now() - began, seconds(20));
}

TEST_F(RebuildTest, AHelperThatIsMuchSlowerThanTheOthersIsLeft) {
  patience_.next = milliseconds(200);
  ShardToRebuild work = WorkWithHelpers();
  helpers_[1]->ring->faults = [](ByteCount offset, ByteCount) {
    FaultRangeReader::Fault fault;
    fault.delay = offset == 0 ? milliseconds(0) : milliseconds(20'000);
    return fault;
  };
  const auto began = Clock::now();
  const Status done = Rebuild(std::move(work));
  ASSERT_TRUE(done.has_value()) << done.error().ToString();
  EXPECT_TRUE(SameBytes(into_, group_->images[kLost]));
  EXPECT_GT(BytesReadBy(kReplacement), 0U);
  EXPECT_LT(Clock::now() - began, seconds(20));
}

// Another helper would be no faster.
TEST_F(RebuildTest, WhereAllHelpersAreSlowNoneIsLeft) {
  patience_ = {milliseconds(1), milliseconds(1), 20};
  ShardToRebuild work = WorkWithHelpers();
  for (const auto& helper : helpers_) {
    helper->calls->delay = milliseconds(400);
  }
  const Status done = Rebuild(std::move(work));
  ASSERT_TRUE(done.has_value()) << done.error().ToString();
  EXPECT_TRUE(SameBytes(into_, group_->images[kLost]));
  EXPECT_EQ(BytesReadBy(kReplacement), 0U);
}

TEST_F(RebuildTest, RestoreAndRebuildAreUrgentWhileTheyRun) {
  TrafficPriority priority;
  ShardToRebuild work = Work(LostShard(kReplacement));
  std::size_t urgent = 0;
  readers_.at({kReplacement, 0})->faults = [&](ByteCount, ByteCount) {
    urgent = std::max(urgent, priority.urgent());
    return FaultRangeReader::Fault();
  };
  RebuildShardOptions options;
  options.pull = pull_;
  options.priority = &priority;
  ASSERT_TRUE(RunToEnd(RebuildShard(&cpu_, std::move(work), options)).has_value());
  EXPECT_EQ(urgent, 1U);
  EXPECT_EQ(priority.urgent(), 0U);
}

// I12.
TEST_F(RebuildTest, CancelledAtAnyMomentNothingIsLeftBehind) {
  bool whole = false;
  std::size_t cancelled = 0;
  for (std::size_t steps = 4; !whole && !HasFailure(); steps += 5) {
    helpers_.clear();
    std::fill(into_.begin(), into_.end(), kCanary);
    std::optional<Status> shard;
    std::optional<Result<std::vector<std::uint32_t>>> row;
    std::vector<std::byte> row_bytes(3 * kMiB, kCanary);
    RebuildShardOptions options;
    options.pull = pull_;
    RebuildRowOptions row_options;
    row_options.rebuild = rebuild_;
    Start(RebuildShard(&cpu_, WorkWithHelpers(), options), &shard);
    Start(RebuildRow(&cpu_,
                     group_->group,
                     Sources(*group_, {kLost}, kReplacement),
                     1,
                     0,
                     row_bytes,
                     row_options),
          &row);
    for (std::size_t i = 0; i < steps; ++i) {
      io_.restart();
      if (io_.run_one_for(milliseconds(20)) == 0) {
        break;
      }
    }
    whole = shard.has_value() && row.has_value();
    CancelAndEnd();
    ASSERT_TRUE(shard.has_value() && row.has_value() && HelpersEnded());
    cancelled += shard->has_value() ? 0 : 1;
    EXPECT_TRUE(RunUntil([this] { return cpu_.pending() == 0; }));
    const std::vector<std::byte> after = into_;
    const std::vector<std::byte> row_after = row_bytes;
    for (const auto& [who, source] : readers_) {
      EXPECT_EQ(source->in_flight, 0U);
    }
    (void)RunUntil([until = Clock::now() + milliseconds(2)] { return Clock::now() > until; });
    EXPECT_TRUE(SameBytes(after, into_) && SameBytes(row_after, row_bytes));
    for (const auto& helper : helpers_) {
      helper->calls.reset();
      EXPECT_EQ(helper->feed.use_count(), 1);
    }
  }
  EXPECT_GT(cancelled, 10U);
}

TEST_F(RebuildTest, WhatDoesNotFitTheGroupIsRefused) {
  ShardToRebuild work = Work(LostShard(kReplacement));
  work.into = work.into.first(5);
  EXPECT_EQ(Rebuild(std::move(work)).error().code, Errc::kInvalidArgument);
  const auto other = RebuildReader::Make(&cpu_,
                                         group_->digests[0],
                                         group_->group,
                                         kLost,
                                         Sources(*group_, {kLost}, kReplacement),
                                         rebuild_);
  EXPECT_FALSE(other.has_value());
  RebuildRowOptions options;
  std::vector<std::byte> row(1);
  const auto made = RunToEnd(RebuildRow(
      &cpu_, group_->group, Sources(*group_, {kLost}, kReplacement), 1, 0, row, options));
  EXPECT_EQ(made.error().code, Errc::kInvalidArgument);
}

}  // namespace
}  // namespace holdfast::daemon
