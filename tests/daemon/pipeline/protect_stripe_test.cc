// One stripe and what can go wrong while it is protected.

#include "daemon/pipeline/protect_stripe.h"

#include <algorithm>
#include <cstring>
#include <future>

#include <gmock/gmock.h>

#include "common/bandwidth_budget.h"
#include "common/crc32c.h"
#include "tests/daemon/pipeline/group_fixture.h"
#include "tests/support/bulk_bytes.h"

namespace holdfast::daemon {
namespace {

using std::chrono::milliseconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Clock = std::chrono::steady_clock;

constexpr std::byte kCanary{0xee};

class ProtectStripeTest : public GroupTest {
 protected:
  // Tasks end before what they use.
  ~ProtectStripeTest() override { CancelAndEnd(); }

  static ec::CodeParams Code(std::uint32_t k, std::uint32_t m) {
    ec::CodeParams code;
    code.data = k;
    code.parity = m;
    return code;
  }

  // Stripe 0 of a group of equal shards, ready to start.
  void MakeStripe(std::uint32_t k, std::uint32_t m, ByteCount segment) {
    group_ = std::make_unique<TestGroup>(Code(k, m), std::vector<ByteCount>(k + m, k * segment));
    for (std::uint32_t holder = m; holder < k + m; ++holder) {
      (void)ReaderOf(*group_, 0, holder);
    }
    run_ = Prepare(*group_, 0, options_);
    for (StoredRow& row : run_->rows) {
      std::fill(row.bytes.begin(), row.bytes.end(), kCanary);
    }
  }

  FaultRangeReader& Source(std::uint32_t column) {
    return *readers_.at({0, group_->group->stripes.PositionOf(0, column)});
  }

  void FaultAll(const FaultRangeReader::Faults& faults) {
    for (std::uint32_t column = 0; column < group_->k(); ++column) {
      Source(column).faults = faults;
    }
  }

  static FaultRangeReader::Faults After(milliseconds delay) {
    return [delay](ByteCount, ByteCount) {
      FaultRangeReader::Fault fault;
      fault.delay = delay;
      return fault;
    };
  }

  void RunStripe() {
    StartStripe(*group_, 0, options_, run_.get());
    ASSERT_TRUE(RunUntil([this] { return run_->Ended(); }));
  }

  Errc MadeError() const {
    return run_->made->has_value() ? Errc::kInternal : run_->made->error().code;
  }

  Errc PulledError(std::uint32_t row) const {
    return run_->pulled[row]->has_value() ? Errc::kInternal : run_->pulled[row]->error().code;
  }

  // The byte of the image that is byte "at" of the column's segment.
  std::byte& SegmentByte(std::uint32_t column, ByteCount at) {
    const std::uint32_t position = group_->group->stripes.PositionOf(0, column);
    const ByteCount offset =
        group_->group->stripes.SegmentOf(0, position) * group_->group->stripes.SegmentBytes();
    return group_->images[position][offset + at];
  }

  static bool Untouched(ByteView bytes) { return AllAre(bytes, kCanary); }

  boost::asio::awaitable<Status> HoldWorker(std::shared_future<void> opened) {
    auto hold = [opened]() -> Status {
      opened.wait();
      return Ok();
    };
    co_return co_await Offload(cpu_, std::move(hold));
  }

  boost::asio::awaitable<bool> CancelTasks() {
    tasks_.Cancel();
    co_return true;
  }

  // Whether the stripe has ended by then.
  bool RunFor(milliseconds time) {
    const auto until = Clock::now() + time;
    (void)RunUntil([&] { return run_->made.has_value() || Clock::now() > until; });
    return run_->made.has_value();
  }

  ProtectOptions options_ = SmallWindows();
  std::unique_ptr<TestGroup> group_;
  std::unique_ptr<StripeRun> run_;
};

// I5: whichever segment it is in, the window of a bad chunk is never encoded.
TEST_F(ProtectStripeTest, AFlippedBitOfAnySegmentIsNeverEncoded) {
  for (std::uint32_t column = 0; column < 4; ++column) {
    readers_.clear();
    MakeStripe(4, 2, 3 * kMiB);
    SegmentByte(column, kMiB + 77) ^= std::byte{4};
    RunStripe();
    EXPECT_EQ(MadeError(), Errc::kCorruption);
    ASSERT_TRUE(run_->fault.has_value());
    const std::uint32_t position = group_->group->stripes.PositionOf(0, column);
    EXPECT_EQ(run_->fault->position, position);
    const std::uint64_t first = 3ull * group_->group->stripes.SegmentOf(0, position);
    EXPECT_THAT(run_->fault->bad_chunks, ElementsAre(first + 1));
    EXPECT_THAT(run_->made->error().message, HasSubstr("rank " + std::to_string(position)));
    EXPECT_THAT(run_->made->error().message, HasSubstr("chunk " + std::to_string(first + 1)));
    EXPECT_TRUE(Untouched(ByteView(run_->rows[0].bytes).subspan(kMiB, kMiB)));
    // The owner's own bytes are not what was bad.
    EXPECT_EQ(PulledError(1), Errc::kUnavailable);
    EXPECT_TRUE(Untouched(ByteView(run_->rows[1].bytes).subspan(kMiB, kMiB)));
  }
}

// I5: the row of a mirror is pulled to where it stays; it counts only when all of it has been
// compared.
TEST_F(ProtectStripeTest, AFlippedBitOfAMirrorsSegmentMakesNoRow) {
  for (const std::uint32_t copies : {1U, 2U}) {
    readers_.clear();
    MakeStripe(1, copies, 5 * kMiB - 9);
    SegmentByte(0, kMiB + 77) ^= std::byte{4};
    RunStripe();
    EXPECT_EQ(MadeError(), Errc::kCorruption);
    ASSERT_TRUE(run_->fault.has_value());
    EXPECT_THAT(run_->fault->bad_chunks, ElementsAre(1));
    for (std::uint32_t row = 1; row < copies; ++row) {
      EXPECT_EQ(PulledError(row), Errc::kUnavailable);
      EXPECT_TRUE(Untouched(ByteView(run_->rows[row].bytes).subspan(kMiB, kMiB)));
    }
  }
}

TEST_F(ProtectStripeTest, ABitThatFlippedOnTheWayIsReadAgain) {
  MakeStripe(3, 2, 2 * kMiB);
  bool lied = false;
  Source(1).faults = [&lied](ByteCount, ByteCount) {
    FaultRangeReader::Fault fault;
    if (!lied) {
      fault.flip_byte = 5;
      lied = true;
    }
    return fault;
  };
  RunStripe();
  ASSERT_TRUE(run_->made->has_value()) << run_->made->error().ToString();
  EXPECT_FALSE(run_->fault.has_value());
  TestGroup reference = *group_;
  reference.FillRows();
  EXPECT_TRUE(SameBytes(run_->rows[0].bytes, reference.rows[0][0].bytes));
  EXPECT_TRUE(SameBytes(run_->rows[1].bytes, reference.rows[0][1].bytes));
}

TEST_F(ProtectStripeTest, AHolderThatHangsEndsItByTheLimit) {
  options_.read_limit = milliseconds(100);
  MakeStripe(3, 3, 2 * kMiB);
  Source(2).faults = [](ByteCount, ByteCount) {
    FaultRangeReader::Fault fault;
    fault.hang = true;
    return fault;
  };
  const auto began = Clock::now();
  RunStripe();
  EXPECT_LT(Clock::now() - began, milliseconds(5'000));
  EXPECT_EQ(MadeError(), Errc::kTimeout);
  EXPECT_THAT(run_->made->error().message, HasSubstr("rank 5"));
  EXPECT_EQ(PulledError(1), Errc::kUnavailable);
  EXPECT_EQ(PulledError(2), Errc::kUnavailable);
  EXPECT_FALSE(run_->fault.has_value());
  for (std::uint32_t column = 0; column < 3; ++column) {
    EXPECT_EQ(Source(column).in_flight, 0U);
  }
}

TEST_F(ProtectStripeTest, AHolderThatFailsOrGivesAnotherLengthEndsIt) {
  MakeStripe(2, 2, 2 * kMiB);
  Source(1).faults = [](ByteCount, ByteCount) {
    FaultRangeReader::Fault fault;
    fault.error = Error(Errc::kNotFound, "gone");
    return fault;
  };
  RunStripe();
  EXPECT_EQ(MadeError(), Errc::kNotFound);
  const auto short_reader =
      std::make_shared<FaultRangeReader>(ByteView(group_->images[2]).first(9));
  const auto made = PeerShardReader::Make(&cpu_, group_->digests[2], short_reader);
  ASSERT_FALSE(made.has_value());
  EXPECT_EQ(made.error().code, Errc::kInvalidArgument);
}

// Nobody waits for ever because one owner of three does not answer any more.
TEST_F(ProtectStripeTest, AnOwnerThatHangsIsDroppedAndTheOthersHaveTheirRows) {
  options_.owner_limit = milliseconds(150);
  MakeStripe(3, 3, 8 * kMiB);
  run_->calls[1]->fault = [](std::uint64_t number) -> std::optional<Error> {
    if (number >= 2) {
      return Error(Errc::kTimeout, "no answer");
    }
    return std::nullopt;
  };
  RunStripe();
  ASSERT_TRUE(run_->made->has_value()) << run_->made->error().ToString();
  EXPECT_THAT(run_->made->value().taken, ElementsAre(true, false, true));
  EXPECT_EQ(PulledError(1), Errc::kTimeout);
  ASSERT_TRUE(run_->pulled[2]->has_value()) << run_->pulled[2]->error().ToString();
  TestGroup reference = *group_;
  reference.FillRows();
  EXPECT_TRUE(SameBytes(run_->rows[0].bytes, reference.rows[0][0].bytes));
  EXPECT_TRUE(SameBytes(run_->rows[2].bytes, reference.rows[0][2].bytes));
}

// I9: what is pulled ahead of the slowest owner is bounded.
TEST_F(ProtectStripeTest, ASlowOwnerHoldsTheSegmentsBackAndIsNotDropped) {
  options_.owner_limit = milliseconds(2'000);
  MakeStripe(2, 2, 12 * kMiB);
  std::uint64_t asked = 0;
  ByteCount most_ahead = 0;
  run_->calls[1]->delay = milliseconds(15);
  run_->calls[1]->fault = [&](std::uint64_t number) -> std::optional<Error> {
    asked = number;
    return std::nullopt;
  };
  Source(0).faults = [&](ByteCount offset, ByteCount) {
    const ByteCount window = offset % (12 * kMiB) / kMiB;
    most_ahead = std::max(most_ahead, window - std::min<ByteCount>(window, asked));
    return FaultRangeReader::Fault();
  };
  RunStripe();
  ASSERT_TRUE(run_->made->has_value()) << run_->made->error().ToString();
  EXPECT_THAT(run_->made->value().taken, ElementsAre(true, true));
  EXPECT_LE(most_ahead, options_.windows_lent + options_.windows_in_flight);
  EXPECT_GE(most_ahead, 1U);
}

// I9.
TEST_F(ProtectStripeTest, WindowsAndReadsInFlightAreBounded) {
  options_.windows_in_flight = 3;
  MakeStripe(3, 1, 10 * kMiB);
  FaultAll(After(milliseconds(5)));
  std::size_t most = 0;
  Source(0).faults = [&](ByteCount, ByteCount) {
    most = std::max(most, Source(0).in_flight + Source(1).in_flight + Source(2).in_flight);
    FaultRangeReader::Fault fault;
    fault.delay = milliseconds(5);
    return fault;
  };
  RunStripe();
  ASSERT_TRUE(run_->made->has_value());
  EXPECT_EQ(Source(0).most, 3U);
  EXPECT_LE(most, 9U);
  EXPECT_EQ(ProtectMemoryBytes(Code(8, 2), ProtectOptions()), 2 * kMiB * (3 * 8 + 4));
}

// I12: whenever it is cancelled, nothing runs on, nothing is lent and nothing is written any more.
TEST_F(ProtectStripeTest, CancelledAtAnyMomentNothingIsLeftBehind) {
  bool whole = false;
  std::size_t cancelled = 0;
  options_.window_bytes = 4 * kMiB;
  // The first three handlers start the tasks.
  for (std::size_t steps = 3; !whole && !HasFailure(); steps += 2) {
    readers_.clear();
    MakeStripe(2, 3, 8 * kMiB);
    FaultAll(After(milliseconds(1)));
    StartStripe(*group_, 0, options_, run_.get());
    for (std::size_t i = 0; i < steps && !run_->Ended(); ++i) {
      io_.restart();
      io_.run_one_for(milliseconds(100));
    }
    whole = run_->Ended();
    CancelAndEnd();
    ASSERT_TRUE(run_->Ended());
    cancelled += run_->made->has_value() ? 0 : 1;
    // Whoever runs on writes over this.
    for (StoredRow& row : run_->rows) {
      std::fill(row.bytes.begin(), row.bytes.end(), kCanary);
    }
    // A job's count ends a moment after its result was handed home.
    EXPECT_TRUE(RunUntil([this] { return cpu_.pending() == 0; }));
    for (std::uint32_t column = 0; column < 2; ++column) {
      EXPECT_EQ(Source(column).in_flight, 0U);
    }
    run_->calls.assign(3, nullptr);
    EXPECT_EQ(run_->feed.use_count(), 1);
    EXPECT_EQ(RunToEnd(run_->feed->Next(0, 0, Clock::now())).has_value(), false);
    (void)RunUntil([until = Clock::now() + milliseconds(2)] { return Clock::now() > until; });
    for (std::uint32_t row = 0; row < 3; ++row) {
      EXPECT_TRUE(Untouched(run_->rows[row].bytes));
    }
  }
  EXPECT_GT(cancelled, 10U);
}

// I12: what a worker writes to is the caller's again when ProtectStripe has returned, not before.
TEST_F(ProtectStripeTest, ACancelledStripeWaitsForTheWorkerThatEncodes) {
  options_.windows_in_flight = 1;
  MakeStripe(2, 2, 4 * kMiB);
  run_->calls[1]->fault = [](std::uint64_t) { return Error(Errc::kTimeout, "no taker"); };
  StartStripe(*group_, 0, options_, run_.get());
  // The third window has been compared and waits for its place in the ring.
  ASSERT_TRUE(RunUntil([this] { return Source(0).blocks == 3 && Source(1).blocks == 3; }));
  ASSERT_FALSE(RunFor(milliseconds(100)));
  std::promise<void> gate;
  const std::shared_future<void> opened = gate.get_future().share();
  std::optional<Status> held[2];
  Start(HoldWorker(opened), &held[0]);
  Start(HoldWorker(opened), &held[1]);
  EXPECT_TRUE(RunUntil([this] { return cpu_.pending() == 2; }));
  for (std::uint64_t number = 0; number < 2; ++number) {
    EXPECT_TRUE(
        RunToEnd(run_->feed->Next(0, number, Clock::now() + milliseconds(5'000))).has_value());
  }
  EXPECT_TRUE(RunUntil([this] { return cpu_.pending() == 3; }));
  std::optional<bool> cancelled;
  Start(CancelTasks(), &cancelled);
  EXPECT_FALSE(RunFor(milliseconds(50)));
  gate.set_value();
  EXPECT_TRUE(RunUntil([&] {
    // Everything that writes to this test's own variables, not the stripe alone.
    return run_->Ended() && held[0].has_value() && held[1].has_value() && cancelled.has_value();
  }));
  EXPECT_EQ(MadeError(), Errc::kCancelled);
}

TEST_F(ProtectStripeTest, UrgentTrafficGoesFirstButNeverStopsIt) {
  TrafficPriority priority;
  options_.pacing.priority = &priority;
  options_.pacing.longest_pause = milliseconds(60);
  options_.windows_in_flight = 1;
  MakeStripe(2, 1, 4 * kMiB);
  const auto began = Clock::now();
  {
    const auto urgent = priority.Enter();
    RunStripe();
  }
  EXPECT_TRUE(run_->made->has_value());
  EXPECT_GE(Clock::now() - began, milliseconds(240));
  EXPECT_EQ(priority.urgent(), 0U);
  run_ = Prepare(*group_, 0, options_);
  const auto again = Clock::now();
  RunStripe();
  EXPECT_LT(Clock::now() - again, milliseconds(200));
}

TEST_F(ProtectStripeTest, ABudgetSlowsItDownToItsRateAndNeverFailsIt) {
  BandwidthBudget budget(40 * kMiB);  // of which a quarter is there at once
  options_.pacing.budget = &budget;
  options_.read_limit = milliseconds(200);
  MakeStripe(3, 1, 10 * kMiB);
  const auto began = Clock::now();
  RunStripe();
  EXPECT_TRUE(run_->made->has_value()) << run_->made->error().ToString();
  // 30 MiB, of which the first 10 were there, and the last window was not waited for.
  EXPECT_GE(Clock::now() - began, milliseconds(400));
}

TEST_F(ProtectStripeTest, WhatDoesNotFitTheGroupIsRefusedAndTheOwnersHearOfIt) {
  MakeStripe(2, 2, 2 * kMiB);
  run_->rows[0].bytes.pop_back();
  RunStripe();
  EXPECT_EQ(MadeError(), Errc::kInvalidArgument);
  EXPECT_EQ(PulledError(1), Errc::kUnavailable);
}

}  // namespace
}  // namespace holdfast::daemon
