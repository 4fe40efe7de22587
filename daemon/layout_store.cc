#include "daemon/layout_store.h"

#include <optional>
#include <utility>

#include "proto/catalog.pb.h"
#include "storage_tiers/catalog_keys.h"

namespace holdfast::daemon {

using storage_tiers::CatalogBatch;
using storage_tiers::CatalogFamily;

void LayoutStore::Recover(std::string hash, proto::Layout layout) {
  layouts_[std::move(hash)] = std::make_shared<const proto::Layout>(std::move(layout));
}

void LayoutStore::RecoverShard(const proto::ShardRecord& record) {
  const proto::Sidecar& sidecar = record.sidecar();
  by_shard_[storage_tiers::ShardKey(sidecar.id(), sidecar.rank())] = sidecar.layout_hash();
}

void LayoutStore::RecoverSidecar(const proto::SidecarRecord& record) {
  const proto::Sidecar& sidecar = record.sidecar();
  by_shard_[storage_tiers::SidecarKey(sidecar.id(), sidecar.rank())] = sidecar.layout_hash();
}

void LayoutStore::RecoverSlot(const proto::SlotRecord& record) {
  if (!record.layout_hash().empty()) {
    by_slot_[{record.slot(), record.generation()}] = record.layout_hash();
  }
}

void LayoutStore::Stage(SessionId session, const std::string& hash, SharedLayout layout) {
  if (layouts_.emplace(hash, std::move(layout)).second) {
    unwritten_.insert(hash);
  }
  by_session_[session].insert(hash);
}

void LayoutStore::StageForeign(const std::string& hash, SharedLayout layout) {
  if (layouts_.emplace(hash, std::move(layout)).second) {
    unwritten_.insert(hash);
  }
  foreign_.insert(hash);
}

SharedLayout LayoutStore::Find(const std::string& hash) const {
  const auto found = layouts_.find(hash);
  return found == layouts_.end() ? nullptr : found->second;
}

namespace {

// The layout that a record of a shard or of a sidecar needs.
std::optional<std::string> HashOf(CatalogFamily family, const std::string& value) {
  proto::ShardRecord shard;
  proto::SidecarRecord sidecar;
  if (family == CatalogFamily::kShard && shard.ParseFromString(value)) {
    return shard.sidecar().layout_hash();
  }
  if (family == CatalogFamily::kSidecar && sidecar.ParseFromString(value)) {
    return sidecar.sidecar().layout_hash();
  }
  return std::nullopt;
}

}  // namespace

void LayoutStore::Note(const CatalogBatch& batch) {
  for (const CatalogBatch::Op& op : batch.ops()) {
    const auto family = static_cast<CatalogFamily>(op.key.empty() ? 0 : op.key.front());
    if (family != CatalogFamily::kShard && family != CatalogFamily::kSidecar) {
      continue;
    }
    if (!op.value.has_value()) {
      by_shard_.erase(op.key);
    } else if (auto hash = HashOf(family, *op.value); hash.has_value()) {
      foreign_.erase(*hash);
      by_shard_[op.key] = *std::move(hash);
    }
  }
}

void LayoutStore::AddRecords(CatalogBatch* batch) {
  Note(*batch);
  for (const std::string& hash : unwritten_) {
    proto::LayoutRecord record;
    *record.mutable_layout() = *layouts_.at(hash);
    batch->PutLayout(hash, record);
  }
  unwritten_.clear();
  if (collect_) {
    collect_ = false;
    AddDeletions(batch);
  }
}

std::set<std::string> LayoutStore::Used() const {
  std::set<std::string> used = foreign_;
  for (const auto& [key, hash] : by_shard_) {
    used.insert(hash);
  }
  for (const auto& [session, hashes] : by_session_) {
    used.insert(hashes.begin(), hashes.end());
  }
  for (const auto& [slot, hash] : by_slot_) {
    used.insert(hash);
  }
  return used;
}

void LayoutStore::AddDeletions(CatalogBatch* batch) {
  const std::set<std::string> used = Used();
  for (auto it = layouts_.begin(); it != layouts_.end();) {
    if (used.contains(it->first)) {
      ++it;
      continue;
    }
    batch->DeleteLayout(it->first);
    it = layouts_.erase(it);
  }
}

}  // namespace holdfast::daemon
