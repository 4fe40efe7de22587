// Every slot of the node's arena, its state, and the budget.
//
// The budget counts the files: free, in use and quarantined alike (I9).  The table changes states
// and records; what to do about it (actions) is decided by its callers.
//
// Threads:   io thread only.
// Ownership: owns the slots; pointers stay valid until that slot is removed.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "daemon/core/ids.h"
#include "daemon/core/layout_facts.h"
#include "daemon/core/states.h"
#include "proto/catalog.pb.h"
#include "storage_tiers/catalog_batch.h"

namespace holdfast::daemon {

struct Slot {
  SlotRef ref;
  std::uint64_t capacity_bytes = 0;
  SlotPhase phase = SlotPhase::kPreparing;
  // Who has it, or had it last: a free slot goes only to the same rank of the same job.
  JobUid job;
  Rank rank = 0;
  std::uint64_t epoch_number = 0;
  std::uint64_t session_token = 0;  // of the last client that could write; 0: none ever did
  std::int32_t pid = 0;
  Step step = kNoStep;                     // of kFilling, kSealing, kDraining
  proto::ImageKind kind = proto::DYNAMIC;  // which image of its layout it holds
  bool parity = false;                     // for rows: no rank's, never granted, without a header
  std::string layout_hash;                 // whose header stands at its start; empty: unknown
  std::uint64_t image_bytes = 0;           // of its image of that layout
  std::string static_hash;  // of that layout, in slots of both kinds; empty: no static image
  proto::ImageDigest static_image;  // of STATIC and kSealed: as in the SlotRecord
  std::uint32_t pins = 0;           // readers: it stays sealed while there are any
  bool digesting = false;           // the runtime reads it: not free before the digest ends
  bool spoilt = false;  // its bytes were bad or its file was cut: once free, quarantined
};

class SlotTable {
 public:
  struct Identity {
    std::string arena_uuid;
    std::string boot_id;
    std::uint64_t boot_number = 0;
  };

  SlotTable(Identity identity, std::uint64_t budget_bytes);

  // Takes over a recorded slot at start.  The caller has checked file, arena and boot.
  // "layout" is that of the record, nullptr where it is not known any more.
  Slot* Recover(const proto::SlotRecord& record, const LayoutFacts* layout);

  // A new slot of that rank in kPreparing, with a number that no other slot ever had.  The caller
  // has checked that the budget allows it.
  Slot* Create(std::uint64_t capacity_bytes,
               const JobUid& job,
               Rank rank,
               storage_tiers::CatalogBatch* batch,
               proto::ImageKind kind = proto::DYNAMIC,
               const std::string& static_hash = {});

  // The same for a parity row: a slot of the job, of no rank.
  Slot* CreateForParity(std::uint64_t capacity_bytes,
                        const JobUid& job,
                        storage_tiers::CatalogBatch* batch);

  // nullptr where (slot, generation) is not known.
  Slot* Find(SlotRef ref);
  const Slot* Find(SlotRef ref) const;

  // Whether the table of states.h allows the event now: to be asked first for what clients send.
  static bool Allows(const Slot& slot, SlotEvent event);

  // Changes the state and records it.  An event that is not allowed is a bug.
  void Apply(Slot* slot, SlotEvent event, storage_tiers::CatalogBatch* batch);

  // Forgets the slot (its file is being removed) and its record.
  void Remove(SlotRef ref, storage_tiers::CatalogBatch* batch);

  void ForEach(const std::function<void(Slot*)>& visit);
  void ForEach(const std::function<void(const Slot&)>& visit) const;

  std::uint64_t budget_bytes() const { return budget_bytes_; }

  std::uint64_t used_bytes() const { return used_bytes_; }

  std::uint64_t free_bytes() const {
    return used_bytes_ < budget_bytes_ ? budget_bytes_ - used_bytes_ : 0;
  }

  const Identity& identity() const { return identity_; }

 private:
  Slot* Add(Slot slot, storage_tiers::CatalogBatch* batch);
  void Record(const Slot& slot, storage_tiers::CatalogBatch* batch) const;

  Identity identity_;
  std::uint64_t budget_bytes_;
  std::uint64_t used_bytes_ = 0;
  SlotNumber next_number_ = 1;
  std::map<SlotRef, Slot> slots_;
};

}  // namespace holdfast::daemon
