// A ring of windows, its maker and its takers; and the taker that pulls a whole vector.

#include "daemon/pipeline/window_feed.h"

#include <cstring>

#include <gmock/gmock.h>

#include "common/crc32c.h"
#include "tests/daemon/pipeline/group_fixture.h"
#include "tests/support/bulk_bytes.h"

namespace holdfast::daemon {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::HasSubstr;
using Clock = std::chrono::steady_clock;

constexpr ByteCount kLength = 4 * kMiB + 5;

class WindowFeedTest : public GroupTest {
 protected:
  WindowFeedTest() {
    pull_.window_bytes = kMiB;
    pull_.window_limit = seconds(5);
    for (std::size_t i = 0; i < vector_.size(); ++i) {
      vector_[i] = static_cast<std::byte>(i * 7 + i / kMiB);
    }
  }

  // Tasks end before what they use.
  ~WindowFeedTest() override { CancelAndEnd(); }

  static FeedShape Shape(std::size_t lanes) {
    return {.windows = Windows(kLength, kMiB), .lanes = lanes, .depth = 2};
  }

  ByteView WindowOf(std::uint64_t number) const {
    return ByteView(vector_).subspan(number * kMiB, std::min(kMiB, kLength - number * kMiB));
  }

  boost::asio::awaitable<Status> MakeWindow(std::uint64_t number, milliseconds limit) {
    HF_CO_TRY(const auto lanes, co_await feed_->Reserve(number, limit));
    for (const MutableByteView lane : lanes) {
      if (!lane.empty()) {
        std::memcpy(lane.data(), WindowOf(number).data(), lane.size());
      }
    }
    std::vector<std::vector<std::uint32_t>> digests(lanes.size(), ChunkDigests(WindowOf(number)));
    feed_->Publish(number, std::move(digests));
    co_return Ok();
  }

  boost::asio::awaitable<Status> MakeAll(milliseconds limit) {
    for (std::uint64_t number = 0; number < 5; ++number) {
      HF_CO_TRYV(co_await MakeWindow(number, limit));
    }
    co_return co_await feed_->Drain(limit);
  }

  Result<FedWindow> Ask(std::uint64_t number, milliseconds limit = milliseconds(0)) {
    return RunToEnd(feed_->Next(0, number, Clock::now() + limit));
  }

  Errc AskError(std::uint64_t number) {
    const auto told = Ask(number);
    return told.has_value() ? Errc::kInternal : told.error().code;
  }

  FeedSource Source() {
    calls_ = std::make_shared<LocalFeedCalls>(feed_, 0);
    ring_ = RingOf(feed_);
    return {calls_, ring_};
  }

  void StartAll(milliseconds limit = seconds(5)) { Start(MakeAll(limit), &made_); }

  Result<std::vector<std::uint32_t>> Pull(const FeedSource& source,
                                          std::vector<std::uint32_t> expected = {}) {
    return RunToEnd(PullVector(&cpu_, source, into_, std::move(expected), pull_));
  }

  std::vector<std::byte> vector_ = std::vector<std::byte>(kLength);
  std::vector<std::byte> into_ = std::vector<std::byte>(kLength);
  std::shared_ptr<WindowFeed> feed_ = FeedOf(Shape(1));
  std::shared_ptr<LocalFeedCalls> calls_;
  std::shared_ptr<FaultRangeReader> ring_;
  std::optional<Status> made_;
};

TEST_F(WindowFeedTest, AWindowIsWaitedForAndAskedForAgainAfterALostAnswer) {
  std::optional<Result<FedWindow>> told;
  Start(feed_->Next(0, 0, Clock::now() + seconds(5)), &told);
  ASSERT_FALSE(RunUntil([&told, until = Clock::now() + milliseconds(20)] {
                 return told.has_value() || Clock::now() > until;
               }) &&
               told.has_value());
  ASSERT_TRUE(RunToEnd(MakeWindow(0, seconds(1))).has_value());
  ASSERT_TRUE(RunUntil([&told] { return told.has_value(); }));
  ASSERT_TRUE(told->has_value());
  EXPECT_EQ(told->value().chunk_crc32c, ChunkDigests(WindowOf(0)));
  const auto again = Ask(0);
  ASSERT_TRUE(again.has_value());
  EXPECT_EQ(again.value().at, told->value().at);
  const ByteView lent = feed_->Lent(again.value().at, again.value().length).value();
  EXPECT_EQ(std::memcmp(lent.data(), vector_.data(), lent.size()), 0);
}

// L: one that could not say in time that it begins anew, and made its row from others meanwhile,
// does not keep the maker waiting; nor does it count as one that took it.
TEST_F(WindowFeedTest, ATakerThatHasTheVectorFromElsewhereIsNotWaitedFor) {
  ASSERT_TRUE(RunToEnd(MakeWindow(0, seconds(1))).has_value());
  ASSERT_TRUE(Ask(0).has_value());
  const auto end = Ask(5);
  ASSERT_TRUE(end.has_value());
  EXPECT_EQ(end.value().length, 0U);
  EXPECT_EQ(AskError(1), Errc::kUnavailable);
  for (std::uint64_t number = 1; number < 5; ++number) {
    ASSERT_TRUE(RunToEnd(MakeWindow(number, seconds(600))).has_value()) << number;
  }
  ASSERT_TRUE(RunToEnd(feed_->Drain(seconds(600))).has_value());
  EXPECT_FALSE(feed_->Taken(0));
}

// A taker that skips one would give back what it has not read.
TEST_F(WindowFeedTest, OnlyTheNextWindowMayBeAskedFor) {
  EXPECT_EQ(AskError(1), Errc::kInvalidArgument);
  EXPECT_EQ(AskError(6), Errc::kInvalidArgument);
  ASSERT_TRUE(RunToEnd(MakeWindow(0, seconds(1))).has_value());
  ASSERT_TRUE(RunToEnd(MakeWindow(1, seconds(1))).has_value());
  EXPECT_EQ(AskError(2), Errc::kInvalidArgument);
  EXPECT_TRUE(Ask(1).has_value());
  EXPECT_EQ(AskError(2), Errc::kTimeout);
  EXPECT_EQ(AskError(1), Errc::kNotFound);
  EXPECT_FALSE(feed_->Taken(0));
  EXPECT_FALSE(RunToEnd(feed_->Next(1, 0, Clock::now())).has_value());
}

TEST_F(WindowFeedTest, NoWindowIsWrittenOverThatATakerStillNeeds) {
  ASSERT_TRUE(RunToEnd(MakeWindow(0, seconds(5))).has_value());
  ASSERT_TRUE(RunToEnd(MakeWindow(1, seconds(5))).has_value());
  const FedWindow first = Ask(0).value();
  std::optional<Status> third;
  Start(MakeWindow(2, seconds(5)), &third);
  (void)RunUntil([until = Clock::now() + milliseconds(30)] { return Clock::now() > until; });
  EXPECT_FALSE(third.has_value());
  const ByteView lent = feed_->Lent(first.at, first.length).value();
  EXPECT_EQ(std::memcmp(lent.data(), vector_.data(), lent.size()), 0);
  EXPECT_TRUE(Ask(1).has_value());
  ASSERT_TRUE(RunUntil([&third] { return third.has_value(); }));
  EXPECT_TRUE(third->has_value());
}

TEST_F(WindowFeedTest, ATakerThatDoesNotMoveIsDroppedAndHearsIt) {
  ASSERT_TRUE(RunToEnd(MakeWindow(0, seconds(1))).has_value());
  ASSERT_TRUE(RunToEnd(MakeWindow(1, seconds(1))).has_value());
  ASSERT_TRUE(RunToEnd(MakeWindow(2, milliseconds(30))).has_value());
  EXPECT_EQ(AskError(0), Errc::kUnavailable);
  EXPECT_FALSE(feed_->Taken(0));
}

TEST_F(WindowFeedTest, ATakerThatBeginsAnewIsToldAndNotWaitedFor) {
  ASSERT_TRUE(RunToEnd(MakeWindow(0, seconds(1))).has_value());
  ASSERT_TRUE(RunToEnd(MakeWindow(1, seconds(1))).has_value());
  EXPECT_TRUE(Ask(1).has_value());
  EXPECT_EQ(AskError(0), Errc::kUnavailable);
  EXPECT_TRUE(RunToEnd(MakeWindow(2, std::chrono::hours(1))).has_value());
  EXPECT_TRUE(RunToEnd(MakeWindow(3, std::chrono::hours(1))).has_value());
}

TEST_F(WindowFeedTest, ATakerThatNeedsNothingIsNotWaitedFor) {
  feed_->Drop(0);
  EXPECT_TRUE(RunToEnd(MakeAll(std::chrono::hours(1))).has_value());
}

TEST_F(WindowFeedTest, AFailureReachesWhoWaits) {
  std::optional<Result<FedWindow>> told;
  Start(feed_->Next(0, 0, Clock::now() + seconds(30)), &told);
  (void)RunUntil([until = Clock::now() + milliseconds(5)] { return Clock::now() > until; });
  feed_->Fail(Error(Errc::kUnavailable, "gave up"));
  feed_->Fail(Error(Errc::kInternal, "a later one"));
  ASSERT_TRUE(RunUntil([&told] { return told.has_value(); }));
  EXPECT_EQ(told->error().code, Errc::kUnavailable);
  EXPECT_EQ(AskError(0), Errc::kUnavailable);
}

TEST_F(WindowFeedTest, NothingBeyondTheRingIsLent) {
  EXPECT_TRUE(feed_->Lent(0, 2 * kMiB).has_value());
  EXPECT_FALSE(feed_->Lent(1, 2 * kMiB).has_value());
  EXPECT_FALSE(feed_->Lent(~ByteCount{0}, 2).has_value());
}

TEST_F(WindowFeedTest, AVectorIsPulledWholeAndTheMakerHearsOfIt) {
  const FeedSource source = Source();
  StartAll();
  const auto digests = Pull(source);
  ASSERT_TRUE(digests.has_value()) << digests.error().ToString();
  EXPECT_EQ(digests.value(), ChunkDigests(vector_));
  EXPECT_TRUE(SameBytes(into_, vector_));
  ASSERT_TRUE(RunUntil([this] { return made_.has_value(); }));
  EXPECT_TRUE(feed_->Taken(0));
  EXPECT_EQ(ring_->bytes_read, kLength);
  EXPECT_EQ(AskError(5), Errc::kNotFound);
}

TEST_F(WindowFeedTest, AMakerThatHasNotBegunIsAskedAgain) {
  const FeedSource source = Source();
  int refusals = 3;
  calls_->fault = [&refusals](std::uint64_t) -> std::optional<Error> {
    if (refusals-- > 0) {
      return Error(Errc::kNotFound, "no such vector");
    }
    return std::nullopt;
  };
  StartAll();
  EXPECT_TRUE(Pull(source).has_value());
  EXPECT_LT(refusals, 0);
}

TEST_F(WindowFeedTest, ABitThatFlippedOnTheWayIsReadAgainAndOneThatStaysIsAnError) {
  for (const int lies : {1, 1'000}) {
    feed_ = FeedOf(Shape(1));
    const FeedSource source = Source();
    int left = lies;
    ring_->faults = [&left](ByteCount, ByteCount) {
      FaultRangeReader::Fault fault;
      if (left-- > 0) {
        fault.flip_byte = 9;
      }
      return fault;
    };
    made_.reset();
    StartAll(milliseconds(100));
    const auto pulled = Pull(source);
    EXPECT_EQ(pulled.has_value(), lies == 1);
    if (lies > 1) {
      EXPECT_EQ(pulled.error().code, Errc::kCorruption);
      EXPECT_EQ(ring_->blocks, 2U);
    }
    ASSERT_TRUE(RunUntil([this] { return made_.has_value(); }));
  }
}

// I5: a survivor that decoded something else cannot pass it off as the shard.
TEST_F(WindowFeedTest, WhatTheMakerSaysOfItsBytesIsNotBelievedWhereTheyAreKnown) {
  const FeedSource source = Source();
  std::vector<std::uint32_t> expected = ChunkDigests(vector_);
  expected[3] ^= 1U;
  StartAll(milliseconds(100));
  const auto pulled = Pull(source, expected);
  ASSERT_FALSE(pulled.has_value());
  EXPECT_EQ(pulled.error().code, Errc::kCorruption);
  EXPECT_THAT(pulled.error().message, HasSubstr(std::to_string(3 * kMiB)));
  ASSERT_TRUE(RunUntil([this] { return made_.has_value(); }));
}

TEST_F(WindowFeedTest, AnAnswerForAnotherWindowWritesNothing) {
  std::fill(into_.begin(), into_.end(), std::byte{0xee});
  const FeedSource source = Source();
  const std::vector<std::function<void(FedWindow*)>> lies = {
      [](FedWindow* told) { told->offset += kMiB; },
      [](FedWindow* told) { told->length += 1; },
      [](FedWindow* told) { told->chunk_crc32c.clear(); },
      [](FedWindow* told) { told->at = ~ByteCount{0}; }};
  ASSERT_TRUE(RunToEnd(MakeWindow(0, seconds(1))).has_value());
  for (const auto& lie : lies) {
    calls_->alter = lie;
    const auto pulled = Pull(source);
    ASSERT_FALSE(pulled.has_value());
    EXPECT_EQ(pulled.error().code, Errc::kInvalidArgument);
  }
  EXPECT_EQ(into_, std::vector<std::byte>(kLength, std::byte{0xee}));
}

TEST_F(WindowFeedTest, AMakerThatHangsEndsThePullByItsLimit) {
  pull_.window_limit = milliseconds(60);
  ASSERT_TRUE(RunToEnd(MakeWindow(0, seconds(1))).has_value());
  const auto pulled = Pull(Source());
  ASSERT_FALSE(pulled.has_value());
  EXPECT_EQ(pulled.error().code, Errc::kTimeout);
  pull_.first_limit = milliseconds(60);
  feed_ = FeedOf(Shape(1));
  EXPECT_EQ(Pull(Source()).error().code, Errc::kTimeout);
}

}  // namespace
}  // namespace holdfast::daemon
