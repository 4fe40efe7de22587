#include "ec/geometry.h"

#include <algorithm>
#include <set>
#include <string_view>
#include <utility>

namespace holdfast::ec {
namespace {

Error Invalid(const std::string& message) {
  return {Errc::kInvalidArgument, "geometry: " + message};
}

Status CheckMembers(const Geometry& geometry) {
  if (geometry.members.size() != geometry.code.Members()) {
    return Invalid(std::to_string(geometry.members.size()) + " members for a code of " +
                   std::to_string(geometry.code.data) + "+" + std::to_string(geometry.code.parity));
  }
  std::set<std::string_view> seen;
  for (std::size_t i = 0; i < geometry.members.size(); ++i) {
    if (geometry.members[i].size() != kNodeUuidBytes) {
      return Invalid("member " + std::to_string(i) + " has a uuid of " +
                     std::to_string(geometry.members[i].size()) + " bytes in place of 16");
    }
    if (!seen.insert(geometry.members[i]).second) {
      return Invalid("member " + std::to_string(i) + " is in it twice");
    }
  }
  return Ok();
}

Status CheckShards(const Geometry& geometry) {
  if (geometry.shard_bytes.size() != geometry.members.size()) {
    return Invalid(std::to_string(geometry.shard_bytes.size()) + " shard lengths for " +
                   std::to_string(geometry.members.size()) + " members");
  }
  for (std::size_t i = 0; i < geometry.shard_bytes.size(); ++i) {
    if (geometry.shard_bytes[i] > kMaxShardBytes) {
      return Invalid("shard " + std::to_string(i) + " has " +
                     std::to_string(geometry.shard_bytes[i]) + " bytes; " +
                     std::to_string(kMaxShardBytes) + " is the most");
    }
  }
  return Ok();
}

}  // namespace

ByteCount SegmentBytes(std::span<const ByteCount> shard_bytes, std::uint32_t k) {
  const auto longest = std::max_element(shard_bytes.begin(), shard_bytes.end());
  return longest == shard_bytes.end() ? 0 : AlignUp((*longest + k - 1) / k, kSegmentAlignment);
}

Status ValidateGeometry(const Geometry& geometry) {
  if (geometry.version == 0) {
    return Invalid("version 0: they begin with 1");
  }
  HF_TRYV(ValidateCode(geometry.code));
  HF_TRYV(CheckMembers(geometry));
  HF_TRYV(CheckShards(geometry));
  const ByteCount expected = SegmentBytes(geometry.shard_bytes, geometry.code.data);
  if (geometry.segment_bytes != expected) {
    return Invalid("segments of " + std::to_string(geometry.segment_bytes) +
                   " bytes, though its shards make them " + std::to_string(expected));
  }
  return Ok();
}

Result<Geometry> MakeGeometry(std::uint32_t version,
                              std::vector<std::string> members,
                              const CodeParams& code,
                              std::vector<ByteCount> shard_bytes) {
  Geometry geometry{.version = version,
                    .members = std::move(members),
                    .code = code,
                    .segment_bytes = 0,
                    .shard_bytes = std::move(shard_bytes)};
  HF_TRYV(ValidateCode(geometry.code));
  HF_TRYV(CheckShards(geometry));
  geometry.segment_bytes = SegmentBytes(geometry.shard_bytes, geometry.code.data);
  HF_TRYV(ValidateGeometry(geometry));
  return geometry;
}

}  // namespace holdfast::ec
