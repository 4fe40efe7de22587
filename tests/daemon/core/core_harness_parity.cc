// The fake pipelines of parity: they read what other nodes' arenas hold now, and nothing else.

#include <utility>

#include "tests/daemon/core/core_harness.h"
#include "tests/daemon/core/fake_code.h"

namespace holdfast::daemon {
namespace {

Error Missing(const std::string& what) {
  return Error(Errc::kUnavailable, what + " cannot be read");
}

}  // namespace

CoreHarness* CoreHarness::Reach(const std::string& node) {
  if (node == node_uuid()) {
    return this;
  }
  return world_->network == nullptr ? nullptr : world_->network->Reach(this, node);
}

// I5: compared with the sidecar, as the readers do.
std::optional<std::string> CoreHarness::ReadImage(const std::string& node,
                                                  const proto::Sidecar& sidecar,
                                                  proto::ImageKind kind) {
  CoreHarness* peer = Reach(node);
  if (peer == nullptr || !peer->up()) {
    return std::nullopt;
  }
  proto::StoredKey key;
  *key.mutable_id() = sidecar.id();
  key.mutable_image()->set_rank(sidecar.rank());
  key.mutable_image()->set_kind(kind);
  const auto stored = peer->core_->FindStored(key);
  const proto::ImageDigest* image = ImageOf(sidecar, kind);
  if (!stored.has_value() || image == nullptr) {
    return std::nullopt;
  }
  const std::string content = peer->arena_.Content(stored->slot);
  return FakeArena::Matches(content, *image) ? std::optional(content) : std::nullopt;
}

std::optional<std::string> CoreHarness::ReadRow(const CodeSet& set,
                                                const GroupsName& groups,
                                                std::uint32_t stripe,
                                                std::uint32_t row,
                                                std::uint32_t position,
                                                const proto::SnapshotId& id) {
  CoreHarness* peer = Reach(set.geometry.members[position]);
  if (peer == nullptr || !peer->up()) {
    return std::nullopt;
  }
  proto::StoredKey key;
  *key.mutable_id() = id;
  key.mutable_parity()->set_local_rank(set.local_rank);
  key.mutable_parity()->set_stripe(stripe);
  key.mutable_parity()->set_row(row);
  key.mutable_parity()->set_kind(set.kind);
  key.mutable_parity()->set_group_epoch(groups.epoch);
  key.mutable_parity()->set_group_version(groups.version);
  const auto stored = peer->core_->FindStored(key);
  const std::string content = stored.has_value() ? peer->arena_.Content(stored->slot) : "";
  const bool good = stored.has_value() &&
                    FakeArena::Digests(content, stored->length_bytes) == stored->chunk_crc32c;
  return good ? std::optional(content) : std::nullopt;
}

// The k segments, as "reader" sees them.
std::optional<std::string> CoreHarness::Encode(const MakeRow& make) {
  const Result<ec::Stripes> stripes = ec::Stripes::Make(make.set.geometry);
  std::vector<std::string> images(make.set.Count());
  for (std::uint32_t column = 0; column < make.set.geometry.code.data; ++column) {
    const std::uint32_t position = stripes.value().PositionOf(make.stripe, column);
    if (stripes.value().VectorLength(make.stripe, column) == 0) {
      continue;
    }
    const auto image =
        ReadImage(make.set.geometry.members[position], make.sidecars[position], make.set.kind);
    if (!image.has_value()) {
      return std::nullopt;
    }
    images[position] = *image;
  }
  return RowText(make.set, make.id, make.stripe, make.row, images);
}

Result<std::string> CoreHarness::RowOf(const MakeRow& make) {
  const Result<ec::Stripes> stripes = ec::Stripes::Make(make.set.geometry);
  const std::uint32_t first = stripes.value().FirstOwner(make.stripe);
  CoreHarness* maker =
      make.way == MakeRow::Way::kPull ? Reach(make.set.geometry.members[first]) : this;
  const auto encoded = maker == nullptr || !maker->up() ? std::nullopt : maker->Encode(make);
  if (encoded.has_value()) {
    return *encoded;
  }
  return Missing("a segment or the feed of stripe " + std::to_string(make.stripe));
}

void CoreHarness::Start(const MakeRow& action) {
  Log("parity: row " + std::to_string(action.row) + " of stripe " + std::to_string(action.stripe) +
      " of " + ShortText(action.id) + " into " + ToText(action.slot));
  Queue("make", [this, action](const Status& status) {
    if (!up()) {
      return;
    }
    Result<std::string> text = status.has_value() ? RowOf(action) : status.error();
    if (cancelled_makings_.erase(action.ticket) > 0) {
      arena_.Write(action.slot, "half a row");  // what was under way when it was told
      text = Error(Errc::kCancelled, "given up");
    }
    if (!text.has_value()) {
      core_->OnRowMade(action.ticket, text.error());
      return;
    }
    arena_.Write(action.slot, text.value());
    core_->OnRowMade(action.ticket, FakeArena::Digests(text.value(), action.length_bytes));
  });
}

void CoreHarness::Start(const CancelMaking& action) {
  cancelled_makings_.insert(action.ticket);
}

void CoreHarness::Start(const FetchSidecars& action) {
  Queue("fetch", [this, action](const Status& status) {
    if (!up()) {
      return;
    }
    std::vector<proto::Sidecar> found;
    for (const auto& [rank, nodes] : action.from) {
      for (const std::string& node : nodes) {
        CoreHarness* peer = Reach(node);
        const proto::Sidecar* sidecar =
            peer == nullptr || !peer->up()
                ? nullptr
                : peer->core_->FindSidecar(ToProto(action.job_uid, action.id), rank);
        if (sidecar != nullptr) {
          found.push_back(*sidecar);
          break;
        }
      }
    }
    if (status.has_value() && cancelled_makings_.erase(action.ticket) == 0) {
      core_->OnSidecarsFetched(action.ticket, found);
    } else {
      core_->OnSidecarsFetched(action.ticket, Error(Errc::kCancelled, "given up"));
    }
  });
}

void CoreHarness::FinishShard(std::uint64_t ticket,
                              SlotRef slot,
                              const Result<std::string>& bytes) {
  if (cancelled_makings_.erase(ticket) > 0) {
    arena_.Write(slot, "half a shard");
    core_->OnShardMade(ticket, Error(Errc::kCancelled, "given up"));
    return;
  }
  if (!bytes.has_value()) {
    core_->OnShardMade(ticket, bytes.error());
    return;
  }
  arena_.Write(slot, bytes.value());
  core_->OnShardMade(ticket, Ok());
}

void CoreHarness::Start(const PullShard& action) {
  Log("parity: copies " + ShortText(action.id) + " of r" + std::to_string(action.rank));
  Queue("bring", [this, action](const Status& status) {
    if (!up()) {
      return;
    }
    const auto image = ReadImage(action.node_uuid, action.sidecar, action.image);
    Result<std::string> bytes = Missing("the shard");
    if (image.has_value()) {
      bytes = *image;
    }
    FinishShard(action.ticket, action.slot, status.has_value() ? bytes : status.error());
  });
}

// A vector helps if it is there and was made of the very image that is wanted.
Result<std::string> CoreHarness::Decode(const RebuildShard& action) {
  const CodeSet& set = action.held.set;
  const proto::ImageDigest* image = ImageOf(action.sidecar, set.kind);
  const auto truth =
      image == nullptr ? history_.images.end() : history_.images.find(DigestText(*image));
  const Result<ec::Stripes> stripes = ec::Stripes::Make(set.geometry);
  if (truth == history_.images.end() || !stripes.has_value()) {
    return Missing("what never was");
  }
  const std::uint32_t data = set.geometry.code.data;
  for (std::uint32_t segment = 0; segment < data; ++segment) {
    if (stripes.value().SegmentLength(action.position, segment) == 0) {
      continue;
    }
    const std::uint32_t stripe = stripes.value().StripeOf(action.position, segment);
    std::uint32_t found = 0;
    for (std::uint32_t other = 0; other < set.Count(); ++other) {
      const std::uint32_t index = stripes.value().IndexAt(stripe, other);
      if (other == action.position || stripes.value().VectorLength(stripe, index) == 0) {
        found += other == action.position ? 0 : 1;
        continue;
      }
      const std::string& node = action.held.holders[other].shard_node;
      if (index < data) {
        CoreHarness* peer = node.empty() ? nullptr : Reach(node);
        const proto::Sidecar* sidecar =
            peer == nullptr || !peer->up()
                ? nullptr
                : peer->core_->FindSidecar(action.sidecar.id(), set.ranks[other]);
        found += sidecar != nullptr && ReadImage(node, *sidecar, set.kind).has_value() ? 1 : 0;
        continue;
      }
      const auto& rows = action.held.holders[other].rows;
      const auto named = rows.find(index - data);
      const auto row =
          named == rows.end()
              ? std::nullopt
              : ReadRow(set, named->second, stripe, index - data, other, action.sidecar.id());
      found += row.has_value() && row->find(truth->second) != std::string::npos ? 1 : 0;
    }
    if (found < data) {
      return Missing(std::to_string(data - found) + " vectors of stripe " + std::to_string(stripe));
    }
  }
  return truth->second;
}

void CoreHarness::Start(const RebuildShard& action) {
  Log("parity: decodes " + ShortText(action.id) + " of r" + std::to_string(action.rank));
  Queue("bring", [this, action](const Status& status) {
    if (up()) {
      FinishShard(action.ticket, action.slot, status.has_value() ? Decode(action) : status.error());
    }
  });
}

}  // namespace holdfast::daemon
