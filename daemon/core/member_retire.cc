// What a rank keeps no longer: retirement, and giving memory back.

#include <algorithm>

#include "common/check.h"
#include "daemon/core/member.h"

namespace holdfast::daemon {

void Member::FreeShard(const SnapshotKey& id, Rank rank) {
  const Shard* shard = job_->FindShard(id, rank);
  Slot* slot = context_->slots.Find(shard->slot);
  HOLDFAST_CHECK(slot != nullptr && slot->pins == 0);
  context_->slots.Apply(slot, SlotEvent::kRetire, context_->batch());
  slot->step = kNoStep;
  const Slot* image =
      shard->static_slot.has_value() ? context_->slots.Find(*shard->static_slot) : nullptr;
  // Wrong bytes of the static image are not this slot's fault.
  const bool own_fault = shard->poisoned && (image == nullptr || !image->spoilt);
  slot->spoilt = slot->spoilt || own_fault;
  job_->EraseShard(context_, id, rank);
}

std::optional<SnapshotKey> Member::NewestCompleteOfEpoch() const {
  for (auto it = job_->shards.rbegin(); it != job_->shards.rend(); ++it) {
    // One that was found bad since must not let an older one be freed (I4).
    if (it->first.incarnation == job_->record.epoch_number() && job_->IsComplete(it->first) &&
        job_->IsSound(it->first)) {
      return it->first;
    }
  }
  return std::nullopt;
}

// What lets older ids of this incarnation go: with groups only what is protected at full margin.
std::optional<SnapshotKey> Member::NewestSafe() const {
  if (!command_.coded) {
    return NewestCompleteOfEpoch();
  }
  const auto& safe = command_.protected_id;
  const bool of_now = safe.has_value() && safe->incarnation == job_->record.epoch_number();
  return of_now ? safe : std::nullopt;
}

bool Member::NeedsForProtection(const SnapshotKey& id) const {
  return command_.coded && (!command_.protected_id.has_value() || *command_.protected_id <= id);
}

// I4: a complete snapshot goes only when a newer one of this history is complete, with groups
// protected.  Remains of older
// incarnations go once the restore is committed, but for its base and its fallback, which the base
// needs until it is protected; all stay while it is open which id that is.
bool Member::MayRetire(const SnapshotKey& id, const std::optional<SnapshotKey>& newest) const {
  if (id.incarnation == job_->record.epoch_number()) {
    return job_->IsAbandoned(id) || command_.lost.contains(id) ||
           (newest.has_value() && id < *newest && job_->IsComplete(id));
  }
  // With two slots a base and a fallback in memory would leave none to train with (L).
  const bool kept = job_->IsBaseOrFallback(id) && !job_->IsFallbackOnTier(id);
  const bool base_is_safe =
      command_.coded && command_.protected_id.has_value() && *command_.protected_id != id;
  return newest.has_value() || ((!kept || base_is_safe) && !job_->FallbackIsOpen());
}

void Member::Retire() {
  RetireRows();
  const auto newest = NewestSafe();
  std::vector<std::pair<SnapshotKey, Rank>> victims;
  for (const auto& [id, by_rank] : job_->shards) {
    if (!MayRetire(id, newest) || MustFlush(id)) {
      continue;
    }
    for (const auto& [rank, shard] : by_rank) {
      const Slot* slot = context_->slots.Find(shard.slot);
      if (slot != nullptr && slot->pins == 0) {
        victims.emplace_back(id, rank);
      }
    }
  }
  for (const auto& [id, rank] : victims) {
    FreeShard(id, rank);
  }
}

std::uint64_t Member::FreeAll() {
  std::uint64_t freed = 0;
  std::vector<std::pair<SnapshotKey, Rank>> shards;
  for (const auto& [id, by_rank] : job_->shards) {
    for (const auto& [rank, shard] : by_rank) {
      const Slot* slot = context_->slots.Find(shard.slot);
      if (slot != nullptr && slot->pins == 0) {
        shards.emplace_back(id, rank);
      }
    }
  }
  for (const auto& [id, rank] : shards) {
    FreeShard(id, rank);
  }
  while (!job_->rows.empty()) {
    FreeParity(SnapshotKey(job_->rows.begin()->first));
  }
  while (!job_->sidecars.empty()) {
    job_->EraseSidecars(context_, SnapshotKey(job_->sidecars.begin()->first));
  }
  const std::uint64_t before = ArenaBytes();
  DropIdleStatics(/*also_in_use=*/true);
  freed += before - ArenaBytes();
  std::vector<SlotRef> free;
  context_->slots.ForEach([&](Slot* slot) {
    if (slot->job == job_->uid() && slot->phase == SlotPhase::kFree) {
      free.push_back(slot->ref);
      freed += slot->capacity_bytes;
    }
  });
  for (const SlotRef& ref : free) {
    DropFile(ref);
  }
  return freed;
}

bool Member::OnFinished(Rank rank) {
  std::vector<Slot*> slots = SlotsOf(rank);
  const std::vector<Slot*> statics = SlotsOf(rank, proto::STATIC);
  slots.insert(slots.end(), statics.begin(), statics.end());
  for (Slot* slot : slots) {
    if (SlotTable::Allows(*slot, SlotEvent::kReturned)) {
      context_->slots.Apply(slot, SlotEvent::kReturned, context_->batch());
    }
  }
  ranks_.at(rank).static_slot.reset();
  ranks_.at(rank).layout_hash.clear();  // no grant until it registers a layout again
  ranks_.at(rank).finished = true;
  return std::all_of(
      ranks_.begin(), ranks_.end(), [](const auto& entry) { return entry.second.finished; });
}

bool Member::RemoveShards(const SnapshotKey& id) {
  std::vector<Rank> ranks;
  for (const auto& [rank, shard] : job_->shards.at(id)) {
    const Slot* slot = context_->slots.Find(shard.slot);
    if (slot == nullptr || slot->pins > 0) {
      return false;
    }
    ranks.push_back(rank);
  }
  for (const Rank rank : ranks) {
    FreeShard(id, rank);
  }
  FreeParity(id);
  return true;
}

}  // namespace holdfast::daemon
