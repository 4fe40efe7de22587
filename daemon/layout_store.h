// Layouts under their hashes: taken from registrations, kept in the catalog once for all snapshots
// that share them, given back with sidecars that leave this daemon.
//
// The order that makes it safe: a layout is staged before the core hears of the registration that
// brought it, and the pump writes staged layouts with the next batch.  So no record of a shard can
// be on disk whose layout is not (the sidecar could not be written to a tier, nor a restore
// placed).
//
// Threads:   the io thread only.
// Ownership: layouts are shared and constant; a pipeline that uses one keeps it.
// Errors:    Find gives nothing for an unknown hash.
// Lifecycle: construct from the catalog's contents; unused layouts are deleted by CollectUnused.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>

#include "daemon/core/ids.h"
#include "proto/catalog.pb.h"
#include "proto/manifest.pb.h"
#include "storage_tiers/catalog_batch.h"

namespace holdfast::daemon {

using SharedLayout = std::shared_ptr<const proto::Layout>;

class LayoutStore {
 public:
  LayoutStore() = default;
  LayoutStore(const LayoutStore&) = delete;
  LayoutStore& operator=(const LayoutStore&) = delete;

  // From the catalog, at start.
  void Recover(std::string hash, proto::Layout layout);

  // A registration of "session" brought a layout that was validated and has this hash.  It is kept
  // while the session lives, whatever the core decides.
  void Stage(SessionId session, const std::string& hash, SharedLayout layout);

  // The layout of a shard that another node holds, before its sidecar is recorded here: written
  // with the next batch, which is that of the sidecar or an earlier one.
  void StageForeign(const std::string& hash, SharedLayout layout);

  [[nodiscard]] SharedLayout Find(const std::string& hash) const;

  void OnSessionEnded(SessionId session) { by_session_.erase(session); }

  // The slot's header is of this layout; a slot that is removed needs none.
  void OnSlotPrepared(SlotRef slot, const std::string& hash) { by_slot_[slot] = hash; }

  void OnSlotRemoved(SlotRef slot) { by_slot_.erase(slot); }

  // Learns from the batch which shards came and went, and adds what must be written with it.
  void AddRecords(storage_tiers::CatalogBatch* batch);

  // The next batch deletes the layouts that no shard, session or slot uses at that moment.
  void CollectUnused() { collect_ = true; }

  // Records of the catalog, at start.
  void RecoverShard(const proto::ShardRecord& record);
  void RecoverSlot(const proto::SlotRecord& record);
  void RecoverSidecar(const proto::SidecarRecord& record);

  [[nodiscard]] std::size_t size() const { return layouts_.size(); }

 private:
  void Note(const storage_tiers::CatalogBatch& batch);
  [[nodiscard]] std::set<std::string> Used() const;
  void AddDeletions(storage_tiers::CatalogBatch* batch);

  std::map<std::string, SharedLayout> layouts_;
  std::set<std::string> unwritten_;
  bool collect_ = false;
  // Who uses which hash.  Shards and sidecars by their catalog keys.
  std::map<std::string, std::string> by_shard_;
  std::map<SessionId, std::set<std::string>> by_session_;
  std::map<SlotRef, std::string> by_slot_;
  std::set<std::string> foreign_;  // staged, and their sidecars are not recorded yet
};

}  // namespace holdfast::daemon
