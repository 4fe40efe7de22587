#include "layout/sidecar.h"

#include <set>
#include <string_view>
#include <utility>

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>

#include "common/crc32c.h"
#include "layout/image.h"
#include "layout/utf8.h"
#include "layout/wire_budget.h"

namespace holdfast::layout {
namespace {

constexpr std::string_view kMagic = "HFSIDE1\n";
constexpr std::size_t kVersionAt = 8;
constexpr std::size_t kLengthAt = 12;
constexpr std::size_t kPayloadAt = 20;
constexpr std::size_t kCrcBytes = 4;

// Tensors, boxes, digests and state items together; a valid sidecar has at most about 2 million.
constexpr std::uint64_t kMaxElementsOnWire = 3'000'000;

Error Invalid(std::string what) {
  return Error(Errc::kInvalidArgument, "sidecar: " + std::move(what));
}

Error Corrupt(std::string what) {
  return Error(Errc::kCorruption, "sidecar file: " + std::move(what));
}

// The same finding about bytes from a file is damage, not a caller's mistake.
Error AsCorruption(Error error) {
  if (error.code == Errc::kInvalidArgument) {
    error.code = Errc::kCorruption;
  }
  return error;
}

std::string_view KindName(proto::ImageKind kind) {
  return kind == proto::STATIC ? "static" : "dynamic";
}

Status CheckIdentity(const proto::Sidecar& s) {
  if (s.format_version() > kSidecarFormatVersion) {
    return Error(Errc::kVersionMismatch,
                 "sidecar: format version " + std::to_string(s.format_version()) +
                     ", this software reads up to " + std::to_string(kSidecarFormatVersion) +
                     ": upgrade it");
  }
  if (s.format_version() == 0) {
    return Invalid("no format version");
  }
  HF_TRYV(ValidateSnapshotId(s.id()));
  HF_TRYV(ValidateJobName(s.job_name()));
  HF_TRYV(ValidateRank(s.rank(), s.world_size()));
  if (s.layout_hash().size() != kLayoutHashBytes) {
    return Invalid("layout_hash must have 16 bytes");
  }
  if (!s.static_hash().empty() && s.static_hash().size() != kLayoutHashBytes) {
    return Invalid("static_hash must have 16 bytes or none");
  }
  if (!s.node_uuid().empty() && s.node_uuid().size() != kUidBytes) {
    return Invalid("node_uuid must have 16 bytes or none");
  }
  if (s.has_parent()) {
    HF_TRYV(ValidateSnapshotId(s.parent()));
  }
  return Ok();
}

// A static image may belong to an older snapshot of the same job, never to a newer one or another
// job's: shards of different histories must not mix (I8).
Status CheckOwner(const proto::Sidecar& s, const proto::ImageDigest& image) {
  if (!image.has_owner()) {
    return Ok();
  }
  HF_TRYV(ValidateSnapshotId(image.owner()));
  const auto order = [](const proto::SnapshotId& id) {
    return std::pair(id.incarnation(), id.step());
  };
  if (image.owner().job_uid() != s.id().job_uid() || order(image.owner()) > order(s.id())) {
    return Invalid("the owner of an image must be this snapshot or an older one of the same job");
  }
  if (image.kind() == proto::DYNAMIC && order(image.owner()) != order(s.id())) {
    return Invalid("a dynamic image must belong to its own snapshot");
  }
  return Ok();
}

Status CheckDigest(const proto::Sidecar& s, const proto::ImageDigest& image) {
  if (image.kind() != proto::DYNAMIC && image.kind() != proto::STATIC) {
    return Invalid("an image is neither dynamic nor static");
  }
  if (image.chunk_bytes() != kChunkBytes) {
    return Invalid("chunks of " + std::to_string(image.chunk_bytes()) +
                   " bytes, 1048576 are expected");
  }
  if (image.length_bytes() < kHeaderAlignment || image.length_bytes() >= kMaxImageBytes) {
    return Invalid("the " + std::string(KindName(image.kind())) + " image cannot have " +
                   std::to_string(image.length_bytes()) + " bytes");
  }
  if (static_cast<std::uint64_t>(image.chunk_crc32c_size()) != ChunkCount(image.length_bytes())) {
    return Invalid(std::to_string(image.chunk_crc32c_size()) + " chunk digests for the " +
                   std::to_string(image.length_bytes()) + " bytes of the " +
                   std::string(KindName(image.kind())) + " image");
  }
  return CheckOwner(s, image);
}

Status CheckImages(const proto::Sidecar& s) {
  if (s.images_size() < 1 || s.images_size() > 2) {
    return Invalid(std::to_string(s.images_size()) + " images: there are one or two");
  }
  for (const proto::ImageDigest& image : s.images()) {
    HF_TRYV(CheckDigest(s, image));
  }
  if (s.images(0).kind() != proto::DYNAMIC ||
      (s.images_size() == 2 && s.images(1).kind() != proto::STATIC)) {
    return Invalid("the images must be the dynamic one, then the static one");
  }
  return Ok();
}

Status CheckState(const proto::Sidecar& s) {
  if (s.state_size() > kMaxStateItems) {
    return Invalid(std::to_string(s.state_size()) + " items of state: at most 4096 are allowed");
  }
  ByteCount total = 0;
  std::set<std::string_view> names;
  for (const proto::StateItem& item : s.state()) {
    if (item.name().empty() || item.name().size() > kMaxNameBytes || !IsUtf8(item.name())) {
      return Invalid("state item " + Quoted(item.name()) +
                     ": a name must be 1 to 1024 bytes of UTF-8");
    }
    if (!names.insert(item.name()).second) {
      return Invalid("state item " + Quoted(item.name()) + " occurs twice");
    }
    if (item.value_case() == proto::StateItem::VALUE_NOT_SET || !IsUtf8(item.json())) {
      return Invalid("state item " + Quoted(item.name()) + " has no value, or JSON not in UTF-8");
    }
    total += item.name().size() + item.json().size() + item.pickle().size();
  }
  if (total > kMaxStateBytes) {
    return Invalid("the non-tensor state has " + std::to_string(total) +
                   " bytes, at most 16 MiB are allowed: register large items as tensors");
  }
  return Ok();
}

Status CheckGroup(const proto::Sidecar& s) {
  if (!s.has_group()) {
    return Ok();
  }
  const proto::GroupGeometry& group = s.group();
  const auto members = static_cast<std::uint64_t>(group.member_node_uuids_size());
  for (const std::string& uuid : group.member_node_uuids()) {
    if (uuid.size() != kUidBytes) {
      return Invalid("a member of the group has a node uuid that is not 16 bytes");
    }
  }
  if (group.position() >= members || group.data_shards() == 0 ||
      std::uint64_t{group.data_shards()} + group.parity_shards() != members) {
    return Invalid("a group of " + std::to_string(members) + " members cannot have position " +
                   std::to_string(group.position()) + ", k " + std::to_string(group.data_shards()) +
                   " and m " + std::to_string(group.parity_shards()));
  }
  return Ok();
}

}  // namespace

Status ValidateLayoutOfSidecar(const proto::Layout& layout, const proto::Sidecar& sidecar) {
  HF_TRYV(ValidateLayout(layout));
  if (LayoutHash(layout) != sidecar.layout_hash()) {
    return Invalid("its layout_hash names another layout");
  }
  return CheckImagesAgainst(layout, sidecar);
}

Status CheckImagesAgainst(const proto::Layout& layout, const proto::Sidecar& sidecar) {
  ByteCount static_bytes = 0;
  ByteCount dynamic_bytes = 0;
  for (const proto::ImageDigest& image : sidecar.images()) {
    (image.kind() == proto::STATIC ? static_bytes : dynamic_bytes) = image.length_bytes();
  }
  if (dynamic_bytes != layout.dynamic_image_bytes() ||
      static_bytes != layout.static_image_bytes()) {
    return Invalid("its images have " + std::to_string(dynamic_bytes) + " and " +
                   std::to_string(static_bytes) + " bytes, its layout's have " +
                   std::to_string(layout.dynamic_image_bytes()) + " and " +
                   std::to_string(layout.static_image_bytes()));
  }
  return Ok();
}

Result<proto::Sidecar> ParseSidecar(ByteView payload) {
  if (const Status budget =
          CheckWireBudget(*proto::Sidecar::descriptor(), payload, kMaxElementsOnWire);
      !budget) {
    return Corrupt(budget.error().message);
  }
  proto::Sidecar sidecar;
  if (!sidecar.ParseFromArray(payload.data(), static_cast<int>(payload.size()))) {
    return Corrupt("its payload is not a sidecar");
  }
  return sidecar;
}

Status ValidateSidecar(const proto::Sidecar& sidecar) {
  HF_TRYV(CheckIdentity(sidecar));
  HF_TRYV(CheckImages(sidecar));
  HF_TRYV(CheckState(sidecar));
  HF_TRYV(CheckGroup(sidecar));
  if (sidecar.has_layout()) {
    HF_TRYV(ValidateLayoutOfSidecar(sidecar.layout(), sidecar));
  }
  return Ok();
}

Result<std::string> EncodeSidecarFile(const proto::Sidecar& sidecar) {
  HF_TRYV(ValidateSidecar(sidecar));
  if (!sidecar.has_layout()) {
    return Invalid("a sidecar file must hold the layout");
  }
  const std::size_t payload_bytes = sidecar.ByteSizeLong();
  if (payload_bytes > kMaxSidecarFileBytes - kPayloadAt - kCrcBytes) {
    return Invalid("with " + std::to_string(payload_bytes) +
                   " bytes it is larger than a sidecar file may be");
  }
  std::string file(kMagic);
  file.resize(kPayloadAt);
  StoreLe32(file.data() + kVersionAt, kSidecarFormatVersion);
  StoreLe64(file.data() + kLengthAt, payload_bytes);
  file.reserve(kPayloadAt + payload_bytes + kCrcBytes);
  {
    google::protobuf::io::StringOutputStream stream(&file);
    google::protobuf::io::CodedOutputStream out(&stream);
    out.SetSerializationDeterministic(true);
    if (!sidecar.SerializeToCodedStream(&out)) {
      return Error(Errc::kInternal, "sidecar: protobuf did not serialise it");
    }
  }
  const std::uint32_t crc = Crc32c(0, AsBytes(file));
  file.resize(file.size() + kCrcBytes);
  StoreLe32(file.data() + file.size() - kCrcBytes, crc);
  return file;
}

Result<proto::Sidecar> DecodeSidecarFile(ByteView file) {
  if (file.size() < kPayloadAt + kCrcBytes || file.size() > kMaxSidecarFileBytes) {
    return Corrupt(std::to_string(file.size()) + " bytes cannot be one");
  }
  if (!AsText(file).starts_with(kMagic)) {
    return Corrupt("it does not begin with HFSIDE1");
  }
  const std::uint32_t version = LoadLe32(file.data() + kVersionAt);
  if (version > kSidecarFormatVersion) {
    return Error(Errc::kVersionMismatch,
                 "sidecar file: format version " + std::to_string(version) +
                     ", this software reads up to " + std::to_string(kSidecarFormatVersion) +
                     ": upgrade it");
  }
  const ByteCount payload_bytes = file.size() - kPayloadAt - kCrcBytes;
  if (version == 0 || LoadLe64(file.data() + kLengthAt) != payload_bytes) {
    return Corrupt("its length field says " + std::to_string(LoadLe64(file.data() + kLengthAt)) +
                   " payload bytes, there are " + std::to_string(payload_bytes));
  }
  const std::size_t crc_at = file.size() - kCrcBytes;
  if (Crc32c(0, file.first(crc_at)) != LoadLe32(file.data() + crc_at)) {
    return Corrupt("its CRC32C does not match: the file is damaged");
  }
  HF_TRY(proto::Sidecar sidecar, ParseSidecar(file.subspan(kPayloadAt, payload_bytes)));
  if (const Status valid = ValidateSidecar(sidecar); !valid) {
    return AsCorruption(valid.error());
  }
  if (!sidecar.has_layout()) {
    return Corrupt("it has no layout");
  }
  return sidecar;
}

}  // namespace holdfast::layout
