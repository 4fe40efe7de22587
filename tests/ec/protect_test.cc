// I10, all parts together: a group protects itself as docs/format/erasure_code.md says, window by
// window, loses members, and has every byte again.
#include <algorithm>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "ec/codec.h"
#include "ec/recovery.h"
#include "ec/stripe.h"
#include "tests/ec/groups.h"

namespace holdfast::ec {
namespace {

// Of no round size, so that windows end anywhere in a MiB.
constexpr ByteCount kWindow = 300'007;

// What one member has in memory.
struct Member {
  Bytes shard;
  std::map<std::uint32_t, Bytes> rows;  // by stripe

  bool operator==(const Member&) const = default;
};

class Cluster {
 public:
  Cluster(const CodeParams& code, const std::vector<ByteCount>& shards)
      : stripes_(StripesOf(code, shards)), codec_(Codec::Make(code).value()) {
    for (std::uint32_t i = 0; i < stripes_.Count(); ++i) {
      members_.push_back({.shard = RandomBytes(shards[i], i + 1), .rows = {}});
    }
  }

  [[nodiscard]] const Stripes& Layout() const { return stripes_; }

  [[nodiscard]] const std::vector<Member>& Members() const { return members_; }

  [[nodiscard]] ByteCount Moved() const { return moved_; }

  // Each first owner pulls the segments and makes the rows, the others take theirs from it.
  void Protect() {
    for (std::uint32_t s = 0; s < stripes_.Count(); ++s) {
      for (std::uint32_t row = 0; row < stripes_.Code().parity; ++row) {
        members_[stripes_.RowOwner(s, row)].rows[s].resize(stripes_.RowLength(s));
        moved_ += row > 0 ? stripes_.RowLength(s) : 0;
      }
      for (ByteCount begin = 0; begin < stripes_.RowLength(s); begin += kWindow) {
        const ByteCount length = std::min(kWindow, stripes_.RowLength(s) - begin);
        std::vector<ByteView> segments;
        std::vector<MutableByteView> rows;
        for (std::uint32_t index = 0; index < stripes_.Count(); ++index) {
          const MutableByteView window = Window(s, index, begin, length);
          if (index < stripes_.Code().data) {
            segments.emplace_back(window);
            moved_ += window.size();
          } else {
            rows.push_back(window);
          }
        }
        ASSERT_TRUE(codec_.Encode(segments, rows).has_value());
      }
    }
  }

  void Lose(std::uint32_t position) {
    std::fill(members_[position].shard.begin(), members_[position].shard.end(), std::byte{0xee});
    for (auto& [stripe, row] : members_[position].rows) {
      std::fill(row.begin(), row.end(), std::byte{0xee});
    }
  }

  // Segments first, then rows, as a replacement would.
  void Rebuild(std::uint32_t position, std::span<const Holder> holders) {
    const auto pieces = PlanShard(stripes_, position, 0, stripes_.ShardLength(position), holders);
    ASSERT_TRUE(pieces.has_value());
    for (const RebuildPiece& piece : pieces.value()) {
      Carry(piece);
    }
    for (std::uint32_t row = 0; row < stripes_.Code().parity; ++row) {
      const std::uint32_t s = (position + stripes_.Count() - row) % stripes_.Count();
      const auto piece = PlanRow(stripes_, s, row, 0, stripes_.RowLength(s), holders);
      ASSERT_TRUE(piece.has_value());
      Carry(piece.value());
    }
  }

 private:
  // What there is of [begin, begin + length) of vector "index" of stripe "s".
  MutableByteView Window(std::uint32_t s, std::uint32_t index, ByteCount begin, ByteCount length) {
    const std::uint32_t position = stripes_.PositionOf(s, index);
    Member& member = members_[position];
    if (index >= stripes_.Code().data) {
      return Cut(member.rows[s], begin, length);
    }
    const ByteCount segment = stripes_.SegmentOf(s, position) * stripes_.SegmentBytes();
    const MutableByteView rest = Cut(member.shard, segment, stripes_.SegmentBytes());
    return Cut(rest, begin, length);
  }

  static MutableByteView Cut(MutableByteView bytes, ByteCount begin, ByteCount length) {
    const auto from = std::min<std::size_t>(begin, bytes.size());
    return bytes.subspan(from, std::min<std::size_t>(length, bytes.size() - from));
  }

  void Carry(const RebuildPiece& piece) {
    const std::uint32_t wanted[] = {piece.index};
    const Decoder decoder = codec_.MakeDecoder(piece.SourceIndices(), wanted).value();
    for (ByteCount begin = 0; begin < piece.length; begin += kWindow) {
      const ByteCount length = std::min(kWindow, piece.length - begin);
      std::vector<ByteView> sources;
      for (const SourceRange& source : piece.sources) {
        Member& member = members_[source.position];
        const MutableByteView whole = source.index < stripes_.Code().data
                                          ? MutableByteView(member.shard)
                                          : MutableByteView(member.rows[piece.stripe]);
        sources.emplace_back(Cut(Cut(whole, source.offset, source.length), begin, length));
      }
      const MutableByteView to[] = {Window(piece.stripe, piece.index, piece.begin + begin, length)};
      ASSERT_EQ(to[0].size(), length);
      ASSERT_TRUE(decoder.Decode(sources, to).has_value());
    }
  }

  Stripes stripes_;
  Codec codec_;
  std::vector<Member> members_;
  ByteCount moved_ = 0;
};

void ExpectSurvives(const CodeParams& code,
                    const std::vector<ByteCount>& shards,
                    const std::vector<std::uint32_t>& lost) {
  Cluster cluster(code, shards);
  cluster.Protect();
  ByteCount planned = 0;
  for (std::uint32_t i = 0; i < cluster.Layout().Count(); ++i) {
    planned += cluster.Layout().ProtectBytesIn(i);
  }
  EXPECT_EQ(cluster.Moved(), planned);
  const std::vector<Member> before = cluster.Members();
  for (const std::uint32_t position : lost) {
    cluster.Lose(position);
  }
  const auto holders = HoldersWithout(code.Members(), lost);
  for (const std::uint32_t position : lost) {
    cluster.Rebuild(position, holders);
  }
  EXPECT_EQ(cluster.Members(), before);
}

TEST(ProtectTest, AGroupOfEqualShardsLosesTwo) {
  ExpectSurvives({.data = 3, .parity = 2}, std::vector<ByteCount>(5, 4 * kMiB + 77), {1, 2});
}

TEST(ProtectTest, AGroupOfUnequalShardsLosesTwo) {
  ExpectSurvives(
      {.data = 3, .parity = 2}, {5 * kMiB - 3, kMiB / 2, 0, 2 * kMiB, 2 * kMiB - 1}, {0, 4});
}

TEST(ProtectTest, MirrorsLoseOne) {
  ExpectSurvives({.data = 1, .parity = 1}, {3 * kMiB + 1, 700'000}, {0});
}

TEST(ProtectTest, AGroupWithOneRowLosesOne) {
  ExpectSurvives({.data = 4, .parity = 1}, {6 * kMiB, 6 * kMiB, 1, 6 * kMiB - 1, kMiB}, {3});
}

}  // namespace
}  // namespace holdfast::ec
