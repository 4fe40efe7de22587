// Parity rows and other nodes' sidecars, as this node has recorded them.

#include <algorithm>
#include <utility>

#include "daemon/core/job.h"

namespace holdfast::daemon {

std::uint64_t Job::TokenOf(std::uint64_t incarnation) const {
  const auto known = incarnations.find(incarnation);
  return known == incarnations.end() ? 0 : known->second.token();
}

std::uint64_t Job::TokenOf(const SnapshotKey& key, const Shard& shard) const {
  return shard.start_token != 0 ? shard.start_token : TokenOf(key.incarnation);
}

const proto::Sidecar* Job::FindSidecar(const SnapshotKey& key,
                                       Rank rank,
                                       std::optional<std::uint64_t> token) const {
  const auto is_wanted = [token](std::uint64_t start) { return token.value_or(start) == start; };
  const Shard* shard = FindShard(key, rank);
  if (shard != nullptr && is_wanted(TokenOf(key, *shard))) {
    return &shard->sidecar;
  }
  const auto of_id = sidecars.find(key);
  if (of_id == sidecars.end()) {
    return nullptr;
  }
  const auto it = of_id->second.find(rank);
  const bool found = it != of_id->second.end() && is_wanted(it->second.start_token());
  return found ? &it->second.sidecar() : nullptr;
}

void Job::PutRow(CoreContext* context, const SnapshotKey& key, Row row) {
  proto::RowRecord& saved = row.record;
  *saved.mutable_id() = Id(key);
  *saved.mutable_set() = ToProto(row.set);
  saved.set_slot(row.slot.has_value() ? row.slot->slot : 0);
  saved.set_generation(row.slot.has_value() ? row.slot->generation : 0);
  saved.set_arena_uuid(context->slots.identity().arena_uuid);
  saved.set_boot_id(context->slots.identity().boot_id);
  context->batch()->PutRow(saved);
  const RowName name = NameOf(row.set, row.record.row());
  rows[key].insert_or_assign(name, std::move(row));
}

bool Job::HasRowIn(SlotRef slot) const {
  return std::any_of(rows.begin(), rows.end(), [&](const auto& of_id) {
    return std::any_of(of_id.second.begin(), of_id.second.end(), [&](const auto& entry) {
      return entry.second.slot == slot;
    });
  });
}

void Job::EraseRow(CoreContext* context, const SnapshotKey& key, const RowName& name) {
  const auto by_name = rows.find(key);
  if (by_name == rows.end()) {
    return;
  }
  const auto it = by_name->second.find(name);
  if (it != by_name->second.end()) {
    context->batch()->DeleteRow(it->second.record);
    by_name->second.erase(it);
  }
  if (by_name->second.empty()) {
    rows.erase(by_name);
  }
}

void Job::PutSidecar(CoreContext* context, proto::Sidecar sidecar, std::uint64_t start_token) {
  const SnapshotKey key = KeyOf(sidecar.id());
  const Rank rank = sidecar.rank();
  proto::SidecarRecord saved;
  *saved.mutable_sidecar() = std::move(sidecar);
  saved.set_start_token(start_token);
  context->batch()->PutSidecar(saved);
  sidecars[key].insert_or_assign(rank, std::move(saved));
}

void Job::EraseSidecars(CoreContext* context, const SnapshotKey& key) {
  const auto of_id = sidecars.find(key);
  if (of_id == sidecars.end()) {
    return;
  }
  for (const auto& [rank, saved] : of_id->second) {
    context->batch()->DeleteSidecar(Id(key), rank);
  }
  sidecars.erase(of_id);
}

}  // namespace holdfast::daemon
