#include "daemon/layout_store.h"

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

SharedLayout LayoutStore::Find(const std::string& hash) const {
  const auto found = layouts_.find(hash);
  return found == layouts_.end() ? nullptr : found->second;
}

void LayoutStore::Note(const CatalogBatch& batch) {
  for (const CatalogBatch::Op& op : batch.ops()) {
    if (op.key.empty() || op.key.front() != static_cast<char>(CatalogFamily::kShard)) {
      continue;
    }
    proto::ShardRecord record;
    if (!op.value.has_value()) {
      by_shard_.erase(op.key);
    } else if (record.ParseFromString(*op.value)) {
      by_shard_[op.key] = record.sidecar().layout_hash();
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
  std::set<std::string> used;
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
