#include "daemon/core/slot_table.h"

#include <algorithm>
#include <utility>

#include "common/check.h"

namespace holdfast::daemon {
namespace {

SlotPhase PhaseOfRecord(proto::SlotState state) {
  switch (state) {
    case proto::SLOT_HANDED_OUT:
      return SlotPhase::kLimbo;
    case proto::SLOT_SEALED:
      return SlotPhase::kSealed;
    case proto::SLOT_QUARANTINED:
      return SlotPhase::kQuarantined;
    default:
      return SlotPhase::kFree;
  }
}

// A slot that is being filled or drained is recorded as handed out: after a crash nobody may take
// it for free.
proto::SlotState StateOfPhase(SlotPhase phase) {
  switch (phase) {
    case SlotPhase::kPreparing:
    case SlotPhase::kFree:
    case SlotPhase::kMaking:  // the daemon that wrote is dead then, and nobody else can
      return proto::SLOT_FREE;
    case SlotPhase::kSealed:
      return proto::SLOT_SEALED;
    case SlotPhase::kQuarantined:
      return proto::SLOT_QUARANTINED;
    default:
      return proto::SLOT_HANDED_OUT;
  }
}

}  // namespace

SlotTable::SlotTable(Identity identity, std::uint64_t budget_bytes)
    : identity_(std::move(identity)), budget_bytes_(budget_bytes) {}

Slot* SlotTable::Recover(const proto::SlotRecord& record, const LayoutFacts* layout) {
  Slot slot;
  slot.ref = {record.slot(), record.generation()};
  slot.capacity_bytes = record.capacity_bytes();
  slot.phase = PhaseOfRecord(record.state());
  slot.job = record.job_uid();
  slot.rank = record.rank();
  slot.epoch_number = record.epoch_number();
  slot.session_token = record.session_token();
  slot.pid = record.pid();
  // A free slot may have died in the middle of being prepared: its header is written again.
  slot.kind = record.kind();
  slot.parity = record.purpose() == proto::SLOT_PARITY;
  if (slot.phase != SlotPhase::kFree && layout != nullptr) {
    slot.layout_hash = record.layout_hash();
    slot.image_bytes = slot.kind == proto::STATIC ? layout->static_bytes : layout->image_bytes;
    slot.static_hash = layout->static_hash;
  }
  // Its record says all of a static image; a layout before the present one may be forgotten.
  slot.static_hash = slot.kind == proto::STATIC ? record.static_hash() : slot.static_hash;
  if (slot.phase == SlotPhase::kSealed) {
    slot.static_image = record.static_image();
  }
  next_number_ = std::max(next_number_, record.slot() + 1);
  used_bytes_ += slot.capacity_bytes;
  return &slots_.insert_or_assign(slot.ref, std::move(slot)).first->second;
}

Slot* SlotTable::Create(std::uint64_t capacity_bytes,
                        const JobUid& job,
                        Rank rank,
                        storage_tiers::CatalogBatch* batch,
                        proto::ImageKind kind,
                        const std::string& static_hash) {
  Slot slot;
  slot.kind = kind;
  slot.static_hash = static_hash;
  slot.job = job;
  slot.rank = rank;
  slot.capacity_bytes = capacity_bytes;
  return Add(std::move(slot), batch);
}

Slot* SlotTable::CreateForParity(std::uint64_t capacity_bytes,
                                 const JobUid& job,
                                 storage_tiers::CatalogBatch* batch) {
  Slot slot;
  slot.parity = true;
  slot.job = job;
  slot.capacity_bytes = capacity_bytes;
  return Add(std::move(slot), batch);
}

Slot* SlotTable::Add(Slot slot, storage_tiers::CatalogBatch* batch) {
  slot.ref = {next_number_++, identity_.boot_number};
  used_bytes_ += slot.capacity_bytes;
  Slot* kept = &slots_.emplace(slot.ref, std::move(slot)).first->second;
  Record(*kept, batch);
  return kept;
}

Slot* SlotTable::Find(SlotRef ref) {
  const auto it = slots_.find(ref);
  return it == slots_.end() ? nullptr : &it->second;
}

const Slot* SlotTable::Find(SlotRef ref) const {
  const auto it = slots_.find(ref);
  return it == slots_.end() ? nullptr : &it->second;
}

bool SlotTable::Allows(const Slot& slot, SlotEvent event) {
  return Next(slot.phase, event).has_value();
}

void SlotTable::Apply(Slot* slot, SlotEvent event, storage_tiers::CatalogBatch* batch) {
  const auto next = Next(slot->phase, event);
  HOLDFAST_CHECK(next.has_value());
  const bool recorded_otherwise = StateOfPhase(slot->phase) != StateOfPhase(*next);
  slot->phase = *next;
  if (recorded_otherwise || event == SlotEvent::kGrant || event == SlotEvent::kReturned) {
    Record(*slot, batch);
  }
}

void SlotTable::Remove(SlotRef ref, storage_tiers::CatalogBatch* batch) {
  const auto it = slots_.find(ref);
  if (it == slots_.end()) {
    return;
  }
  used_bytes_ -= it->second.capacity_bytes;
  slots_.erase(it);
  // A record is kept by the number alone, and a file without record may have the number of another.
  const auto same_number = slots_.lower_bound({ref.slot, 0});
  if (same_number == slots_.end() || same_number->first.slot != ref.slot) {
    batch->DeleteSlot(ref.slot);
  }
}

void SlotTable::ForEach(const std::function<void(Slot*)>& visit) {
  for (auto& [ref, slot] : slots_) {
    visit(&slot);
  }
}

void SlotTable::ForEach(const std::function<void(const Slot&)>& visit) const {
  for (const auto& [ref, slot] : slots_) {
    visit(slot);
  }
}

void SlotTable::Record(const Slot& slot, storage_tiers::CatalogBatch* batch) const {
  proto::SlotRecord record;
  record.set_slot(slot.ref.slot);
  record.set_generation(slot.ref.generation);
  record.set_capacity_bytes(slot.capacity_bytes);
  record.set_state(StateOfPhase(slot.phase));
  record.set_arena_uuid(identity_.arena_uuid);
  record.set_boot_id(identity_.boot_id);
  record.set_job_uid(slot.job);
  record.set_rank(slot.rank);
  record.set_epoch_number(slot.epoch_number);
  record.set_session_token(slot.session_token);
  record.set_pid(slot.pid);
  record.set_layout_hash(slot.layout_hash);
  record.set_kind(slot.kind);
  record.set_purpose(slot.parity ? proto::SLOT_PARITY : proto::SLOT_IMAGE);
  if (slot.kind == proto::STATIC) {
    record.set_static_hash(slot.static_hash);
  }
  if (slot.kind == proto::STATIC && slot.phase == SlotPhase::kSealed) {
    *record.mutable_static_image() = slot.static_image;
  }
  batch->PutSlot(record);
}

}  // namespace holdfast::daemon
