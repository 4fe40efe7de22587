// Slots of ranks: grants ahead of need, and growth.

#include <algorithm>
#include <utility>

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

// What the file takes of the arena (I9): whole pages, which on hugetlbfs can be of 1 GiB.
std::uint64_t Member::CapacityFor(std::uint64_t image_bytes) const {
  const std::uint64_t unit = std::max<std::uint64_t>(kMiB, context_->options.page_bytes);
  return AlignUp(std::max<std::uint64_t>(image_bytes, 1), unit);
}

std::uint64_t Member::CapacityOf(const RankSession& state) const {
  return CapacityFor(state.image_bytes);
}

// For dynamic images.  A dead rank's promise ends; one that is done registers a layout again before
// it needs any.
std::uint64_t Member::PromisedBytes(const RankSession& state) const {
  return state.layout_hash.empty() ? 0 : kPromisedSlots * CapacityOf(state);
}

// Promised and not allocated yet: of the two slots, and of the one for the static image.
std::uint64_t Member::OutstandingBytes(Rank rank, const RankSession& state) const {
  std::uint64_t owned = 0;
  std::as_const(context_->slots).ForEach([&](const Slot& slot) {
    const bool mine = slot.job == job_->uid() && slot.rank == rank && !slot.parity;
    const bool counts = slot.kind == proto::DYNAMIC && slot.phase != SlotPhase::kQuarantined;
    owned += mine && counts ? slot.capacity_bytes : 0;
  });
  const std::uint64_t promised = PromisedBytes(state);
  const bool has_static = state.layout_hash.empty() || state.static_slot.has_value();
  return (promised > owned ? promised - owned : 0) + (has_static ? 0 : StaticCapacityOf(state));
}

// Quarantined slots are nobody's.
std::vector<Slot*> Member::SlotsOf(Rank rank, proto::ImageKind kind) {
  std::vector<Slot*> slots;
  context_->slots.ForEach([&](Slot* slot) {
    if (slot->job == job_->uid() && slot->rank == rank && slot->kind == kind && !slot->parity &&
        slot->phase != SlotPhase::kQuarantined) {
      slots.push_back(slot);
    }
  });
  return slots;
}

Slot* Member::OwnSlot(Rank rank,
                      std::uint32_t number,
                      std::uint64_t generation,
                      proto::ImageKind kind) {
  Slot* slot = context_->slots.Find({number, generation});
  const bool own =
      slot != nullptr && slot->job == job_->uid() && slot->rank == rank && !slot->parity;
  return own && slot->kind == kind ? slot : nullptr;
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
  std::uint64_t reserved = 0;
  for (const auto& [rank, state] : ranks_) {
    reserved += state.dead ? 0 : OutstandingBytes(rank, state);
  }
  const std::uint64_t bill = ParityBill();
  const std::uint64_t rows = ParityBytes();
  return reserved + (bill > rows ? bill - rows : 0);
}

void Member::Settle() {
  if (command_.phase == Phase::kRun) {
    Retire();
  }
  for (auto& [rank, state] : ranks_) {
    EnsureGrant(rank);
  }
  if (command_.phase == Phase::kRun) {
    DropIdleStatics(/*also_in_use=*/false);
  }
}

// One slot ahead for each rank, so that a begin never waits for the daemon or the disk.
void Member::EnsureGrant(Rank rank) {
  RankSession* state = &ranks_.at(rank);
  if (state->session == 0 || state->layout_hash.empty()) {
    return;
  }
  EnsureStatic(rank, state);
  EnsureDynamicGrant(rank, state);
}

void Member::EnsureDynamicGrant(Rank rank, RankSession* state) {
  const std::vector<Slot*> slots = SlotsOf(rank);
  if (std::any_of(slots.begin(), slots.end(), [](const Slot* slot) { return IsAhead(*slot); })) {
    return;
  }
  DropSpoilt(rank);
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
      slot->static_hash = state->static_hash;
      context_->slots.Apply(slot, SlotEvent::kPrepareAgain, context_->batch());
      context_->Do(PrepareSlot{slot->ref, slot->capacity_bytes, false, state->layout_hash});
    }
    return true;
  }
  return false;
}

// Nothing is known of a rank that has not registered: before all have, or train, nobody takes more
// than its promise.
bool Member::MayGrow() const {
  const std::uint64_t most =
      std::min(job_->record.world_size(), context_->options.max_ranks_per_job);
  return command_.phase == Phase::kRun || most <= ranks_.size();
}

// What ranks that have not resumed since this daemon started are promised and do not own.
std::uint64_t Member::AwaitedBytes() const {
  struct Owned {
    std::uint64_t bytes = 0;
    std::uint64_t largest = 0;
  };

  std::map<Rank, Owned> absent;
  std::as_const(context_->slots).ForEach([&](const Slot& slot) {
    if (slot.job == job_->uid() && slot.kind == proto::DYNAMIC && !slot.parity &&
        !ranks_.contains(slot.rank)) {
      Owned& owned = absent[slot.rank];
      owned.bytes += slot.capacity_bytes;
      owned.largest = std::max(owned.largest, slot.capacity_bytes);
    }
  });
  std::uint64_t awaited = 0;
  for (const auto& [rank, owned] : absent) {
    const std::uint64_t promise = kPromisedSlots * owned.largest;
    awaited += promise > owned.bytes ? promise - owned.bytes : 0;
  }
  return awaited;
}

// Up to the number that was wanted: what is promised at once, more while nobody's promise needs the
// memory.
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
  if (owned + capacity > PromisedBytes(*state)) {
    const std::uint64_t promised =
        ReservedBytes() + (hooks_.reserved_by_others ? hooks_.reserved_by_others(this) : 0);
    if (!MayGrow() || free < promised + AwaitedBytes() + capacity) {
      return false;
    }
  }
  Slot* slot = context_->slots.Create(capacity, job_->uid(), rank, context_->batch());
  slot->layout_hash = state->layout_hash;
  slot->image_bytes = state->image_bytes;
  slot->static_hash = state->static_hash;
  context_->Do(
      PrepareSlot{slot->ref, capacity, true, state->layout_hash, proto::DYNAMIC, state->numa_node});
  return true;
}

// What ranks have grown beyond their promise and do not use now: another rank needs its promise.
bool Member::DropGrowth() {
  std::vector<SlotRef> idle;
  for (const auto& [rank, state] : ranks_) {
    const std::vector<Slot*> slots = SlotsOf(rank);
    std::size_t left = slots.size();
    for (const Slot* slot : slots) {
      if (slot->phase == SlotPhase::kFree && left > kPromisedSlots) {
        idle.push_back(slot->ref);
        --left;
      }
    }
  }
  std::for_each(idle.begin(), idle.end(), [this](const SlotRef& ref) { DropFile(ref); });
  return !idle.empty();
}

// A flush that holds the last slot which training could have yields it, but not for ever: after
// some times in a row it keeps the slot, snapshots are skipped, and something becomes durable.
void Member::FlushGivesWay(Rank rank, RankSession* state) {
  const auto newest = NewestSafe();
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
  slot->pid = state->process.pid;
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
    LetGoOfStatic(ref);
    GiveUpPlace(ref, status.error().message);
    const bool parity = slot->parity;
    context_->slots.Remove(ref, context_->batch());
    context_->Do(RemoveSlot{ref});
    if (parity) {
      return;
    }
    if (const auto it = ranks_.find(rank); it != ranks_.end()) {
      it->second.last_missed_reason = "no slot: " + status.error().message;
      it->second.no_create_before = context_->now + kCreateRetry;
    }
    return;
  }
  context_->slots.Apply(slot, SlotEvent::kPrepared, context_->batch());
}

void Member::OnGrantRefused(SlotRef ref) {
  Slot* slot = context_->slots.Find(ref);
  if (slot == nullptr) {
    return;
  }
  slot->spoilt = true;
  if (SlotTable::Allows(*slot, SlotEvent::kReturned)) {
    context_->slots.Apply(slot, SlotEvent::kReturned, context_->batch());
  }
  PoisonStatic(ref, "its file was cut");
}

// After a change of the layout of ranks over nodes: what their snapshots left would stay unused.
void Member::DropFreeSlotsOfAbsentRanks() {
  std::vector<SlotRef> idle;
  context_->slots.ForEach([&](Slot* slot) {
    if (slot->job == job_->uid() && slot->phase == SlotPhase::kFree && !slot->parity &&
        !ranks_.contains(slot->rank)) {
      idle.push_back(slot->ref);
    }
  });
  if (command_.phase == Phase::kRun) {
    std::for_each(idle.begin(), idle.end(), [this](const SlotRef& ref) { DropFile(ref); });
  }
}

// A client that still maps the file would keep its pages: the memory is only back when it unmaps.
void Member::Revoke(SlotRef ref) {
  for (auto& [rank, state] : ranks_) {
    if (state.session != 0 && state.has_fd.erase(ref) > 0) {
      Send send;
      send.session = state.session;
      send.message.mutable_revoke()->set_slot(ref.slot);
      send.message.mutable_revoke()->set_generation(ref.generation);
      context_->Do(std::move(send));
    }
  }
}

void Member::DropFile(SlotRef ref) {
  Revoke(ref);
  context_->slots.Remove(ref, context_->batch());
  context_->Do(RemoveSlot{ref});
}

// A cut file refuses the next trainer's mapping, and the daemon's own mapping of it is zeros for
// good: whoever got the slot could never seal.  Who cut it may still map it, so it counts (I9).
void Member::DropSpoilt(Rank rank) {
  for (Slot* slot : SlotsOf(rank)) {
    if (slot->phase == SlotPhase::kFree && slot->spoilt) {
      Revoke(slot->ref);
      context_->slots.Apply(slot, SlotEvent::kSpoilt, context_->batch());
      context_->Do(QuarantineSlot{slot->ref});
    }
  }
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

}  // namespace holdfast::daemon
