// Making the rows of the id that the coordinator protects (docs/peers.md).

#include <algorithm>
#include <set>
#include <utility>

#include "common/crc32c.h"
#include "common/units.h"
#include "daemon/core/member.h"

namespace holdfast::daemon {

void Member::TryRow(const ProtectTarget& target,
                    const CodeSet& set,
                    std::uint32_t position,
                    std::uint32_t row) {
  const RowName name = NameOf(set, row);
  const auto held = job_->rows.find(target.id);
  RowTry& attempt = row_tries_[{target.id, name}];
  if (held != job_->rows.end() && held->second.contains(name)) {
    row_tries_.erase({target.id, name});
    return;
  }
  if (attempt.ticket != 0 || context_->now < attempt.retry.not_before) {
    return;
  }
  attempt.set = set;
  attempt.token = target.token;
  const Result<ec::Stripes> stripes = ec::Stripes::Make(set.geometry);
  const std::uint32_t stripe = set.StripeOfRow(position, row);
  attempt.length_bytes = stripes.has_value() ? stripes.value().RowLength(stripe) : 0;
  if (attempt.length_bytes == 0) {
    RecordRow({target.id, name}, {});  // nobody has a byte in that stripe
    return;
  }
  if (!TakeRowSlot(&attempt)) {
    return;
  }
  Slot* slot = context_->slots.Find(*attempt.slot);
  if (slot->phase != SlotPhase::kFree) {
    return;  // its file is being made
  }
  context_->slots.Apply(slot, SlotEvent::kMake, context_->batch());
  StartRow(target, name, stripe, &attempt);
}

void Member::StartRow(const ProtectTarget& target,
                      const RowName& name,
                      std::uint32_t stripe,
                      RowTry* attempt) {
  MakeRow make;
  make.ticket = context_->next_ticket++;
  make.job_uid = job_->uid();
  make.job_name = job_->record.name();
  make.id = target.id;
  make.set = attempt->set;
  make.stripe = stripe;
  make.row = name.row;
  make.way = attempt->failures > 0 ? MakeRow::Way::kRebuild
             : name.row == 0       ? MakeRow::Way::kEncode
                                   : MakeRow::Way::kPull;
  make.slot = *attempt->slot;
  make.length_bytes = attempt->length_bytes;
  for (std::uint32_t position = 0; position < make.set.Count(); ++position) {
    const proto::Sidecar* sidecar =
        make.set.HasShard(position)
            ? job_->FindSidecar(target.id, make.set.ranks[position], target.token)
            : nullptr;
    make.sidecars.push_back(sidecar == nullptr ? proto::Sidecar() : *sidecar);
  }
  attempt->ticket = make.ticket;
  context_->Do(std::move(make));
}

// The bill has two rows of each place (docs/peers.md); more only where nobody is promised the
// memory.
bool Member::TakeRowSlot(RowTry* attempt) {
  if (attempt->slot.has_value() && context_->slots.Find(*attempt->slot) != nullptr) {
    return true;
  }
  const std::uint64_t capacity = CapacityFor(attempt->set.geometry.segment_bytes);
  std::set<SlotRef> taken;
  for (const auto& [key, other] : row_tries_) {
    if (other.slot.has_value()) {
      taken.insert(*other.slot);
    }
  }
  std::vector<SlotRef> idle;
  std::uint64_t owned = 0;
  context_->slots.ForEach([&](Slot* slot) {
    const bool mine = slot->parity && slot->job == job_->uid();
    owned += mine ? slot->capacity_bytes : 0;
    if (mine && slot->phase == SlotPhase::kFree && !taken.contains(slot->ref)) {
      idle.push_back(slot->ref);
    }
  });
  for (const SlotRef& ref : idle) {
    const Slot* slot = context_->slots.Find(ref);
    if (slot->capacity_bytes == capacity && !slot->spoilt) {
      attempt->slot = ref;
      return true;
    }
  }
  for (const SlotRef& ref : idle) {
    owned -= context_->slots.Find(ref)->capacity_bytes;
    DropFile(ref);  // of other lengths, or bad
  }
  if (context_->slots.free_bytes() < capacity) {
    DropFreeSlotsOfAbsentRanks();
  }
  std::uint64_t needed = capacity;
  if (owned + capacity > ParityBill()) {
    needed += ReservedBytes() + (hooks_.reserved_by_others ? hooks_.reserved_by_others(this) : 0);
  }
  const bool fits = context_->slots.free_bytes() >= needed ||
                    (DropGrowth() && context_->slots.free_bytes() >= needed);
  if (!fits) {
    parity_error_ = "the arena has no room for another parity row of " + FormatBytes(capacity) +
                    ": " + FormatBytes(context_->slots.free_bytes()) + " free";
    attempt->retry.Failed(context_->now, context_->options);
    return false;
  }
  Slot* slot = context_->slots.CreateForParity(capacity, job_->uid(), context_->batch());
  attempt->slot = slot->ref;
  PrepareSlot prepare;
  prepare.slot = slot->ref;
  prepare.capacity_bytes = capacity;
  prepare.create = prepare.plain = true;
  context_->Do(std::move(prepare));
  return true;
}

bool Member::OnRowMade(std::uint64_t ticket, Result<std::vector<std::uint32_t>> digests) {
  const auto it = std::find_if(row_tries_.begin(), row_tries_.end(), [&](const auto& entry) {
    return entry.second.ticket == ticket && ticket != 0;
  });
  if (it == row_tries_.end()) {
    return EndMaking(ticket);
  }
  RowTry& attempt = it->second;
  attempt.ticket = 0;
  if (digests.has_value() && digests.value().size() == ChunkCount(attempt.length_bytes)) {
    parity_error_.clear();
    RecordRow(it->first, std::move(digests).value());
    return true;
  }
  context_->slots.Apply(
      context_->slots.Find(*attempt.slot), SlotEvent::kMakeEnded, context_->batch());
  attempt.slot.reset();
  ++attempt.failures;
  attempt.retry.Failed(context_->now, context_->options);
  parity_error_ = "a row of " + ToText(it->first.first) + ": " +
                  (digests.has_value() ? "its digests do not cover it" : digests.error().message);
  return true;
}

// From here on it counts: slot and record are in one batch, synced before any report shows it.
void Member::RecordRow(const RowTryKey& key, std::vector<std::uint32_t> digests) {
  const RowTry& attempt = row_tries_.at(key);
  Row row;
  row.set = attempt.set;
  row.record.set_row(key.second.row);
  row.record.set_start_token(attempt.token);
  row.record.set_length_bytes(attempt.length_bytes);
  row.record.mutable_chunk_crc32c()->Add(digests.begin(), digests.end());
  if (attempt.length_bytes > 0) {
    row.slot = attempt.slot;
    context_->slots.Apply(
        context_->slots.Find(*attempt.slot), SlotEvent::kSealRecorded, context_->batch());
  }
  const SnapshotKey id = key.first;
  row_tries_.erase(key);
  job_->PutRow(context_, id, std::move(row));
}

// What is under way for anything else ends; its memory is free when nothing writes to it any more.
void Member::GiveUpOtherRows(const ProtectTarget* target) {
  const auto wanted = [&](const RowTryKey& key) {
    return target != nullptr && target->id == key.first && !target->sets.empty() &&
           target->sets.front().epoch == key.second.epoch &&
           target->sets.front().geometry.version == key.second.version;
  };
  std::erase_if(row_tries_, [&](const auto& entry) {
    if (wanted(entry.first)) {
      return false;
    }
    if (entry.second.ticket != 0) {
      GiveUpMaking(entry.second.ticket, *entry.second.slot);
    }
    return true;
  });
  if (sidecar_fetch_.ticket != 0 && (target == nullptr || target->id != sidecar_fetch_.id)) {
    context_->Do(CancelMaking{sidecar_fetch_.ticket});
    sidecar_fetch_ = {};
  }
}

void Member::GiveUpMaking(std::uint64_t ticket, SlotRef slot) {
  context_->Do(CancelMaking{ticket});
  given_up_[ticket] = slot;
}

// True where the ticket was one that had been given up.
bool Member::EndMaking(std::uint64_t ticket) {
  const auto it = given_up_.find(ticket);
  if (it == given_up_.end()) {
    return false;
  }
  if (Slot* slot = context_->slots.Find(it->second);
      slot != nullptr && slot->phase == SlotPhase::kMaking) {
    context_->slots.Apply(slot, SlotEvent::kMakeEnded, context_->batch());
  }
  given_up_.erase(it);
  return true;
}

}  // namespace holdfast::daemon
