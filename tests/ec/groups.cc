#include "tests/ec/groups.h"

#include <algorithm>
#include <set>

#include <gtest/gtest.h>

#include "common/mix64.h"

namespace holdfast::ec {
namespace {

constexpr ByteCount kWindow = 48;  // compared at each end

}  // namespace

std::string Uuid(std::uint64_t number) {
  std::string uuid(kNodeUuidBytes, '\0');
  StoreLe64(uuid.data(), Mix64(number));
  StoreLe64(uuid.data() + 8, number);
  return uuid;
}

Geometry GeometryOf(const CodeParams& code, const std::vector<ByteCount>& shard_bytes) {
  std::vector<std::string> members;
  for (std::uint32_t i = 0; i < code.Members(); ++i) {
    members.push_back(Uuid(i));
  }
  return MakeGeometry(1, members, code, shard_bytes).value();
}

Stripes StripesOf(const CodeParams& code, const std::vector<ByteCount>& shard_bytes) {
  return Stripes::Make(GeometryOf(code, shard_bytes)).value();
}

std::vector<ByteCount> UnequalShards(std::uint32_t n, std::uint32_t k, std::uint32_t turn) {
  // L is 2 MiB: the longest shard has k segments of it, the last one short of 5 bytes.
  const ByteCount segment = 2 * kMiB;
  const ByteCount longest = k * segment - 5;
  const std::vector<ByteCount> kinds = {
      longest, 0, segment, longest / 10, 1, segment - 1, longest - 4096, segment + 1};
  std::vector<ByteCount> shards;
  for (std::uint32_t i = 0; i < n; ++i) {
    shards.push_back(std::min(longest, kinds[(i + turn) % kinds.size()]));
  }
  shards[turn % n] = longest;
  return shards;
}

std::vector<Holder> HoldersWithout(std::uint32_t n, std::span<const std::uint32_t> lost) {
  std::vector<Holder> holders;
  for (const std::uint32_t position : Others(n, lost)) {
    holders.push_back({.position = position});
  }
  return holders;
}

GroupBytes::GroupBytes(const Stripes& stripes)
    : stripes_(stripes), codec_(Codec::Make(stripes.Code()).value()) {}

Bytes GroupBytes::ShardBytes(std::uint32_t position, ByteCount offset, ByteCount length) const {
  Bytes bytes(length);
  for (ByteCount i = 0; i < length; ++i) {
    bytes[i] = static_cast<std::byte>(Mix64((std::uint64_t{position} << 48) + offset + i));
  }
  return bytes;
}

Bytes GroupBytes::Window(std::uint32_t stripe,
                         std::uint32_t index,
                         ByteCount begin,
                         ByteCount length) const {
  const ByteCount end = stripes_.VectorLength(stripe, index);
  const ByteCount there = std::min(end - std::min(end, begin), length);
  if (index < stripes_.Code().data) {
    const std::uint32_t position = stripes_.PositionOf(stripe, index);
    const std::uint32_t segment = stripes_.SegmentOf(stripe, position);
    return ShardBytes(position, segment * stripes_.SegmentBytes() + begin, there);
  }
  std::vector<Bytes> segments;
  for (std::uint32_t column = 0; column < stripes_.Code().data; ++column) {
    segments.push_back(Window(stripe, column, begin, there));
  }
  return SlowRow(index - stripes_.Code().data, segments);
}

void GroupBytes::ExpectSources(const RebuildPiece& piece, std::span<const Holder> holders) const {
  const std::uint32_t k = stripes_.Code().data;
  ASSERT_EQ(piece.sources.size(), k);
  std::set<std::uint32_t> indices = {piece.index};
  for (const SourceRange& source : piece.sources) {
    ASSERT_TRUE(indices.insert(source.index).second);
    ASSERT_EQ(source.position, stripes_.PositionOf(piece.stripe, source.index));
    const ByteCount end = stripes_.VectorLength(piece.stripe, source.index);
    ASSERT_EQ(source.length, std::min(end - std::min(end, piece.begin), piece.length));
    if (source.length == 0) {
      continue;  // zeros: nobody has to hold them
    }
    const auto holds = [&](const Holder& holder) {
      return holder.position == source.position &&
             (source.index < k ? holder.shard : holder.parity);
    };
    ASSERT_TRUE(std::any_of(holders.begin(), holders.end(), holds));
    if (source.index < k) {
      const auto back = stripes_.MapRange(source.position, source.offset, source.length).value();
      ASSERT_EQ(back.size(), 1u);
      ASSERT_EQ(back[0].stripe, piece.stripe);
      ASSERT_EQ(back[0].begin, piece.begin);
    } else {
      ASSERT_EQ(source.offset, piece.begin);
    }
  }
}

void GroupBytes::ExpectWindow(const RebuildPiece& piece,
                              const Decoder& decoder,
                              ByteCount begin,
                              ByteCount length) const {
  std::vector<Bytes> read;
  for (const std::uint32_t index : decoder.Sources()) {
    read.push_back(Window(piece.stripe, index, begin, length));
  }
  std::vector<Bytes> rebuilt = {Bytes(length)};
  ASSERT_TRUE(decoder.Decode(Views(read), MutableViews(rebuilt)).has_value());
  ASSERT_EQ(rebuilt[0], Window(piece.stripe, piece.index, begin, length))
      << "stripe " << piece.stripe << " index " << piece.index << " at " << begin;
}

void GroupBytes::ExpectRebuilds(const RebuildPiece& piece, std::span<const Holder> holders) const {
  ExpectSources(piece, holders);
  if (::testing::Test::HasFatalFailure()) {
    return;
  }
  const std::uint32_t wanted[] = {piece.index};
  const auto decoder = codec_.MakeDecoder(piece.SourceIndices(), wanted);
  ASSERT_TRUE(decoder.has_value());
  std::set<ByteCount> places = {0, piece.length - std::min(piece.length, kWindow)};
  for (const SourceRange& source : piece.sources) {
    if (source.length > 0 && source.length < piece.length) {
      places.insert(source.length - std::min(source.length, kWindow / 2));
    }
  }
  for (const ByteCount place : places) {
    const ByteCount length = std::min(kWindow, piece.length - place);
    ExpectWindow(piece, decoder.value(), piece.begin + place, length);
  }
}

}  // namespace holdfast::ec
