// Slots of ranks: grants ahead of need, growth, and giving memory back.

#include <algorithm>
#include <utility>

#include "common/check.h"
#include "common/units.h"
#include "daemon/core/member.h"

namespace holdfast::daemon {
namespace {

// After the arena refused a file (its tmpfs is full), not at every event again.
constexpr std::chrono::seconds kCreateRetry{1};

bool IsAhead(const Slot& slot) {
  return slot.phase == SlotPhase::kGranted || slot.phase == SlotPhase::kPreparing;
}

}  // namespace

std::uint64_t Member::CapacityOf(const RankSession& state) const {
  return AlignUp(std::max<std::uint64_t>(state.image_bytes, 1), kMiB);
}

// Quarantined slots are nobody's.
std::vector<Slot*> Member::SlotsOf(Rank rank) {
  std::vector<Slot*> slots;
  context_->slots.ForEach([&](Slot* slot) {
    if (slot->job == job_->uid() && slot->rank == rank && slot->phase != SlotPhase::kQuarantined) {
      slots.push_back(slot);
    }
  });
  return slots;
}

Slot* Member::OwnSlot(Rank rank, std::uint32_t number, std::uint64_t generation) {
  Slot* slot = context_->slots.Find({number, generation});
  return slot != nullptr && slot->job == job_->uid() && slot->rank == rank ? slot : nullptr;
}

std::uint64_t Member::ArenaBytes() const {
  std::uint64_t bytes = 0;
  std::as_const(context_->slots).ForEach([&](const Slot& slot) {
    bytes +=
        slot.job == job_->uid() && slot.phase != SlotPhase::kQuarantined ? slot.capacity_bytes : 0;
  });
  return bytes;
}

std::uint64_t Member::ReservedBytes() const {
  std::map<Rank, std::uint64_t> owned;
  std::as_const(context_->slots).ForEach([&](const Slot& slot) {
    if (slot.job == job_->uid() && slot.phase != SlotPhase::kQuarantined) {
      owned[slot.rank] += slot.capacity_bytes;
    }
  });
  std::uint64_t reserved = 0;
  for (const auto& [rank, state] : ranks_) {
    const std::uint64_t promised = state.slots_admitted * CapacityOf(state);
    reserved += !state.dead && promised > owned[rank] ? promised - owned[rank] : 0;
  }
  return reserved;
}

void Member::Settle() {
  if (command_.phase == Phase::kRun) {
    Retire();
  }
  for (auto& [rank, state] : ranks_) {
    EnsureGrant(rank);
  }
}

// One slot ahead for each rank, so that a begin never waits for the daemon or the disk.
void Member::EnsureGrant(Rank rank) {
  RankSession* state = &ranks_.at(rank);
  if (state->session == 0 || state->layout_hash.empty()) {
    return;
  }
  const std::vector<Slot*> slots = SlotsOf(rank);
  if (std::any_of(slots.begin(), slots.end(), [](const Slot* slot) { return IsAhead(*slot); })) {
    return;
  }
  if (ReuseFreeSlot(rank, state) || CreateSlot(rank, state)) {
    return;
  }
  FlushGivesWay(rank, state);
}

bool Member::ReuseFreeSlot(Rank rank, RankSession* state) {
  for (Slot* slot : SlotsOf(rank)) {
    if (slot->phase != SlotPhase::kFree) {
      continue;
    }
    if (slot->capacity_bytes != CapacityOf(*state)) {
      DropFile(slot->ref);
      continue;
    }
    if (slot->layout_hash == state->layout_hash) {
      Grant(slot, state);
    } else {
      slot->layout_hash = state->layout_hash;
      slot->image_bytes = state->image_bytes;
      context_->slots.Apply(slot, SlotEvent::kPrepareAgain, context_->batch());
      context_->Do(PrepareSlot{slot->ref, slot->capacity_bytes, false, state->layout_hash});
    }
    return true;
  }
  return false;
}

// Up to the number that was wanted, also beyond what could be admitted at first: a rank that
// started under a tight budget grows when memory comes back.
bool Member::CreateSlot(Rank rank, RankSession* state) {
  const std::uint64_t capacity = CapacityOf(*state);
  std::uint64_t owned = 0;
  const std::vector<Slot*> slots = SlotsOf(rank);
  for (const Slot* slot : slots) {
    owned += slot->capacity_bytes;
  }
  if (context_->slots.free_bytes() < capacity && slots.size() < state->slots_wanted) {
    DropFreeSlotsOfAbsentRanks();
  }
  const std::uint64_t free = context_->slots.free_bytes();
  if (slots.size() >= state->slots_wanted || free < capacity ||
      context_->now < state->no_create_before) {
    return false;
  }
  if (owned + capacity > state->slots_admitted * capacity) {
    const std::uint64_t promised =
        ReservedBytes() + (hooks_.reserved_by_others ? hooks_.reserved_by_others(this) : 0);
    if (free < promised + capacity) {
      return false;
    }
  }
  Slot* slot = context_->slots.Create(capacity, job_->uid(), rank, context_->batch());
  slot->layout_hash = state->layout_hash;
  slot->image_bytes = state->image_bytes;
  context_->Do(PrepareSlot{slot->ref, capacity, true, state->layout_hash});
  return true;
}

// A flush that holds the last slot which training could have yields it, but not for ever: after
// some times in a row it keeps the slot, snapshots are skipped, and something becomes durable.
void Member::FlushGivesWay(Rank rank, RankSession* state) {
  const auto newest = NewestCompleteOfEpoch();
  for (auto& [key, flush] : flushes_) {
    const auto& [root, id, flush_rank] = key;
    const bool yields = flush_rank == rank && flush.under_way && !flush.must_finish &&
                        !flush.cancelled && MayRetire(id, newest) &&
                        state->flushes_gave_way < context_->options.flush_gives_way;
    if (yields) {
      flush.cancelled = true;
      ++state->flushes_gave_way;
      context_->Do(CancelFlush{job_->uid(), root, id, rank});
      return;
    }
  }
}

// The record that the slot is handed out is in this Ready's batch, synced before the descriptor
// leaves: a daemon that comes back knows that somebody may write to it (I7).
void Member::Grant(Slot* slot, RankSession* state) {
  slot->session_token = state->token;
  slot->pid = state->pid;
  slot->epoch_number = job_->record.epoch_number();
  slot->step = kNoStep;
  context_->slots.Apply(slot, SlotEvent::kGrant, context_->batch());
  Send send;
  send.session = state->session;
  proto::GrantEvent* grant = send.message.mutable_grant();
  grant->set_slot(slot->ref.slot);
  grant->set_generation(slot->ref.generation);
  grant->set_capacity_bytes(slot->capacity_bytes);
  grant->set_layout_generation(state->layout_generation);
  if (state->has_fd.insert(slot->ref).second) {
    grant->set_has_fd(true);
    send.fd_slot = slot->ref;
    send.fd_writable = true;
  }
  context_->Do(std::move(send));
}

void Member::OnSlotReady(SlotRef ref, const Status& status) {
  Slot* slot = context_->slots.Find(ref);
  if (slot == nullptr || slot->phase != SlotPhase::kPreparing) {
    return;
  }
  if (!status.has_value()) {
    const Rank rank = slot->rank;
    context_->slots.Remove(ref, context_->batch());
    context_->Do(RemoveSlot{ref});
    if (const auto it = ranks_.find(rank); it != ranks_.end()) {
      it->second.last_missed_reason = "no slot: " + status.error().message;
      it->second.no_create_before = context_->now + kCreateRetry;
    }
    return;
  }
  context_->slots.Apply(slot, SlotEvent::kPrepared, context_->batch());
}

// After a change of the layout of ranks over nodes: what their snapshots left would stay unused.
void Member::DropFreeSlotsOfAbsentRanks() {
  std::vector<SlotRef> idle;
  context_->slots.ForEach([&](Slot* slot) {
    if (slot->job == job_->uid() && slot->phase == SlotPhase::kFree &&
        !ranks_.contains(slot->rank)) {
      idle.push_back(slot->ref);
    }
  });
  if (command_.phase == Phase::kRun) {
    std::for_each(idle.begin(), idle.end(), [this](const SlotRef& ref) { DropFile(ref); });
  }
}

// A client that still maps the file would keep its pages: the memory is only back when it unmaps.
void Member::DropFile(SlotRef ref) {
  for (auto& [rank, state] : ranks_) {
    if (state.session != 0 && state.has_fd.erase(ref) > 0) {
      Send send;
      send.session = state.session;
      send.message.mutable_revoke()->set_slot(ref.slot);
      send.message.mutable_revoke()->set_generation(ref.generation);
      context_->Do(std::move(send));
    }
  }
  context_->slots.Remove(ref, context_->batch());
  context_->Do(RemoveSlot{ref});
}

// The slot is free once nothing can land in it any more (I7), and no digest reads it: the end of a
// digest must find the copy that it was started for, not the next one.
void Member::GiveUp(Slot* slot, bool copies_done) {
  if (SlotTable::Allows(*slot, SlotEvent::kGivenUp)) {
    context_->slots.Apply(slot, SlotEvent::kGivenUp, context_->batch());
  }
  if (copies_done && slot->phase == SlotPhase::kDraining && !slot->digesting) {
    context_->slots.Apply(slot, SlotEvent::kCopiesDone, context_->batch());
  }
}

void Member::FreeShard(const SnapshotKey& id, Rank rank) {
  const Shard* shard = job_->FindShard(id, rank);
  Slot* slot = context_->slots.Find(shard->slot);
  HOLDFAST_CHECK(slot != nullptr && slot->pins == 0);
  context_->slots.Apply(slot, SlotEvent::kRetire, context_->batch());
  slot->step = kNoStep;
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

// I4: a complete snapshot goes only when a newer one of this history is complete.  Remains of older
// incarnations go once the restore is committed, but for its base and its fallback; all stay while
// it is open which id that is.
bool Member::MayRetire(const SnapshotKey& id, const std::optional<SnapshotKey>& newest) const {
  if (id.incarnation == job_->record.epoch_number()) {
    return job_->IsAbandoned(id) || (newest.has_value() && id < *newest && job_->IsComplete(id));
  }
  return newest.has_value() || (!job_->IsBaseOrFallback(id) && !job_->FallbackIsOpen());
}

void Member::Retire() {
  const auto newest = NewestCompleteOfEpoch();
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
  for (Slot* slot : SlotsOf(rank)) {
    if (SlotTable::Allows(*slot, SlotEvent::kReturned)) {
      context_->slots.Apply(slot, SlotEvent::kReturned, context_->batch());
    }
  }
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
  return true;
}

}  // namespace holdfast::daemon
