#include "client/slot_table.h"

#include <set>
#include <string>
#include <utility>

namespace holdfast::client {
namespace {

std::string Text(SlotRef ref) {
  return "slot " + std::to_string(ref.slot) + "." + std::to_string(ref.generation);
}

// A snapshot of the slot is under way: its bytes are the copy's.
bool IsBusy(SlotUse use) {
  return use == SlotUse::kFilling || use == SlotUse::kDraining;
}

}  // namespace

Status SlotTable::AddGranted(SlotRef ref,
                             std::uint32_t layout_generation,
                             std::shared_ptr<SlotMapping> mapping,
                             Mappings* dropped) {
  const auto same = entries_.find(ref);
  if (same != entries_.end() && same->second.use != SlotUse::kLent) {
    return Error(Errc::kCorruption, "holdfastd granted " + Text(ref) + " while it is in use");
  }
  // Another file under the same number: the daemon replaced it, the old one is nobody's.
  for (auto entry = entries_.begin(); entry != entries_.end();) {
    const bool replaced = entry->first.slot == ref.slot &&
                          (entry->second.use == SlotUse::kLent || entry->first == ref);
    if (replaced) {
      dropped->push_back(std::move(entry->second.mapping));
    }
    entry = replaced ? entries_.erase(entry) : std::next(entry);
  }
  if (entries_.size() >= kMaxSlots) {
    return Error(Errc::kCorruption,
                 "holdfastd granted more than " + std::to_string(kMaxSlots) + " slots to one rank");
  }
  entries_.emplace(ref, Entry{std::move(mapping), SlotUse::kPreparing, layout_generation});
  return Ok();
}

Result<std::shared_ptr<SlotMapping>> SlotTable::GrantAgain(SlotRef ref,
                                                           std::uint32_t layout_generation) {
  const auto found = entries_.find(ref);
  if (found == entries_.end()) {
    return Error(Errc::kCorruption,
                 "holdfastd granted " + Text(ref) + " without descriptor, and it is not mapped");
  }
  Entry& entry = found->second;
  if (IsBusy(entry.use)) {
    // A grant that crossed a resume: it was taken from what the resume kept.
    return std::shared_ptr<SlotMapping>();
  }
  entry.layout_generation = layout_generation;
  if (entry.use != SlotUse::kLent) {
    return std::shared_ptr<SlotMapping>();
  }
  entry.use = SlotUse::kPreparing;
  return entry.mapping;
}

std::vector<SlotTable::Mapped> SlotTable::TakeUnpinned() {
  std::vector<Mapped> taken;
  for (auto& [ref, entry] : entries_) {
    if (entry.use == SlotUse::kGranted && !entry.mapping->PinTried()) {
      entry.use = SlotUse::kPreparing;
      entry.was_ready = false;
      taken.push_back(Mapped{ref, entry.mapping});
    }
  }
  return taken;
}

void SlotTable::MarkReady(SlotRef ref) {
  const auto found = entries_.find(ref);
  if (found != entries_.end() && found->second.use == SlotUse::kPreparing) {
    found->second.use = SlotUse::kGranted;
    found->second.was_ready = true;
  }
}

SlotTable::Progress SlotTable::Readiness() const {
  Progress progress;
  for (const auto& [ref, entry] : entries_) {
    progress.ready += entry.was_ready ? 1 : 0;
    progress.preparing += entry.was_ready ? 0 : 1;
  }
  return progress;
}

std::optional<SlotRef> SlotTable::Take(std::uint32_t layout_generation,
                                       ByteCount bytes,
                                       std::int64_t step) {
  for (auto& [ref, entry] : entries_) {
    if (entry.use == SlotUse::kGranted && entry.layout_generation == layout_generation &&
        entry.mapping->Size() >= bytes) {
      entry.use = SlotUse::kFilling;
      entry.step = step;
      return ref;
    }
  }
  return std::nullopt;
}

bool SlotTable::HasGranted(std::uint32_t layout_generation, ByteCount bytes) const {
  for (const auto& [ref, entry] : entries_) {
    if (entry.use == SlotUse::kGranted && entry.layout_generation == layout_generation &&
        entry.mapping->Size() >= bytes) {
      return true;
    }
  }
  return false;
}

void SlotTable::MarkDraining(SlotRef ref, std::int64_t step) {
  const auto found = entries_.find(ref);
  if (found != entries_.end() && found->second.use == SlotUse::kFilling &&
      found->second.step == step) {
    found->second.use = SlotUse::kDraining;
  }
}

bool SlotTable::IsDraining(SlotRef ref, std::int64_t step) const {
  const auto found = entries_.find(ref);
  return found != entries_.end() && found->second.use == SlotUse::kDraining &&
         found->second.step == step;
}

std::shared_ptr<SlotMapping> SlotTable::MarkLent(SlotRef ref, std::int64_t step) {
  const auto found = entries_.find(ref);
  const bool mine =
      found != entries_.end() && found->second.step == step && IsBusy(found->second.use);
  if (!mine) {
    return nullptr;
  }
  found->second.use = SlotUse::kLent;
  found->second.step = -1;
  return found->second.mapping;
}

void SlotTable::Drop(SlotRef ref, Mappings* dropped) {
  const auto found = entries_.find(ref);
  if (found != entries_.end()) {
    dropped->push_back(std::move(found->second.mapping));
    entries_.erase(found);
  }
}

void SlotTable::DropAll(Mappings* dropped) {
  for (auto& [ref, entry] : entries_) {
    dropped->push_back(std::move(entry.mapping));
  }
  entries_.clear();
}

std::vector<proto::HeldSlot> SlotTable::Held(std::uint32_t layout_generation) const {
  std::vector<proto::HeldSlot> held;
  for (const auto& [ref, entry] : entries_) {
    const bool busy = IsBusy(entry.use);
    if (entry.use == SlotUse::kLent || (!busy && entry.layout_generation != layout_generation)) {
      continue;
    }
    proto::HeldSlot slot;
    slot.set_slot(ref.slot);
    slot.set_generation(ref.generation);
    if (busy) {
      slot.set_use(entry.use == SlotUse::kFilling ? proto::HeldSlot::FILLING
                                                  : proto::HeldSlot::DRAINING);
      slot.set_step(entry.step);
    } else {
      slot.set_use(proto::HeldSlot::IDLE);
    }
    held.push_back(std::move(slot));
  }
  return held;
}

void SlotTable::KeepOnly(const google::protobuf::RepeatedPtrField<proto::HeldSlot>& kept,
                         std::uint32_t old_generation,
                         std::uint32_t new_generation,
                         Mappings* dropped) {
  std::set<SlotRef> names;
  for (const proto::HeldSlot& slot : kept) {
    names.insert(SlotRef{slot.slot(), slot.generation()});
  }
  for (auto entry = entries_.begin(); entry != entries_.end();) {
    const bool keep = names.count(entry->first) > 0 && entry->second.use != SlotUse::kLent;
    if (!keep) {
      dropped->push_back(std::move(entry->second.mapping));
      entry = entries_.erase(entry);
      continue;
    }
    // Generation 0 is no layout: the slot waits for its next grant.
    const bool current = entry->second.layout_generation == old_generation;
    entry->second.layout_generation = current ? new_generation : 0;
    ++entry;
  }
}

std::shared_ptr<SlotMapping> SlotTable::MappingOf(SlotRef ref) const {
  const auto found = entries_.find(ref);
  return found == entries_.end() ? nullptr : found->second.mapping;
}

}  // namespace holdfast::client
