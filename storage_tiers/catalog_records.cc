#include "storage_tiers/catalog_records.h"

#include <cstddef>
#include <limits>
#include <string>

#include "common/crc32c.h"
#include "common/units.h"
#include "layout/image.h"
#include "layout/layout_hash.h"
#include "layout/names.h"
#include "layout/sidecar.h"

namespace holdfast::storage_tiers {
namespace {

constexpr std::size_t kMaxRootBytes = 4096;  // PATH_MAX
constexpr std::size_t kMaxBootIdBytes = 64;  // Linux has 36
constexpr std::size_t kMaxReasonBytes = 64 * kKiB;
constexpr ByteCount kSlotAlignment = 4 * kKiB;
constexpr std::int64_t kNoStep = -1;

Error Invalid(std::string what) {
  return Error(Errc::kInvalidArgument, std::move(what));
}

Status CheckUid(std::string_view uid, std::string_view what) {
  if (uid.size() == layout::kUidBytes) {
    return Ok();
  }
  return Invalid(std::string(what) + " has " + std::to_string(uid.size()) + " bytes, not 16");
}

// Where a slot or shard lies: without both, a record could be believed for another memory.
Status CheckMemory(std::string_view arena_uuid, std::string_view boot_id) {
  HF_TRYV(CheckUid(arena_uuid, "arena_uuid"));
  if (boot_id.empty() || boot_id.size() > kMaxBootIdBytes) {
    return Invalid("boot_id has " + std::to_string(boot_id.size()) + " bytes, not 1 to 64");
  }
  return Ok();
}

Status CheckRoot(std::string_view root) {
  if (root.empty() || root.size() > kMaxRootBytes || root.front() != '/' ||
      root.find('\0') != std::string_view::npos) {
    return Invalid("the root of a tier is not an absolute path of up to 4096 bytes");
  }
  return Ok();
}

Status CheckTier(const proto::TierPolicy& tier) {
  HF_TRYV(CheckRoot(tier.root()));
  if (tier.scope() != proto::SHARED && tier.scope() != proto::NODE) {
    return Invalid("the scope of tier " + tier.root() + " is neither shared nor node");
  }
  if (tier.keep_last() == 0) {
    return Invalid("tier " + tier.root() + " would keep no snapshot");
  }
  return Ok();
}

// A decision names snapshots of the job that it belongs to, or histories would mix (I8).
Status CheckSnapshotOfJob(const proto::SnapshotId& id,
                          std::string_view job_uid,
                          std::string_view what) {
  Status valid = layout::ValidateSnapshotId(id);
  if (!valid) {
    return std::move(valid).error().WithContext(what);
  }
  if (id.job_uid() != job_uid) {
    return Invalid(std::string(what) + " is a snapshot of another job");
  }
  return Ok();
}

Status CheckDecision(const proto::RestoreDecision& decision, std::string_view job_uid) {
  if (decision.has_choice()) {
    HF_TRYV(CheckSnapshotOfJob(decision.choice(), job_uid, "choice"));
  }
  if (decision.has_fallback()) {
    HF_TRYV(CheckSnapshotOfJob(decision.fallback(), job_uid, "fallback"));
  }
  if (decision.has_boundary()) {
    HF_TRYV(CheckSnapshotOfJob(decision.boundary(), job_uid, "boundary"));
  }
  if (decision.has_named_step() && decision.named_step() < 0) {
    return Invalid("the named step is negative");
  }
  return Ok();
}

// Its lengths are checked again, with all that follows from them, by who decodes (ec/geometry.h);
// here only what must hold for the record to be believed.
Status CheckSet(const proto::CodeSetRecord& set) {
  constexpr int kMaxMembers = 64;
  const int members = set.node_uuids_size();
  if (members < 2 || members > kMaxMembers || set.shard_bytes_size() != members ||
      set.ranks_size() != members || set.data_shards() == 0 || set.parity_shards() == 0 ||
      std::uint64_t{set.data_shards()} + set.parity_shards() !=
          static_cast<std::uint64_t>(members)) {
    return Invalid("a code set whose members, lengths and code do not agree");
  }
  if (set.epoch_number() == 0 || set.version() == 0) {
    return Invalid("a code set of no groups");
  }
  const bool statics = set.static_bytes_size() == 0 ||
                       (set.kind() == proto::DYNAMIC && set.static_bytes_size() == members);
  if (!proto::ImageKind_IsValid(set.kind()) || !statics) {
    return Invalid("a code set of images of no known kind, or with static images of other shards");
  }
  for (const std::string& uuid : set.node_uuids()) {
    HF_TRYV(CheckUid(uuid, "the node uuid of a code set"));
  }
  return Ok();
}

// What a sealed static image holds is known from its slot's record alone.
Status CheckStaticSlot(const proto::SlotRecord& record) {
  if (!proto::ImageKind_IsValid(record.kind())) {
    return Invalid("unknown kind of image " + std::to_string(record.kind()));
  }
  if (record.kind() != proto::STATIC) {
    return Ok();
  }
  if (record.static_hash().size() != layout::kLayoutHashBytes) {
    return Invalid("a static hash has 16 bytes, not " +
                   std::to_string(record.static_hash().size()));
  }
  const proto::ImageDigest& image = record.static_image();
  if (record.state() != proto::SLOT_SEALED) {
    return Ok();
  }
  if (image.length_bytes() > record.capacity_bytes() || image.chunk_crc32c_size() == 0 ||
      static_cast<std::uint64_t>(image.chunk_crc32c_size()) != ChunkCount(image.length_bytes())) {
    return Invalid("the digests of a static image do not cover it");
  }
  return CheckSnapshotOfJob(image.owner(), record.job_uid(), "owner of the static image");
}

}  // namespace

Status ValidateRecord(const proto::CatalogHeader& record) {
  if (record.format_version() > kCatalogFormatVersion) {
    return Error(Errc::kVersionMismatch,
                 "the catalog has format version " + std::to_string(record.format_version()) +
                     ", this software knows up to " + std::to_string(kCatalogFormatVersion) +
                     ": use the Holdfast that wrote it or a newer one");
  }
  if (record.format_version() == 0) {
    return Invalid("no format version");
  }
  if (record.boot_number() == std::numeric_limits<std::uint64_t>::max()) {
    return Invalid("the boot number cannot be raised");
  }
  for (const std::string& uuid : record.arena_uuids()) {
    HF_TRYV(CheckUid(uuid, "arena_uuids"));
  }
  return CheckUid(record.node_uuid(), "node_uuid");
}

Status ValidateRecord(const proto::JobRecord& record) {
  HF_TRYV(CheckUid(record.job_uid(), "job_uid"));
  HF_TRYV(layout::ValidateJobName(record.name()));
  if (record.world_size() > layout::kMaxWorldSize) {
    return Invalid("world size " + std::to_string(record.world_size()) + " is too large");
  }
  for (const proto::TierPolicy& tier : record.tiers()) {
    HF_TRYV(CheckTier(tier));
  }
  return Ok();
}

Status ValidateRecord(const proto::SlotRecord& record) {
  HF_TRYV(CheckMemory(record.arena_uuid(), record.boot_id()));
  if (!proto::SlotState_IsValid(record.state()) ||
      record.state() == proto::SLOT_STATE_UNSPECIFIED) {
    return Invalid("unknown slot state " + std::to_string(record.state()));
  }
  if (record.capacity_bytes() == 0 || record.capacity_bytes() % kSlotAlignment != 0 ||
      record.capacity_bytes() >= layout::kMaxImageBytes + kGiB) {
    return Invalid("a slot cannot have " + std::to_string(record.capacity_bytes()) + " bytes");
  }
  if (!record.job_uid().empty()) {
    HF_TRYV(CheckUid(record.job_uid(), "job_uid"));
  }
  if (!proto::SlotPurpose_IsValid(record.purpose())) {
    return Invalid("unknown purpose of a slot " + std::to_string(record.purpose()));
  }
  return CheckStaticSlot(record);
}

Status ValidateRecord(const proto::ShardRecord& record) {
  HF_TRYV(CheckMemory(record.arena_uuid(), record.boot_id()));
  if (record.sidecar().has_layout()) {
    return Invalid("the sidecar of a shard carries its layout: that is a record of its own");
  }
  return layout::ValidateSidecar(record.sidecar());
}

Status ValidateRecord(const proto::RowRecord& record) {
  HF_TRYV(CheckMemory(record.arena_uuid(), record.boot_id()));
  HF_TRYV(layout::ValidateSnapshotId(record.id()));
  HF_TRYV(CheckSet(record.set()));
  if (record.row() >= record.set().parity_shards()) {
    return Invalid("row " + std::to_string(record.row()) + " of a code without it");
  }
  if (record.length_bytes() > record.set().segment_bytes() ||
      static_cast<std::uint64_t>(record.chunk_crc32c_size()) != ChunkCount(record.length_bytes())) {
    return Invalid("the digests of a row do not cover it, or it is longer than a segment");
  }
  if ((record.slot() == 0) != (record.length_bytes() == 0)) {
    return Invalid("a row of " + std::to_string(record.length_bytes()) + " bytes in slot " +
                   std::to_string(record.slot()));
  }
  return Ok();
}

Status ValidateRecord(const proto::SidecarRecord& record) {
  if (record.sidecar().has_layout()) {
    return Invalid("a sidecar in the catalog carries its layout: that is a record of its own");
  }
  return layout::ValidateSidecar(record.sidecar());
}

Status ValidateRecord(const proto::IncarnationRecord& record) {
  HF_TRYV(CheckUid(record.job_uid(), "job_uid"));
  if (record.number() == 0) {
    return Invalid("incarnations are numbered from 1");
  }
  if (record.world_size() > layout::kMaxWorldSize) {
    return Invalid("world size " + std::to_string(record.world_size()) + " is too large");
  }
  for (const std::string& uuid : record.member_node_uuids()) {
    HF_TRYV(CheckUid(uuid, "the node uuid of a member"));
  }
  for (const proto::MemberNode& member : record.members()) {
    HF_TRYV(CheckUid(member.node_uuid(), "the node uuid of a member"));
  }
  if (!record.coordinator_uuid().empty()) {
    HF_TRYV(CheckUid(record.coordinator_uuid(), "the node uuid of the coordinator"));
  }
  if (record.last_begun_step() < kNoStep) {
    return Invalid("the last begun step is negative");
  }
  return CheckDecision(record.decision(), record.job_uid());
}

Status ValidateRecord(const proto::OutcomeRecord& record) {
  HF_TRYV(layout::ValidateSnapshotId(record.id()));
  if (!proto::Outcome_IsValid(record.outcome())) {
    return Invalid("unknown outcome " + std::to_string(record.outcome()));
  }
  if (record.world_size() > layout::kMaxWorldSize || record.reason().size() > kMaxReasonBytes) {
    return Invalid("the world size or the reason is too large");
  }
  return Ok();
}

Status ValidateRecord(const proto::DurableRecord& record) {
  HF_TRYV(layout::ValidateSnapshotId(record.id()));
  HF_TRYV(CheckRoot(record.root()));
  for (const std::uint32_t rank : record.flushed_ranks()) {
    if (rank >= layout::kMaxWorldSize) {
      return Invalid("flushed rank " + std::to_string(rank) + " cannot exist");
    }
  }
  return Ok();
}

Status ValidateLayoutRecord(std::string_view hash, const proto::LayoutRecord& record) {
  if (hash.size() != layout::kLayoutHashBytes) {
    return Invalid("a layout hash has 16 bytes, not " + std::to_string(hash.size()));
  }
  HF_TRYV(layout::ValidateLayout(record.layout()));
  if (layout::LayoutHash(record.layout()) != hash) {
    return Invalid("the layout is not the one that the hash names");
  }
  return Ok();
}

}  // namespace holdfast::storage_tiers
