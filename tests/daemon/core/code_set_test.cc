// Code sets: which losses decode, and what of a record is believed.
#include "daemon/core/code_set.h"

#include <gtest/gtest.h>

namespace holdfast::daemon {
namespace {

constexpr std::uint64_t kMiBytes = 1 << 20;

std::string Node(std::uint32_t number) {
  return std::string(15, 'n') + static_cast<char>('a' + number);
}

CodeSet SetOf(std::uint32_t data, std::uint32_t parity) {
  CodeSet set;
  set.epoch = 1;
  std::vector<std::string> nodes;
  std::vector<ByteCount> lengths;
  for (std::uint32_t i = 0; i < data + parity; ++i) {
    nodes.push_back(Node(i));
    lengths.push_back(data * kMiBytes);  // no segment is empty
    set.ranks.push_back(i);
  }
  set.geometry = ec::MakeGeometry(1, nodes, {data, parity}, lengths).value();
  return set;
}

HeldSet Whole(const CodeSet& set) {
  HeldSet held{set, std::vector<CodeHolder>(set.Count())};
  for (std::uint32_t position = 0; position < set.Count(); ++position) {
    held.holders[position].shard_node = set.geometry.members[position];
    for (std::uint32_t row = 0; row < set.geometry.code.parity; ++row) {
      held.holders[position].rows[row] = set.Groups();
    }
  }
  return held;
}

// I10: any m members may be lost, and never one more.
TEST(CodeSetTest, AnyLossOfMDecodesAndNoneOfMore) {
  for (std::uint32_t data = 1; data <= 5; ++data) {
    for (std::uint32_t parity = 1; parity <= 3; ++parity) {
      const CodeSet set = SetOf(data, parity);
      for (std::uint32_t lost = 1; lost < (1U << set.Count()); ++lost) {
        HeldSet held = Whole(set);
        for (std::uint32_t position = 0; position < set.Count(); ++position) {
          if ((lost >> position & 1U) != 0) {
            held.holders[position] = CodeHolder();
          }
        }
        const bool few = static_cast<std::uint32_t>(__builtin_popcount(lost)) <= parity;
        for (std::uint32_t position = 0; position < set.Count(); ++position) {
          if ((lost >> position & 1U) != 0) {
            EXPECT_EQ(IsDecodable(held, position), few)
                << data << "+" << parity << ", lost " << lost << ", position " << position;
          }
        }
      }
    }
  }
}

TEST(CodeSetTest, ARowThatIsMissingCountsInItsStripeAlone) {
  const CodeSet set = SetOf(2, 1);
  HeldSet held = Whole(set);
  held.holders[0] = {};
  EXPECT_TRUE(IsDecodable(held, 0));
  held.holders[1].rows.clear();
  EXPECT_FALSE(IsDecodable(held, 0));
}

TEST(CodeSetTest, TheSameCodeOfTwoStartsIsTheSame) {
  const CodeSet one = SetOf(2, 1);
  CodeSet other = one;
  other.epoch = 7;
  other.geometry.version = 3;
  EXPECT_TRUE(IsSameCode(one, other));
  EXPECT_FALSE(one == other);
  std::swap(other.ranks[0], other.ranks[1]);
  EXPECT_FALSE(IsSameCode(one, other));
}

TEST(CodeSetTest, ARecordComesBackAndABadOneDoesNot) {
  const CodeSet set = SetOf(3, 2);
  EXPECT_TRUE(FromProto(ToProto(set)).value() == set);
  std::vector<proto::CodeSetRecord> bad(5, ToProto(set));
  bad[0].set_data_shards(9);
  bad[1].set_segment_bytes(5);
  bad[2].set_node_uuids(1, bad[2].node_uuids(0));
  bad[3].add_ranks(9);
  bad[4].set_epoch_number(0);
  for (std::size_t i = 0; i < bad.size(); ++i) {
    EXPECT_FALSE(FromProto(bad[i]).has_value()) << i;
  }
}

CodeSet WithStatics() {
  CodeSet set = SetOf(2, 2);
  set.static_bytes = {5 * kMiBytes, 0, 3 * kMiBytes, kMiBytes};
  return set;
}

// I10: static images are of other lengths than what changes with each snapshot, and of fewer
// shards.
TEST(CodeSetTest, StaticImagesHaveASetOfTheSameNodesAndRanks) {
  const CodeSet dynamic = WithStatics();
  const CodeSet set = StaticSetOf(dynamic).value();
  EXPECT_EQ(set.kind, proto::STATIC);
  EXPECT_EQ(set.geometry.members, dynamic.geometry.members);
  EXPECT_EQ(set.geometry.shard_bytes, dynamic.static_bytes);
  EXPECT_EQ(set.geometry.segment_bytes, 3 * kMiBytes);
  EXPECT_EQ(set.PositionOfRank(2), 2U);
  EXPECT_FALSE(set.PositionOfRank(1).has_value());
  EXPECT_TRUE(dynamic.SharesStatic(0));
  EXPECT_FALSE(dynamic.SharesStatic(1));
  EXPECT_FALSE(StaticSetOf(set).has_value());
  EXPECT_FALSE(StaticSetOf(SetOf(2, 2)).has_value());
}

// Rows of one kind of image must never count as those of another.
TEST(CodeSetTest, SetsOfTheSameShardsAndOtherImagesAreNotTheSame) {
  CodeSet one = SetOf(2, 1);
  one.static_bytes = one.geometry.shard_bytes;
  CodeSet statics = StaticSetOf(one).value();
  EXPECT_EQ(statics.geometry, one.geometry);
  CodeSet without = one;
  without.static_bytes.clear();
  EXPECT_FALSE(IsSameCode(without, statics));
  EXPECT_FALSE(IsSameCode(without, one));
}

TEST(CodeSetTest, ARecordWithStaticImagesComesBackAndABadOneDoesNot) {
  const CodeSet set = WithStatics();
  EXPECT_TRUE(FromProto(ToProto(set)).value() == set);
  EXPECT_TRUE(FromProto(ToProto(*StaticSetOf(set))).value() == *StaticSetOf(set));
  std::vector<proto::CodeSetRecord> bad(4, ToProto(set));
  bad[0].set_kind(static_cast<proto::ImageKind>(7));
  bad[1].add_static_bytes(1);
  bad[2].set_kind(proto::STATIC);
  bad[3].set_static_bytes(0, ~std::uint64_t{0});
  for (std::size_t i = 0; i < bad.size(); ++i) {
    EXPECT_FALSE(FromProto(bad[i]).has_value()) << i;
  }
}

}  // namespace
}  // namespace holdfast::daemon
