// Any geometry, any ranges given to the codec, any nodes to be grouped: they are refused, or what
// follows holds.  The first byte says which of the three the rest is for.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "common/check.h"
#include "ec/codec.h"
#include "ec/geometry.h"
#include "ec/grouping.h"
#include "ec/recovery.h"
#include "ec/stripe.h"

namespace holdfast::ec {
namespace {

class Input {
 public:
  Input(const std::uint8_t* data, std::size_t size) : data_(data), size_(size) {}

  std::uint8_t Byte() {
    if (size_ == 0) {
      return 0;
    }
    --size_;
    return *data_++;
  }

  // Mostly small, sometimes any.
  std::uint64_t Number() {
    const std::uint8_t kind = Byte();
    std::uint64_t number = 0;
    for (int i = 0; i < kind % 9; ++i) {
      number = number << 8 | Byte();
    }
    return number;
  }

  std::uint32_t Small() {
    const std::uint8_t byte = Byte();
    return byte == 255 ? static_cast<std::uint32_t>(Number()) : byte;
  }

 private:
  const std::uint8_t* data_;
  std::size_t size_;
};

Geometry ReadGeometry(Input& input) {
  Geometry geometry;
  geometry.version = input.Small();
  geometry.code = {.data = input.Small(), .parity = input.Small(), .matrix_id = input.Small()};
  const std::uint8_t shape = input.Byte();  // odd: members as many as there must be
  const std::size_t members =
      (shape & 1) != 0 ? (geometry.code.data + geometry.code.parity) % 80 : input.Byte();
  for (std::size_t i = 0; i < members; ++i) {
    std::string uuid(kNodeUuidBytes, static_cast<char>(i));
    if ((shape & 2) != 0) {
      uuid.resize(input.Byte() % 18, static_cast<char>(input.Byte()));
    }
    geometry.members.push_back(uuid);
    geometry.shard_bytes.push_back(input.Number());
  }
  if ((shape & 4) != 0) {
    geometry.shard_bytes.resize(input.Byte());
  }
  const bool fits = (shape & 8) != 0 && geometry.code.data > 0 &&
                    std::all_of(geometry.shard_bytes.begin(),
                                geometry.shard_bytes.end(),
                                [](ByteCount bytes) { return bytes <= kMaxShardBytes; });
  geometry.segment_bytes =
      fits ? SegmentBytes(geometry.shard_bytes, geometry.code.data) : input.Number();
  return geometry;
}

void CheckPiece(const Stripes& stripes, const RebuildPiece& piece) {
  HOLDFAST_CHECK(piece.sources.size() == stripes.Code().data);
  HOLDFAST_CHECK(piece.begin + piece.length <= stripes.VectorLength(piece.stripe, piece.index));
  const std::uint32_t wanted[] = {piece.index};
  const auto codec = Codec::Make(stripes.Code());
  HOLDFAST_CHECK(codec.has_value());
  HOLDFAST_CHECK(codec.value().MakeDecoder(piece.SourceIndices(), wanted).has_value());
  ByteCount longest = 0;
  for (const SourceRange& source : piece.sources) {
    longest = std::max(longest, source.length);
    const ByteCount end = source.index < stripes.Code().data ? stripes.ShardLength(source.position)
                                                             : stripes.RowLength(piece.stripe);
    HOLDFAST_CHECK(source.offset <= end && source.length <= end - source.offset);
  }
  HOLDFAST_CHECK(longest >= piece.length);  // else the decoder would refuse it
}

void FuzzGeometry(Input& input) {
  const Geometry geometry = ReadGeometry(input);
  const auto made = Stripes::Make(geometry);
  HOLDFAST_CHECK(made.has_value() == ValidateGeometry(geometry).has_value());
  if (!made.has_value()) {
    return;
  }
  const Stripes& stripes = made.value();
  ByteCount in = 0;
  ByteCount out = 0;
  for (std::uint32_t i = 0; i < stripes.Count(); ++i) {
    in += stripes.ProtectBytesIn(i);
    out += stripes.ProtectBytesOut(i);
    HOLDFAST_CHECK(stripes.ParityBytes(i) <= stripes.Code().parity * stripes.SegmentBytes());
  }
  HOLDFAST_CHECK(in == out);
  std::vector<Holder> holders;
  const std::size_t count = input.Byte() % (kMaxMembers + 2);
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint8_t what = input.Byte();
    holders.push_back({.position = what == 255 ? input.Small() : static_cast<std::uint32_t>(i),
                       .shard = (what & 1) == 0,
                       .parity = (what & 2) == 0});
  }
  const std::uint32_t position = input.Small();
  const ByteCount offset = input.Number();
  const ByteCount length = input.Number();
  if (const auto pieces = PlanShard(stripes, position, offset, length, holders)) {
    ByteCount next = offset;
    for (const RebuildPiece& piece : pieces.value()) {
      HOLDFAST_CHECK(piece.offset == next);
      next += piece.length;
      CheckPiece(stripes, piece);
    }
    HOLDFAST_CHECK(next == offset + length);
  }
  if (const auto piece = PlanRow(stripes, position, input.Small(), offset, length, holders)) {
    CheckPiece(stripes, piece.value());
  }
}

// Ranges of one memory, so that they overlap now and then.
MutableByteView ReadRange(Input& input, MutableByteView memory) {
  const std::size_t offset = (input.Byte() * 16u + input.Byte() % 16) % memory.size();
  return memory.subspan(offset, std::min<std::size_t>(input.Byte(), memory.size() - offset));
}

void FuzzCodec(Input& input) {
  const auto made = Codec::Make({.data = input.Small(), .parity = input.Small()});
  if (!made.has_value()) {
    return;
  }
  const Codec& codec = made.value();
  std::vector<std::byte> memory(4096, std::byte{1});
  std::vector<ByteView> segments;
  std::vector<MutableByteView> rows;
  const std::size_t segment_count = codec.Code().data + (input.Byte() == 255 ? 1 : 0);
  for (std::size_t i = 0; i < segment_count; ++i) {
    segments.emplace_back(ReadRange(input, memory));
  }
  const std::uint8_t length = input.Byte();
  for (std::uint32_t i = 0; i < codec.Code().parity; ++i) {
    rows.push_back(ReadRange(input, memory));
    rows.back() = rows.back().first(std::min<std::size_t>(rows.back().size(), length));
  }
  static_cast<void>(codec.EncodeRow(input.Small(), segments, rows[0]));
  static_cast<void>(codec.Add(input.Small(), segments[0], rows));
  if (!codec.Encode(segments, rows).has_value()) {
    return;
  }
  std::vector<std::uint32_t> sources;
  std::vector<ByteView> views;
  for (std::uint32_t i = 0; i < codec.Code().data; ++i) {
    const std::uint32_t index = input.Small();
    sources.push_back(index);
    if (index < codec.Code().Members()) {
      views.push_back(index < codec.Code().data ? segments[index]
                                                : ByteView(rows[index - codec.Code().data]));
    }
  }
  const std::uint32_t wanted[] = {input.Small()};
  const auto decoder = codec.MakeDecoder(sources, wanted);
  if (!decoder.has_value()) {
    return;
  }
  const ByteView expected = wanted[0] < codec.Code().data
                                ? segments[wanted[0]]
                                : ByteView(rows[wanted[0] - codec.Code().data]);
  std::vector<std::byte> rebuilt(expected.size());
  const MutableByteView outputs[] = {rebuilt};
  HOLDFAST_CHECK(decoder.value().Decode(views, outputs).has_value());
  HOLDFAST_CHECK(std::equal(expected.begin(), expected.end(), rebuilt.begin()));
}

void FuzzGrouping(Input& input) {
  const GroupingOptions options{.data = input.Small(), .parity = input.Small()};
  std::vector<Node> nodes(input.Byte());
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    const std::uint8_t what = input.Byte();
    nodes[i].uuid = std::string(what == 255 ? input.Byte() : kNodeUuidBytes, static_cast<char>(i));
    nodes[i].shard_bytes.assign(what % 3, input.Number());
    nodes[i].failure_domain = std::string(what % 5, 'd');
  }
  const auto groups = MakeGroups(nodes, options);
  if (!groups.has_value()) {
    return;
  }
  std::size_t members = 0;
  for (const Group& group : groups.value()) {
    members += group.members.size();
    HOLDFAST_CHECK(group.data + group.parity == group.members.size() && group.data >= 1);
    HOLDFAST_CHECK(group.members.size() <= kMaxMembers);
  }
  HOLDFAST_CHECK(members == nodes.size());
}

}  // namespace
}  // namespace holdfast::ec

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  holdfast::ec::Input input(data, size);
  switch (input.Byte() % 3) {
    case 0:
      holdfast::ec::FuzzGeometry(input);
      break;
    case 1:
      holdfast::ec::FuzzCodec(input);
      break;
    default:
      holdfast::ec::FuzzGrouping(input);
  }
  return 0;
}
