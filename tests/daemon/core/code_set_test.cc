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

std::vector<CodeHolder> Whole(const CodeSet& set) {
  std::vector<CodeHolder> holders(set.Count());
  for (std::uint32_t position = 0; position < set.Count(); ++position) {
    holders[position].shard_node = set.geometry.members[position];
    for (std::uint32_t row = 0; row < set.geometry.code.parity; ++row) {
      holders[position].rows.insert(row);
    }
  }
  return holders;
}

// I10: any m members may be lost, and never one more.
TEST(CodeSetTest, AnyLossOfMDecodesAndNoneOfMore) {
  for (std::uint32_t data = 1; data <= 5; ++data) {
    for (std::uint32_t parity = 1; parity <= 3; ++parity) {
      const CodeSet set = SetOf(data, parity);
      for (std::uint32_t lost = 1; lost < (1U << set.Count()); ++lost) {
        std::vector<CodeHolder> holders = Whole(set);
        for (std::uint32_t position = 0; position < set.Count(); ++position) {
          holders[position] = (lost >> position & 1U) != 0 ? CodeHolder() : holders[position];
        }
        const bool few = static_cast<std::uint32_t>(__builtin_popcount(lost)) <= parity;
        for (std::uint32_t position = 0; position < set.Count(); ++position) {
          if ((lost >> position & 1U) != 0) {
            EXPECT_EQ(IsDecodable(set, position, holders), few)
                << data << "+" << parity << ", lost " << lost << ", position " << position;
          }
        }
      }
    }
  }
}

TEST(CodeSetTest, ARowThatIsMissingCountsInItsStripeAlone) {
  const CodeSet set = SetOf(2, 1);
  std::vector<CodeHolder> holders = Whole(set);
  holders[0] = {};
  EXPECT_TRUE(IsDecodable(set, 0, holders));
  holders[1].rows.clear();
  EXPECT_FALSE(IsDecodable(set, 0, holders));
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

}  // namespace
}  // namespace holdfast::daemon
