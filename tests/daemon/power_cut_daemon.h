// A daemon of two ranks on disks that lose power: the real core, catalog and persistent tier.
//
// Carries out Readys as action.h promises, one thing at a time, and plays the two trainers.  Memory
// (slots and their images) goes with the power, as the arena does.
//
// Threads: one.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include <rocksdb/env.h>

#include "daemon/core/node_core.h"
#include "storage_tiers/catalog.h"
#include "storage_tiers/persistent_tier.h"
#include "tests/support/power_cut_file_system.h"
#include "tests/support/rocksdb_power_cut.h"

namespace holdfast::daemon {

// What the two disks hold, and the power that both hang on.
struct PowerCutDisks {
  explicit PowerCutDisks(const std::string& catalog_folder);

  // From the first step after a cut on either disk both are off.
  [[nodiscard]] bool off() const { return tier_fs.power_is_off() || catalog_fs->off(); }

  std::string folder;  // of the catalog, real
  std::shared_ptr<holdfast::PowerCutFileSystem> catalog_fs;
  std::unique_ptr<rocksdb::Env> env;
  holdfast::testing::PowerCutFileSystem tier_fs;
};

class PowerCutDaemon {
 public:
  // "tier_fs" may be of other disks: a tier outlives the node.
  PowerCutDaemon(PowerCutDisks* disks, storage_tiers::FileSystem* tier_fs);
  ~PowerCutDaemon();

  // False once the power is off, here and below.
  bool Start();
  // Both ranks open, register, restore and load.
  bool StartJob();
  // Both begin and seal; then whatever became due is carried out.
  bool Step(std::int64_t step);

  // What restore() gave to both ranks; nothing: a fresh start.
  [[nodiscard]] const std::optional<SnapshotKey>& restored() const { return restored_; }

  [[nodiscard]] const std::string& restore_error() const { return restore_error_; }

  // The newest that rank 0 was told to be durable.
  [[nodiscard]] const std::optional<SnapshotKey>& durable() const { return durable_; }

  [[nodiscard]] storage_tiers::CatalogContents Records();

  storage_tiers::PersistentTier& tier() { return tier_; }

  // How often a flush brought the static image of rank 1.
  [[nodiscard]] int static_images_written() const { return static_images_written_; }

 private:
  struct Trainer {
    SessionId session = 0;
    std::uint64_t token = 0;
    std::optional<SlotRef> granted;
    std::optional<SlotRef> frozen;  // the slot of its static image
    bool frozen_is_sealed = false;
    std::optional<SnapshotKey> told;
    std::uint32_t attempt = 0;
    bool asked_nothing = false;
    bool returned = false;
  };

  bool Request(Rank rank, proto::ClientMessage message);
  bool CarryOut();
  bool TakeOne();
  void Receive(const Send& send);
  void Load(Rank rank);

  void Do(const Send& action) { Receive(action); }

  void Do(const CloseSession&) {}

  void Do(const PrepareSlot& action);

  void Do(const RemoveSlot& action) { memory_.erase(action.slot); }

  void Do(const QuarantineSlot& action);

  void Do(const DigestSlot&) {}

  void Do(const VerifySlot&) {}

  void Do(const ClaimIncarnation& action);
  void Do(const WriteIncarnation& action);
  void Do(const ListTier& action);
  void Do(const OpenShardFile& action);

  void Do(const CloseShardFile&) {}

  void Do(const FlushShard& action);

  void Do(const CancelFlush&) {}

  void Do(const SendReport&) {}

  void Do(const SendCommand&) {}

  void Do(const AnswerPeer&) {}

  void Do(const PublishManifest& action);
  void Do(const DeleteDurable& action);

  PowerCutDisks* const disks_;
  storage_tiers::PersistentTier tier_;
  std::unique_ptr<storage_tiers::Catalog> catalog_;
  std::unique_ptr<NodeCore> core_;
  std::map<SlotRef, std::string> memory_;
  std::map<std::pair<SnapshotKey, Rank>, std::vector<proto::ManifestFile>> flushed_;
  std::deque<std::function<void()>> answers_;
  Trainer trainers_[2];
  std::uint64_t sessions_ = 0;
  std::uint64_t number_ = 0;
  std::uint64_t token_ = 0;
  std::optional<SnapshotKey> restored_;
  std::optional<SnapshotKey> durable_;
  std::string restore_error_;
  int static_images_written_ = 0;
  MonotonicTime now_{std::chrono::hours(1)};
};

}  // namespace holdfast::daemon
