// What this node has of what peers ask for: looked up, never changed.

#include "daemon/core/node_state.h"

namespace holdfast::daemon {
namespace {

NodeCore::StoredBytes BytesOf(SlotRef slot, const proto::ImageDigest& image) {
  return {
      slot, 0, image.length_bytes(), {image.chunk_crc32c().begin(), image.chunk_crc32c().end()}};
}

std::optional<NodeCore::StoredBytes> ImageOf(const Job& job,
                                             const SnapshotKey& id,
                                             const proto::StoredImage& image) {
  const Shard* shard = job.FindShard(id, image.rank());
  if (shard == nullptr || shard->poisoned) {
    return std::nullopt;
  }
  if (image.kind() == proto::DYNAMIC) {
    return BytesOf(shard->slot, shard->sidecar.images(0));
  }
  if (image.kind() == proto::STATIC && shard->static_slot.has_value()) {
    return BytesOf(*shard->static_slot, shard->sidecar.images(1));
  }
  return std::nullopt;
}

RowName NameOf(const proto::StoredParity& row) {
  return {row.local_rank(), row.group_epoch(), row.group_version(), row.row()};
}

std::optional<NodeCore::StoredBytes> RowOf(const Job& job,
                                           const std::string& node,
                                           const SnapshotKey& id,
                                           const proto::StoredParity& asked) {
  const auto by_name = job.rows.find(id);
  if (by_name == job.rows.end()) {
    return std::nullopt;
  }
  const auto it = by_name->second.find(NameOf(asked));
  if (it == by_name->second.end() || !it->second.slot.has_value()) {
    return std::nullopt;
  }
  const Row& row = it->second;
  const auto position = row.set.PositionOfNode(node);
  if (!position.has_value() || row.set.StripeOfRow(*position, asked.row()) != asked.stripe()) {
    return std::nullopt;
  }
  const auto& digests = row.record.chunk_crc32c();
  return NodeCore::StoredBytes{
      *row.slot, 0, row.record.length_bytes(), {digests.begin(), digests.end()}};
}

}  // namespace

std::optional<NodeCore::StoredBytes> NodeCore::FindStored(const proto::StoredKey& key) const {
  const JobUnit* unit = state_->FindByUid(key.id().job_uid());
  if (unit == nullptr) {
    return std::nullopt;
  }
  const SnapshotKey id = KeyOf(key.id());
  return key.has_parity()  ? RowOf(unit->job, state_->context.node_uuid, id, key.parity())
         : key.has_image() ? ImageOf(unit->job, id, key.image())
                           : std::nullopt;
}

const proto::Sidecar* NodeCore::FindSidecar(const proto::SnapshotId& id, Rank rank) const {
  const JobUnit* unit = state_->FindByUid(id.job_uid());
  return unit == nullptr ? nullptr : unit->job.FindSidecar(KeyOf(id), rank);
}

}  // namespace holdfast::daemon
