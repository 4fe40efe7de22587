#include "storage_tiers/retention.h"

#include <algorithm>
#include <tuple>

namespace holdfast::storage_tiers {

namespace {

bool KeptForEver(const proto::SnapshotId& id, std::uint64_t every) {
  // A negative step is no step that training takes; it is not deleted on a guess.
  return id.step() < 0 || (every != 0 && static_cast<std::uint64_t>(id.step()) % every == 0);
}

}  // namespace

bool OlderThan(const proto::SnapshotId& a, const proto::SnapshotId& b) {
  return std::make_tuple(a.incarnation(), a.step()) < std::make_tuple(b.incarnation(), b.step());
}

bool SameSnapshot(const proto::SnapshotId& a, const proto::SnapshotId& b) {
  return a.job_uid() == b.job_uid() && a.incarnation() == b.incarnation() && a.step() == b.step();
}

std::vector<proto::SnapshotId> SelectForDeletion(const std::vector<proto::SnapshotId>& durable,
                                                 const std::vector<proto::SnapshotId>& pinned,
                                                 const RetentionPolicy& policy) {
  std::vector<proto::SnapshotId> ordered = durable;
  std::sort(ordered.begin(), ordered.end(), OlderThan);
  ordered.erase(std::unique(ordered.begin(), ordered.end(), SameSnapshot), ordered.end());
  const std::uint64_t keep = std::max<std::uint64_t>(policy.keep_last, 1);
  if (ordered.size() <= keep) {
    return {};
  }
  ordered.resize(ordered.size() - keep);
  const auto stays = [&](const proto::SnapshotId& id) {
    return KeptForEver(id, policy.keep_every_steps) ||
           std::any_of(pinned.begin(), pinned.end(), [&](const proto::SnapshotId& p) {
             return SameSnapshot(p, id);
           });
  };
  ordered.erase(std::remove_if(ordered.begin(), ordered.end(), stays), ordered.end());
  return ordered;
}

}  // namespace holdfast::storage_tiers
