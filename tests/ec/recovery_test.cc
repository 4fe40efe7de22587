// I10: what is lost with up to m members comes back bit for bit, by the reads that were planned.
#include "ec/recovery.h"

#include <random>
#include <string>

#include <gtest/gtest.h>

#include "tests/ec/groups.h"

namespace holdfast::ec {
namespace {

// Plans and carries out the rebuild of every shard and row of every lost position.
void ExpectAllComesBack(const Stripes& stripes, std::span<const std::uint32_t> lost) {
  const GroupBytes bytes(stripes);
  const auto holders = HoldersWithout(stripes.Count(), lost);
  for (const std::uint32_t position : lost) {
    const ByteCount length = stripes.ShardLength(position);
    const auto pieces = PlanShard(stripes, position, 0, length, holders);
    ASSERT_TRUE(pieces.has_value());
    ByteCount next = 0;
    for (const RebuildPiece& piece : pieces.value()) {
      ASSERT_EQ(piece.offset, next);  // pieces cover the shard in order
      next += piece.length;
      bytes.ExpectRebuilds(piece, holders);
    }
    ASSERT_EQ(next, length);
    for (std::uint32_t row = 0; row < stripes.Code().parity; ++row) {
      const std::uint32_t stripe = (position + stripes.Count() - row) % stripes.Count();
      const auto piece = PlanRow(stripes, stripe, row, 0, stripes.RowLength(stripe), holders);
      ASSERT_TRUE(piece.has_value());
      bytes.ExpectRebuilds(piece.value(), holders);
    }
    ASSERT_FALSE(::testing::Test::HasFatalFailure()) << "position " << position;
  }
}

TEST(RecoveryTest, EveryLossOfUpToMMembersComesBack) {
  for (std::uint32_t n = 2; n <= 8; ++n) {
    for (std::uint32_t m = 1; m <= 3 && m < n; ++m) {
      const CodeParams code{.data = n - m, .parity = m};
      const Stripes stripes = StripesOf(code, UnequalShards(n, code.data, n + m));
      for (std::uint32_t count = 1; count <= m; ++count) {
        ForEachChoice(n, count, [&](const std::vector<std::uint32_t>& lost) {
          ExpectAllComesBack(stripes, lost);
        });
        ASSERT_FALSE(HasFatalFailure()) << code.data << "+" << m;
      }
    }
  }
}

TEST(RecoveryTest, RandomLossesOfLargerGroupsComeBack) {
  constexpr unsigned kSeed = 90210;
  SCOPED_TRACE("seed " + std::to_string(kSeed));
  std::mt19937 random(kSeed);
  for (int round = 0; round < 60; ++round) {
    const std::uint32_t n = 9 + random() % 8;
    const std::uint32_t m = 1 + random() % 4;
    std::vector<ByteCount> shards;
    for (std::uint32_t i = 0; i < n; ++i) {
      shards.push_back(random() % 3 == 0 ? 0 : random() % (20 * kMiB));
    }
    const Stripes stripes = StripesOf({.data = n - m, .parity = m}, shards);
    std::vector<std::uint32_t> lost = Others(n, {});
    std::shuffle(lost.begin(), lost.end(), random);
    lost.resize(1 + random() % m);
    ExpectAllComesBack(stripes, lost);
    ASSERT_FALSE(HasFatalFailure()) << "round " << round;
  }
}

TEST(RecoveryTest, OneLossTooManyIsSaidAndNotGuessed) {
  const Stripes stripes = StripesOf({.data = 3, .parity = 2}, std::vector<ByteCount>(5, 3 * kMiB));
  ForEachChoice(5, 3, [&](const std::vector<std::uint32_t>& lost) {
    const auto holders = HoldersWithout(5, lost);
    for (const std::uint32_t position : lost) {
      EXPECT_EQ(PlanShard(stripes, position, 0, 3 * kMiB, holders).error().code,
                Errc::kUnavailable);
      EXPECT_EQ(PlanRow(stripes, position, 0, 0, 1, holders).error().code, Errc::kUnavailable);
    }
  });
  EXPECT_EQ(PlanShard(stripes, 0, 0, 1, {}).error().code, Errc::kUnavailable);
}

TEST(RecoveryTest, ARangeReadsThatRangeOfItsSourcesOnly) {
  const Stripes stripes = StripesOf({.data = 3, .parity = 2}, UnequalShards(5, 3, 0));
  const GroupBytes bytes(stripes);
  const std::uint32_t lost[] = {0, 3};
  const auto holders = HoldersWithout(5, lost);
  const ByteCount segment = stripes.SegmentBytes();
  for (const ByteCount border : {kMiB, segment, 2 * segment, stripes.ShardLength(0)}) {
    for (const ByteCount before : {1, 17, 4096}) {
      const ByteCount after = border == stripes.ShardLength(0) ? 0 : before;
      const auto pieces = PlanShard(stripes, 0, border - before, before + after, holders);
      ASSERT_TRUE(pieces.has_value());
      EXPECT_EQ(pieces.value().size(), border % segment == 0 ? 2u : 1u);
      for (const RebuildPiece& piece : pieces.value()) {
        bytes.ExpectRebuilds(piece, holders);
      }
    }
  }
  EXPECT_TRUE(PlanShard(stripes, 0, 5, 0, holders).value().empty());
}

std::vector<std::uint32_t> PositionsRead(const RebuildPiece& piece) {
  std::vector<std::uint32_t> positions;
  for (const SourceRange& source : piece.sources) {
    if (source.length > 0) {
      positions.push_back(source.position);
    }
  }
  std::sort(positions.begin(), positions.end());
  return positions;
}

TEST(RecoveryTest, TheCallersOrderDecidesWhoIsRead) {
  const Stripes stripes = StripesOf({.data = 3, .parity = 2}, std::vector<ByteCount>(5, 3 * kMiB));
  using Positions = std::vector<std::uint32_t>;
  for (const auto& [order, expected] : {std::pair<Positions, Positions>{{1, 2, 3, 4}, {1, 2, 3}},
                                        {{4, 3, 2, 1}, {2, 3, 4}},
                                        {{3, 1, 4, 2}, {1, 3, 4}},
                                        {{0, 4, 2, 1}, {1, 2, 4}}}) {
    std::vector<Holder> holders;
    for (const std::uint32_t position : order) {
      holders.push_back({.position = position});
    }
    const auto pieces = PlanShard(stripes, 0, 0, 3 * kMiB, holders).value();
    ASSERT_EQ(pieces.size(), 3u);
    for (const RebuildPiece& piece : pieces) {
      EXPECT_EQ(PositionsRead(piece), expected);
    }
  }
}

TEST(RecoveryTest, AMemberWithoutItsRowsStillGivesItsShard) {
  const Stripes stripes = StripesOf({.data = 3, .parity = 2}, std::vector<ByteCount>(5, 3 * kMiB));
  const std::vector<Holder> holders = {{.position = 1, .shard = true, .parity = false},
                                       {.position = 2, .shard = false, .parity = true},
                                       {.position = 3},
                                       {.position = 4}};
  for (std::uint32_t s = 1; s <= 3; ++s) {
    const auto pieces = PlanShard(stripes, 0, (s - 1) * kMiB, kMiB, holders);
    // Positions 1 and 2 give what they have: a shard and rows.
    const bool one = stripes.IndexAt(s, 1) < 3;
    const bool two = stripes.IndexAt(s, 2) >= 3;
    ASSERT_EQ(pieces.has_value(), one || two) << s;
    if (pieces.has_value()) {
      GroupBytes(stripes).ExpectRebuilds(pieces.value()[0], holders);
    }
  }
}

TEST(RecoveryTest, WhatIsKnownToBeZeroIsNeverRead) {
  // Three of five are lost, one more than m; but shards 3 and 4 are empty.
  const Stripes stripes = StripesOf({.data = 3, .parity = 2}, {3 * kMiB, 3 * kMiB, 5, 0, 0});
  const std::uint32_t lost[] = {0, 3, 4};
  const auto holders = HoldersWithout(5, lost);
  const GroupBytes bytes(stripes);
  const auto pieces = PlanShard(stripes, 0, 0, 2 * kMiB, holders);
  ASSERT_TRUE(pieces.has_value());
  for (const RebuildPiece& piece : pieces.value()) {
    bytes.ExpectRebuilds(piece, holders);
    for (const SourceRange& source : piece.sources) {
      EXPECT_TRUE(source.length > 0 ||
                  stripes.VectorLength(piece.stripe, source.index) <= piece.begin);
    }
  }
}

TEST(RecoveryTest, WrongHoldersRowsAndRangesAreRefused) {
  const Stripes stripes = StripesOf({.data = 3, .parity = 2}, std::vector<ByteCount>(5, 3 * kMiB));
  const auto holders = HoldersWithout(5, {});
  const auto refused = [](const auto& result) {
    EXPECT_FALSE(result.has_value());
    EXPECT_EQ(result.error().code, Errc::kInvalidArgument);
  };
  refused(PlanShard(stripes, 0, 0, 1, std::vector<Holder>{{.position = 5}}));
  refused(PlanShard(stripes, 0, 0, 1, std::vector<Holder>{{.position = 1}, {.position = 1}}));
  refused(PlanShard(stripes, 5, 0, 1, holders));
  refused(PlanShard(stripes, 0, 3 * kMiB, 1, holders));
  refused(PlanShard(stripes, 0, 1, ~ByteCount{0}, holders));
  refused(PlanRow(stripes, 5, 0, 0, 1, holders));
  refused(PlanRow(stripes, 0, 2, 0, 1, holders));
  refused(PlanRow(stripes, 0, ~0u, 0, 1, holders));
  refused(PlanRow(stripes, 0, 0, kMiB, 1, holders));
  refused(PlanRow(stripes, 0, 0, 1, ~ByteCount{0}, holders));
  refused(PlanRow(stripes, 0, 0, 0, 1, std::vector<Holder>{{.position = ~0u}}));
}

}  // namespace
}  // namespace holdfast::ec
