// The places of segments and rows are what stripe.h draws and promises, for every group of 2 to 16.
#include "ec/stripe.h"

#include <string>

#include <gtest/gtest.h>

#include "tests/ec/groups.h"

namespace holdfast::ec {
namespace {

// Calls "check" with every code of 2 to 16 members and up to 4 rows.
template <class Check>
void ForEachCode(const Check& check) {
  for (std::uint32_t n = 2; n <= 16; ++n) {
    for (std::uint32_t m = 1; m <= 4 && m < n; ++m) {
      SCOPED_TRACE(std::to_string(n - m) + "+" + std::to_string(m));
      check(CodeParams{.data = n - m, .parity = m});
      if (::testing::Test::HasFatalFailure()) {
        return;
      }
    }
  }
}

TEST(StripeTest, TheHeaderDrawsWhatIsSo) {
  const Stripes stripes = StripesOf({.data = 3, .parity = 2}, std::vector<ByteCount>(5, 1));
  const char* drawing[] = {"PQ000", "0PQ11", "10PQ2", "211PQ", "Q222P"};
  for (std::uint32_t s = 0; s < 5; ++s) {
    for (std::uint32_t position = 0; position < 5; ++position) {
      const std::uint32_t index = stripes.IndexAt(s, position);
      const char drawn =
          index >= 3 ? "PQ"[index - 3] : static_cast<char>('0' + stripes.SegmentOf(s, position));
      EXPECT_EQ(drawn, drawing[s][position]) << s << " " << position;
    }
  }
}

// I10: a node that is lost takes exactly one vector of each stripe with it.
TEST(StripeTest, EachPositionHoldsOneVectorOfEachStripe) {
  ForEachCode([](const CodeParams& code) {
    const std::uint32_t n = code.Members();
    const Stripes stripes = StripesOf(code, std::vector<ByteCount>(n, 1));
    for (std::uint32_t s = 0; s < n; ++s) {
      std::vector<bool> seen(n);
      std::uint32_t last_column = 0;
      for (std::uint32_t position = 0; position < n; ++position) {
        const std::uint32_t index = stripes.IndexAt(s, position);
        ASSERT_LT(index, n);
        ASSERT_FALSE(seen[index]);
        seen[index] = true;
        ASSERT_EQ(stripes.PositionOf(s, index), position);
        if (index < code.data) {
          ASSERT_GE(index, last_column);  // columns by rising position
          last_column = index;
        }
      }
      for (std::uint32_t row = 0; row < code.parity; ++row) {
        ASSERT_EQ(stripes.RowOwner(s, row), (s + row) % n);
        ASSERT_EQ(stripes.IndexAt(s, (s + row) % n), code.data + row);
      }
      ASSERT_EQ(stripes.FirstOwner(s), s);
    }
  });
}

TEST(StripeTest, EachShardGivesItsSegmentsToRisingStripes) {
  ForEachCode([](const CodeParams& code) {
    const std::uint32_t n = code.Members();
    const Stripes stripes = StripesOf(code, std::vector<ByteCount>(n, 1));
    for (std::uint32_t position = 0; position < n; ++position) {
      std::uint32_t next = 0;
      std::uint32_t rows = 0;
      for (std::uint32_t s = 0; s < n; ++s) {
        if (stripes.IndexAt(s, position) >= code.data) {
          ++rows;
          continue;
        }
        ASSERT_EQ(stripes.SegmentOf(s, position), next);
        ASSERT_EQ(stripes.StripeOf(position, next), s);
        ++next;
      }
      ASSERT_EQ(next, code.data);    // exactly k segments
      ASSERT_EQ(rows, code.parity);  // parity is spread evenly
    }
  });
}

TEST(StripeTest, SegmentsCoverTheShardAndRowsAreAsLongAsTheLongest) {
  ForEachCode([](const CodeParams& code) {
    const std::uint32_t n = code.Members();
    for (std::uint32_t turn = 0; turn < 4; ++turn) {
      const auto shards = UnequalShards(n, code.data, turn);
      const Stripes stripes = StripesOf(code, shards);
      std::vector<ByteCount> longest(n, 0);
      for (std::uint32_t position = 0; position < n; ++position) {
        ByteCount sum = 0;
        for (std::uint32_t t = 0; t < code.data; ++t) {
          const ByteCount length = stripes.SegmentLength(position, t);
          const std::uint32_t s = stripes.StripeOf(position, t);
          ASSERT_EQ(stripes.VectorLength(s, stripes.IndexAt(s, position)), length);
          longest[s] = std::max(longest[s], length);
          sum += length;
        }
        ASSERT_EQ(sum, shards[position]);
      }
      for (std::uint32_t s = 0; s < n; ++s) {
        ASSERT_EQ(stripes.RowLength(s), longest[s]);
        ASSERT_EQ(stripes.VectorLength(s, code.data), longest[s]);
      }
    }
  });
}

TEST(StripeTest, TrafficAndMemoryAreWhatTheDesignSays) {
  ForEachCode([](const CodeParams& code) {
    const std::uint32_t n = code.Members();
    const std::uint32_t k = code.data;
    const std::uint32_t m = code.parity;
    const Stripes full = StripesOf(code, std::vector<ByteCount>(n, k * kMiB));
    for (std::uint32_t position = 0; position < n; ++position) {
      ASSERT_EQ(full.ParityBytes(position), m * kMiB);
      ASSERT_EQ(full.ProtectBytesIn(position), (k + m - 1) * kMiB);  // (k + m - 1) / k * S
      ASSERT_EQ(full.ProtectBytesOut(position), (k + m - 1) * kMiB);
    }
    const Stripes uneven = StripesOf(code, UnequalShards(n, k, 3));
    ByteCount in = 0;
    ByteCount out = 0;
    for (std::uint32_t position = 0; position < n; ++position) {
      ASSERT_LE(uneven.ParityBytes(position), m * uneven.SegmentBytes());
      ASSERT_LE(uneven.ProtectBytesIn(position), (k + m - 1) * uneven.SegmentBytes());
      in += uneven.ProtectBytesIn(position);
      out += uneven.ProtectBytesOut(position);
    }
    ASSERT_EQ(in, out);
  });
}

TEST(StripeTest, RangesAreCutAtSegments) {
  const Stripes stripes = StripesOf({.data = 3, .parity = 2}, {9 * kMiB - 5, 0, 1, 4 * kMiB, 1});
  ASSERT_EQ(stripes.SegmentBytes(), 3 * kMiB);
  // Position 0 gives to stripes 1, 2 and 3, always as column 0.
  const auto all = stripes.MapRange(0, 0, 9 * kMiB - 5).value();
  ASSERT_EQ(all.size(), 3u);
  EXPECT_EQ(all[0], (SegmentRange{1, 0, 0, 3 * kMiB, 0}));
  EXPECT_EQ(all[1], (SegmentRange{2, 0, 0, 3 * kMiB, 3 * kMiB}));
  EXPECT_EQ(all[2], (SegmentRange{3, 0, 0, 3 * kMiB - 5, 6 * kMiB}));
  const auto across = stripes.MapRange(0, 3 * kMiB - 1, 2).value();
  ASSERT_EQ(across.size(), 2u);
  EXPECT_EQ(across[0], (SegmentRange{1, 0, 3 * kMiB - 1, 1, 3 * kMiB - 1}));
  EXPECT_EQ(across[1], (SegmentRange{2, 0, 0, 1, 3 * kMiB}));
  // Within a segment, across a MiB.
  const auto inside = stripes.MapRange(3, kMiB - 1, 2).value();
  ASSERT_EQ(inside.size(), 1u);
  EXPECT_EQ(inside[0], (SegmentRange{0, 1, kMiB - 1, 2, kMiB - 1}));
  EXPECT_TRUE(stripes.MapRange(0, 9 * kMiB - 5, 0).value().empty());
  EXPECT_TRUE(stripes.MapRange(1, 0, 0).value().empty());
}

TEST(StripeTest, RangesOutsideAShardAreRefused) {
  const Stripes stripes = StripesOf({.data = 3, .parity = 2}, {9 * kMiB, 0, 1, 1, 1});
  const ByteCount most = ~ByteCount{0};
  const std::tuple<std::uint32_t, ByteCount, ByteCount> bad[] = {{0, 0, 9 * kMiB + 1},
                                                                 {0, 9 * kMiB, 1},
                                                                 {0, 9 * kMiB + 1, 0},
                                                                 {0, most, 1},
                                                                 {0, 1, most},
                                                                 {0, most, most},
                                                                 {1, 0, 1},
                                                                 {5, 0, 0},
                                                                 {~0u, 0, 1}};
  for (const auto& [position, offset, length] : bad) {
    EXPECT_EQ(stripes.MapRange(position, offset, length).error().code, Errc::kInvalidArgument);
  }
}

TEST(StripeTest, AGroupOfEmptyShardsHasNoBytes) {
  const Stripes stripes = StripesOf({.data = 3, .parity = 2}, std::vector<ByteCount>(5, 0));
  EXPECT_EQ(stripes.SegmentBytes(), 0u);
  EXPECT_EQ(stripes.RowLength(2), 0u);
  EXPECT_EQ(stripes.ProtectBytesIn(4), 0u);
  EXPECT_TRUE(stripes.MapRange(3, 0, 0).value().empty());
}

TEST(StripeTest, AnInvalidGeometryMakesNoStripes) {
  Geometry geometry = GeometryOf({.data = 3, .parity = 2}, {1, 1, 1, 1, 1});
  geometry.segment_bytes = 0;
  EXPECT_EQ(Stripes::Make(geometry).error().code, Errc::kInvalidArgument);
}

}  // namespace
}  // namespace holdfast::ec
