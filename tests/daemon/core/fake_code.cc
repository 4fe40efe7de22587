#include "tests/daemon/core/fake_code.h"

#include <algorithm>

#include "tests/daemon/core/core_harness.h"

namespace holdfast::daemon {

std::string DigestText(proto::ImageDigest image) {
  image.clear_owner();
  return image.SerializeAsString();
}

std::string RowText(const CodeSet& set,
                    const SnapshotKey& id,
                    std::uint32_t stripe,
                    std::uint32_t row,
                    const std::vector<std::string>& images) {
  const Result<ec::Stripes> stripes = ec::Stripes::Make(set.geometry);
  std::string text = "row " + std::to_string(row) + " of stripe " + std::to_string(stripe) +
                     " of " + (set.kind == proto::STATIC ? "static images" : ShortText(id));
  for (std::uint32_t column = 0; column < set.geometry.code.data; ++column) {
    const std::uint32_t position = stripes.value().PositionOf(stripe, column);
    if (stripes.value().VectorLength(stripe, column) > 0) {
      text += "; segment " + std::to_string(stripes.value().SegmentOf(stripe, position)) + " of " +
              images[position];
    }
  }
  return text;
}

LeftOver::LeftOver(const std::vector<CoreHarness*>& nodes, const JobUid& job, const SnapshotKey& id)
    : job_(job), id_(id) {
  for (CoreHarness* node : nodes) {
    AddShards(node);
  }
  for (CoreHarness* node : nodes) {
    AddRows(node);
  }
}

void LeftOver::AddShards(CoreHarness* node) {
  const auto is_ours = [&](const proto::SnapshotId& other) {
    return other.job_uid() == job_ && KeyOf(other) == id_;
  };
  for (const proto::ShardRecord& shard : node->Records().shards) {
    if (!is_ours(shard.sidecar().id())) {
      continue;
    }
    world_ = std::max(world_, shard.sidecar().world_size());
    sidecars_.insert(shard.sidecar().rank());
    if (!shard.poisoned() && IsIntact(*node, shard)) {
      whole_.insert(shard.sidecar().rank());
    }
  }
  for (const proto::SidecarRecord& record : node->Records().sidecars) {
    if (is_ours(record.sidecar().id())) {
      world_ = std::max(world_, record.sidecar().world_size());
      sidecars_.insert(record.sidecar().rank());
    }
  }
}

void LeftOver::AddRows(CoreHarness* node) {
  for (const proto::RowRecord& record : node->Records().rows) {
    if (record.id().job_uid() != job_ || KeyOf(record.id()) != id_ || !IsIntact(*node, record)) {
      continue;
    }
    const CodeSet set = FromProto(record.set()).value();
    auto held = std::find_if(sets_.begin(), sets_.end(), [&](const HeldSet& known) {
      return IsSameCode(known.set, set);
    });
    if (held == sets_.end()) {
      held = sets_.insert(sets_.end(), {set, std::vector<CodeHolder>(set.Count())});
      for (std::uint32_t position = 0; position < set.Count(); ++position) {
        const bool there = set.HasShard(position) && whole_.contains(set.ranks[position]);
        held->holders[position].shard_node = there ? "somewhere" : "";
      }
    }
    if (const auto position = set.PositionOfNode(node->node_uuid()); position.has_value()) {
      held->holders[*position].rows[record.row()] = set.Groups();
    }
  }
}

bool LeftOver::IsDecodable(Rank rank) const {
  return sidecars_.contains(rank) &&
         std::any_of(sets_.begin(), sets_.end(), [&](const HeldSet& held) {
           return held.set.kind == proto::DYNAMIC && IsDecodable(rank, held);
         });
}

// With its static image, where it has one.
bool LeftOver::IsDecodable(Rank rank, const HeldSet& held) const {
  const auto position = held.set.PositionOfRank(rank);
  if (!position.has_value() || !daemon::IsDecodable(held, *position)) {
    return false;
  }
  const auto statics =
      held.set.SharesStatic(*position) ? StaticSetOf(held.set) : std::optional<CodeSet>();
  return !statics.has_value() || std::any_of(sets_.begin(), sets_.end(), [&](const HeldSet& other) {
    return IsSameCode(other.set, *statics) && IsDecodable(rank, other);
  });
}

bool LeftOver::IsRestorable() const {
  for (Rank rank = 0; rank < world_; ++rank) {
    if (!whole_.contains(rank) && !IsDecodable(rank)) {
      return false;
    }
  }
  return world_ > 0;
}

}  // namespace holdfast::daemon
