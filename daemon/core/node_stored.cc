// What this node has of what peers and operators ask for: looked up, never changed.

#include "daemon/core/node_state.h"

namespace holdfast::daemon {
namespace {

NodeCore::StoredBytes ImageIn(SlotRef slot, const proto::ImageDigest& image) {
  return {
      slot, 0, image.length_bytes(), {image.chunk_crc32c().begin(), image.chunk_crc32c().end()}};
}

std::optional<NodeCore::StoredBytes> ImageOf(const Job& job,
                                             const SnapshotKey& id,
                                             const proto::StoredImage& image,
                                             bool poisoned_too) {
  const Shard* shard = job.FindShard(id, image.rank());
  if (shard == nullptr || (shard->poisoned && !poisoned_too)) {
    return std::nullopt;
  }
  if (image.kind() == proto::DYNAMIC) {
    return ImageIn(shard->slot, shard->sidecar.images(0));
  }
  if (image.kind() == proto::STATIC && shard->static_slot.has_value()) {
    return ImageIn(*shard->static_slot, shard->sidecar.images(1));
  }
  return std::nullopt;
}

RowName NameOf(const proto::StoredParity& row) {
  return {row.local_rank(), row.group_epoch(), row.group_version(), row.kind(), row.row()};
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

std::optional<NodeCore::StoredBytes> BytesOf(const Job& job,
                                             const std::string& node,
                                             const proto::StoredKey& key,
                                             bool poisoned_too) {
  const SnapshotKey id = KeyOf(key.id());
  return key.has_parity()  ? RowOf(job, node, id, key.parity())
         : key.has_image() ? ImageOf(job, id, key.image(), poisoned_too)
                           : std::nullopt;
}

// Rows by their sets: names of one set are neighbours.
void FillHeld(const Job& job,
              const std::string& node,
              const SnapshotKey& id,
              proto::SnapshotInfo* out) {
  if (const auto rows = job.rows.find(id); rows != job.rows.end()) {
    std::optional<RowName> last;
    for (const auto& [name, row] : rows->second) {
      RowName set = name;
      set.row = 0;
      if (set != last) {
        *out->add_held_rows()->mutable_set() = row.record.set();
        last = set;
      }
      const auto position = row.set.PositionOfNode(node);
      proto::HeldRow* held = out->mutable_held_rows()->rbegin()->add_rows();
      held->set_row(name.row);
      held->set_stripe(position.has_value() ? row.set.StripeOfRow(*position, name.row) : 0);
      held->set_length_bytes(row.slot.has_value() ? row.record.length_bytes() : 0);
    }
  }
  if (const auto sidecars = job.sidecars.find(id); sidecars != job.sidecars.end()) {
    for (const auto& [rank, sidecar] : sidecars->second) {
      out->add_sidecar_ranks(rank);
    }
  }
}

}  // namespace

proto::NodeView NodeState::ClusterView(const std::string& job_name, Asker asker) const {
  proto::NodeView view;
  *view.mutable_status() = StatusView(job_name, asker);
  *view.mutable_list() = ListView(job_name, asker);
  for (proto::SnapshotInfo& snapshot : *view.mutable_list()->mutable_snapshots()) {
    const auto unit = jobs.find(snapshot.id().job_uid());
    if (unit != jobs.end()) {
      FillHeld(unit->second->job, context.node_uuid, KeyOf(snapshot.id()), &snapshot);
    }
  }
  return view;
}

std::optional<NodeCore::StoredBytes> NodeCore::FindStored(const proto::StoredKey& key) const {
  const JobUnit* unit = state_->FindByUid(key.id().job_uid());
  if (unit == nullptr) {
    return std::nullopt;
  }
  return BytesOf(unit->job, state_->context.node_uuid, key, /*poisoned_too=*/false);
}

Result<NodeCore::StoredBytes> NodeCore::FindHeld(const proto::StoredKey& key,
                                                 std::optional<std::uint32_t> asker) const {
  const JobUnit* unit = state_->FindByUid(key.id().job_uid());
  if (unit != nullptr && !state_->MaySee(asker, unit->job)) {
    return Error(Errc::kPermission, "the job belongs to another uid");
  }
  const auto found = unit == nullptr ? std::nullopt
                                     : BytesOf(unit->job,
                                               state_->context.node_uuid,
                                               key,
                                               /*poisoned_too=*/true);
  if (!found.has_value()) {
    return Error(Errc::kNotFound, "this node does not hold these bytes (any more)");
  }
  return *found;
}

const proto::Sidecar* NodeCore::FindSidecar(const proto::SnapshotId& id, Rank rank) const {
  const JobUnit* unit = state_->FindByUid(id.job_uid());
  return unit == nullptr ? nullptr : unit->job.FindSidecar(KeyOf(id), rank);
}

}  // namespace holdfast::daemon
