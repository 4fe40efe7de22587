// A lost shard as a source: ranges of it decoded from sources that hang, fail and lie.

#include "daemon/pipeline/rebuild_reader.h"

#include <gmock/gmock.h>

#include "common/crc32c.h"
#include "tests/daemon/pipeline/rebuild_fixture.h"
#include "tests/support/bulk_bytes.h"

namespace holdfast::daemon {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::HasSubstr;
using Clock = std::chrono::steady_clock;

using RebuildReaderTest = RebuildTest;

// I5: with a spare source the good ones are taken, window by window.
TEST_F(RebuildReaderTest, FlippedBitsOfDifferentSourcesAreNeverDecoded) {
  const ec::Stripes& stripes = group_->group->stripes;
  const std::uint32_t stripe = stripes.StripeOf(kLost, 0);
  // Of the four vectors that are left of the stripe, each has one bad chunk, none the same one, but
  // for the last, which is whole.
  std::uint32_t chunk = 0;
  for (std::uint32_t position = 0; position < 5 && chunk < 3; ++position) {
    if (position == kLost) {
      continue;
    }
    const std::uint32_t index = stripes.IndexAt(stripe, position);
    const ByteCount at = chunk++ * kMiB + 9;
    if (index < 3) {
      const ByteCount start = stripes.SegmentOf(stripe, position) * stripes.SegmentBytes();
      group_->images[position][start + at] ^= std::byte{1};
    } else {
      group_->rows[stripe][index - 3].bytes[at] ^= std::byte{1};
    }
  }
  const auto reader = LostShard(kReplacement);
  const Status read = Read(reader.get());
  ASSERT_TRUE(read.has_value()) << read.error().ToString();
  EXPECT_TRUE(SameBytes(into_, group_->images[kLost]));
}

TEST_F(RebuildReaderTest, AFlippedBitWithoutASpareSourceIsAnErrorThatNamesIt) {
  // Positions 1 and 4 are lost, so all that is left is needed; position 2 gives a segment to one of
  // the stripes of position 1.
  const ec::Stripes& stripes = group_->group->stripes;
  std::uint32_t stripe = stripes.StripeOf(kLost, 0);
  for (std::uint32_t segment = 1; stripes.IndexAt(stripe, 2) >= 3; ++segment) {
    stripe = stripes.StripeOf(kLost, segment);
  }
  const ByteCount chunk = stripes.SegmentOf(stripe, 2) * 3 + 1;
  group_->images[2][chunk * kMiB + 5] ^= std::byte{1};
  const auto reader = LostShard(kReplacement, {kLost, 4});
  const Status read = Read(reader.get());
  ASSERT_FALSE(read.has_value());
  EXPECT_EQ(read.error().code, Errc::kUnavailable);
  EXPECT_THAT(read.error().message, HasSubstr("rank 2: chunk " + std::to_string(chunk)));
}

// A decoder that gets its coefficients wrong, or sources whose digests were recorded of bad bytes.
TEST_F(RebuildReaderTest, WhatWasDecodedIsComparedWithTheSidecar) {
  const ec::Stripes& stripes = group_->group->stripes;
  const std::uint32_t stripe = stripes.StripeOf(kLost, 2);
  // Of the two rows the one whose owner is left, if both are, either: all that is left is needed.
  StoredRow& row = group_->rows[stripe][stripes.RowOwner(stripe, 0) == 4 ? 1 : 0];
  row.bytes[kMiB + 1] ^= std::byte{1};
  row.crc32c = ChunkDigests(row.bytes);
  const auto reader = LostShard(kReplacement, {kLost, 4});
  std::vector<std::uint64_t> bad;
  ShardReadOptions options;
  options.deadline = Clock::now() + seconds(30);
  const Status read = RunToEnd(reader->ReadRange(0, into_, options, &bad));
  ASSERT_FALSE(read.has_value());
  EXPECT_EQ(read.error().code, Errc::kCorruption);
  EXPECT_EQ(bad, std::vector<std::uint64_t>{7});
}

TEST_F(RebuildReaderTest, ASourceThatHangsCostsItsLimitOnceAndNotForEachWindow) {
  rebuild_.source_limit = milliseconds(300);
  rebuild_.windows_in_flight = 1;
  const auto reader = LostShard(kReplacement);
  readers_.at({kReplacement, 0})->faults = Hang();
  // Window by window, as shares are fed and segments decoded.
  for (ByteCount at = 0; at < into_.size(); at += kMiB) {
    const MutableByteView window =
        MutableByteView(into_).subspan(at, std::min<ByteCount>(kMiB, into_.size() - at));
    ShardReadOptions options;
    options.deadline = Clock::now() + seconds(30);
    const Status read = RunToEnd(reader->ReadRange(at, window, options));
    ASSERT_TRUE(read.has_value()) << read.error().ToString();
  }
  EXPECT_TRUE(SameBytes(into_, group_->images[kLost]));
  EXPECT_EQ((readers_.at({kReplacement, 0})->blocks), 1U);
}

// Restore uses any k of the sources, and a slow one costs what makes it stand out.
TEST_F(RebuildReaderTest, ASlowSourceIsOutrunByAnotherAndAskedLastFromThenOn) {
  rebuild_.hedge.least = milliseconds(30);
  rebuild_.windows_in_flight = 1;
  const auto reader = LostShard(kReplacement);
  FaultRangeReader& slow = *readers_.at({kReplacement, 0});
  slow.faults = Slow(seconds(5));
  const auto began = Clock::now();
  const Status read = Read(reader.get());
  ASSERT_TRUE(read.has_value()) << read.error().ToString();
  EXPECT_TRUE(SameBytes(into_, group_->images[kLost]));
  EXPECT_EQ(slow.blocks, 1U);
  EXPECT_LT(Clock::now() - began, seconds(5));
}

// A node that answers late is not lost, also where one that was counted on fails.
TEST_F(RebuildReaderTest, WhereMoreMayComeTooFewSourcesAreWaitedFor) {
  for (const bool comes : {true, false}) {
    std::fill(into_.begin(), into_.end(), kCanary);
    auto sources = std::make_shared<GroupSources>(*Sources(*group_, {kLost, 0, 4}, kReplacement));
    sources->open = true;
    const auto reader =
        RebuildReader::Make(&cpu_, group_->digests[kLost], group_->group, kLost, sources, rebuild_)
            .value();
    ShardReadOptions options;
    options.deadline = Clock::now() + seconds(30);
    std::optional<Status> read;
    Start(reader->ReadRange(0, into_, options), &read);
    (void)RunUntil([until = Clock::now() + milliseconds(150)] { return Clock::now() > until; });
    ASSERT_FALSE(read.has_value());
    if (comes) {
      const auto all = Sources(*group_, {kLost, 4}, kReplacement);
      sources->shards[0] = all->shards[0];
      for (std::uint32_t stripe = 0; stripe < 5; ++stripe) {
        for (std::uint32_t row = 0; row < 2; ++row) {
          auto& reader_of_row = sources->rows[stripe][row];
          reader_of_row = reader_of_row == nullptr ? all->rows[stripe][row] : reader_of_row;
        }
      }
    } else {
      sources->open = false;
    }
    ASSERT_TRUE(RunUntil([&] { return read.has_value(); }));
    EXPECT_EQ(read->has_value(), comes);
    EXPECT_EQ(SameBytes(into_, group_->images[kLost]), comes);
    EXPECT_TRUE(comes || read->error().code == Errc::kUnavailable) << read->error().ToString();
  }
}

TEST_F(RebuildReaderTest, ASlowSourceThatIsNeededIsWaitedFor) {
  rebuild_.hedge.least = milliseconds(10);
  const auto reader = LostShard(kReplacement, {kLost, 4});
  readers_.at({kReplacement, 0})->faults = Slow(milliseconds(200));
  const Status read = Read(reader.get());
  ASSERT_TRUE(read.has_value()) << read.error().ToString();
  EXPECT_TRUE(SameBytes(into_, group_->images[kLost]));
}

// A network that is slow for all is asked for more only after a long silence.
TEST_F(RebuildReaderTest, WhereAllAreSlowNothingIsReadTwiceSoon) {
  for (const bool hedged : {false, true}) {
    readers_.clear();
    row_readers_.clear();
    rebuild_.hedge.silence = milliseconds(hedged ? 40 : 1'000);
    const auto reader = LostShard(kReplacement);
    for (const auto& [who, source] : readers_) {
      source->faults = Slow(milliseconds(150));
    }
    for (const auto& [which, source] : row_readers_) {
      source->faults = Slow(milliseconds(150));
    }
    std::vector<std::byte> range(kMiB);
    ShardReadOptions options;
    options.deadline = Clock::now() + seconds(30);
    ASSERT_TRUE(RunToEnd(reader->ReadRange(4 * kMiB, range, options)).has_value());
    std::size_t begun = 0;
    for (const auto& [who, source] : readers_) {
      begun += source->blocks;
    }
    for (const auto& [which, source] : row_readers_) {
      begun += source->blocks;
    }
    EXPECT_EQ(begun, hedged ? 4U : 3U);
  }
}

TEST_F(RebuildReaderTest, TheDeadlineEndsItWhateverIsLeftToTry) {
  const auto reader = LostShard(kReplacement);
  for (const auto& [who, source] : readers_) {
    source->faults = Hang();
  }
  ShardReadOptions options;
  options.deadline = Clock::now() + milliseconds(60);
  const Status read = RunToEnd(reader->ReadRange(0, into_, options));
  ASSERT_FALSE(read.has_value());
  EXPECT_EQ(read.error().code, Errc::kTimeout);
}

// Only the range that is asked for is read and decoded.
TEST_F(RebuildReaderTest, ARangeOfALostShardReadsKTimesThatRange) {
  const auto reader = LostShard(kReplacement);
  std::vector<std::byte> range(kMiB);
  ShardReadOptions options;
  options.deadline = Clock::now() + seconds(30);
  ASSERT_TRUE(RunToEnd(reader->ReadRange(4 * kMiB, range, options)).has_value());
  EXPECT_TRUE(std::equal(range.begin(), range.end(), group_->images[kLost].begin() + 4 * kMiB));
  ByteCount rows = 0;
  for (const auto& [which, source] : row_readers_) {
    rows += source->bytes_read;
  }
  EXPECT_EQ(BytesReadBy(kReplacement) + rows, 3 * kMiB);
}

// I9.
TEST_F(RebuildReaderTest, ReadsInFlightAreBounded) {
  rebuild_.windows_in_flight = 2;
  const auto reader = LostShard(kReplacement);
  for (const auto& [who, source] : readers_) {
    source->faults = [](ByteCount, ByteCount) {
      FaultRangeReader::Fault fault;
      fault.delay = milliseconds(3);
      return fault;
    };
  }
  ASSERT_TRUE(Read(reader.get()).has_value());
  for (const auto& [who, source] : readers_) {
    EXPECT_LE(source->most, 2U);
  }
}

}  // namespace
}  // namespace holdfast::daemon
