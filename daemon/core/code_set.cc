#include "daemon/core/code_set.h"

#include <algorithm>

namespace holdfast::daemon {

std::optional<std::uint32_t> CodeSet::PositionOfNode(const std::string& uuid) const {
  const auto it = std::find(geometry.members.begin(), geometry.members.end(), uuid);
  return it == geometry.members.end()
             ? std::nullopt
             : std::optional(static_cast<std::uint32_t>(it - geometry.members.begin()));
}

std::optional<std::uint32_t> CodeSet::PositionOfRank(Rank rank) const {
  for (std::uint32_t position = 0; position < Count(); ++position) {
    if (HasShard(position) && ranks[position] == rank) {
      return position;
    }
  }
  return std::nullopt;
}

std::optional<CodeSet> StaticSetOf(const CodeSet& dynamic) {
  const ec::Geometry& geometry = dynamic.geometry;
  if (dynamic.kind != proto::DYNAMIC || dynamic.static_bytes.empty()) {
    return std::nullopt;
  }
  Result<ec::Geometry> made = ec::MakeGeometry(geometry.version,
                                               geometry.members,
                                               {geometry.code.data, geometry.code.parity},
                                               dynamic.static_bytes);
  if (!made.has_value()) {
    return std::nullopt;
  }
  CodeSet set;
  set.local_rank = dynamic.local_rank;
  set.epoch = dynamic.epoch;
  set.geometry = std::move(made).value();
  set.ranks = dynamic.ranks;
  set.kind = proto::STATIC;
  return set;
}

const proto::ImageDigest* ImageOf(const proto::Sidecar& sidecar, proto::ImageKind kind) {
  for (const proto::ImageDigest& image : sidecar.images()) {
    if (image.kind() == kind) {
      return &image;
    }
  }
  return nullptr;
}

bool HaveSameBytes(const proto::ImageDigest& a, const proto::ImageDigest& b) {
  return a.length_bytes() == b.length_bytes() && std::equal(a.chunk_crc32c().begin(),
                                                            a.chunk_crc32c().end(),
                                                            b.chunk_crc32c().begin(),
                                                            b.chunk_crc32c().end());
}

bool IsSameCode(const CodeSet& a, const CodeSet& b) {
  // All but the epoch and the version.
  const ec::Geometry& one = a.geometry;
  const ec::Geometry& other = b.geometry;
  return a.local_rank == b.local_rank && a.kind == b.kind && a.ranks == b.ranks &&
         a.static_bytes == b.static_bytes && one.members == other.members &&
         one.shard_bytes == other.shard_bytes && one.code == other.code &&
         one.segment_bytes == other.segment_bytes;
}

namespace {

// What static_bytes say must be a set of its own.
Status CheckStatics(const CodeSet& set) {
  if (set.kind != proto::DYNAMIC && set.kind != proto::STATIC) {
    return Error(Errc::kInvalidArgument, "a code set of images of no known kind");
  }
  if (set.static_bytes.empty()) {
    return Ok();
  }
  bool of_shards = set.kind == proto::DYNAMIC && set.static_bytes.size() == set.ranks.size();
  for (std::uint32_t position = 0; of_shards && position < set.Count(); ++position) {
    of_shards = set.HasShard(position) || set.static_bytes[position] == 0;
  }
  if (!of_shards || !StaticSetOf(set).has_value()) {
    return Error(Errc::kInvalidArgument, "a code set whose static images are not its shards'");
  }
  return Ok();
}

bool HasVector(const CodeSet& set,
               const ec::Stripes& stripes,
               std::uint32_t stripe,
               std::uint32_t position,
               const CodeHolder& holder) {
  const std::uint32_t index = stripes.IndexAt(stripe, position);
  if (stripes.VectorLength(stripe, index) == 0) {
    return true;
  }
  const std::uint32_t data = set.geometry.code.data;
  return index < data ? !holder.shard_node.empty() : holder.rows.contains(index - data);
}

}  // namespace

bool IsDecodable(const HeldSet& held, std::uint32_t position) {
  const CodeSet& set = held.set;
  const Result<ec::Stripes> stripes = ec::Stripes::Make(set.geometry);
  if (!stripes.has_value()) {
    return false;
  }
  for (std::uint32_t segment = 0; segment < set.geometry.code.data; ++segment) {
    if (stripes.value().SegmentLength(position, segment) == 0) {
      continue;
    }
    const std::uint32_t stripe = stripes.value().StripeOf(position, segment);
    std::uint32_t found = 0;
    for (std::uint32_t other = 0; other < set.Count(); ++other) {
      found +=
          other != position && HasVector(set, stripes.value(), stripe, other, held.holders[other])
              ? 1
              : 0;
    }
    if (found < set.geometry.code.data) {
      return false;
    }
  }
  return true;
}

proto::CodeSetRecord ToProto(const CodeSet& set) {
  proto::CodeSetRecord record;
  record.set_local_rank(set.local_rank);
  record.set_epoch_number(set.epoch);
  record.set_version(set.geometry.version);
  for (const std::string& uuid : set.geometry.members) {
    record.add_node_uuids(uuid);
  }
  record.mutable_shard_bytes()->Add(set.geometry.shard_bytes.begin(),
                                    set.geometry.shard_bytes.end());
  record.mutable_ranks()->Add(set.ranks.begin(), set.ranks.end());
  record.set_data_shards(set.geometry.code.data);
  record.set_parity_shards(set.geometry.code.parity);
  record.set_matrix_id(set.geometry.code.matrix_id);
  record.set_segment_bytes(set.geometry.segment_bytes);
  record.set_kind(set.kind);
  record.mutable_static_bytes()->Add(set.static_bytes.begin(), set.static_bytes.end());
  return record;
}

Result<CodeSet> FromProto(const proto::CodeSetRecord& record) {
  CodeSet set;
  set.local_rank = record.local_rank();
  set.epoch = record.epoch_number();
  set.geometry.version = record.version();
  set.geometry.members.assign(record.node_uuids().begin(), record.node_uuids().end());
  set.geometry.shard_bytes.assign(record.shard_bytes().begin(), record.shard_bytes().end());
  set.geometry.code = {record.data_shards(), record.parity_shards(), record.matrix_id()};
  set.geometry.segment_bytes = record.segment_bytes();
  set.ranks.assign(record.ranks().begin(), record.ranks().end());
  set.kind = record.kind();
  set.static_bytes.assign(record.static_bytes().begin(), record.static_bytes().end());
  HF_TRYV(ec::ValidateGeometry(set.geometry));
  if (set.epoch == 0 || set.ranks.size() != set.geometry.members.size()) {
    return Error(Errc::kInvalidArgument,
                 "a code set of " + std::to_string(set.geometry.members.size()) + " members with " +
                     std::to_string(set.ranks.size()) + " ranks, of incarnation " +
                     std::to_string(set.epoch));
  }
  HF_TRYV(CheckStatics(set));
  return set;
}

}  // namespace holdfast::daemon
