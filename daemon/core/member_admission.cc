// Whether a registration fits the budget, and what may be freed for it.

#include <algorithm>
#include <set>
#include <utility>

#include "common/units.h"
#include "daemon/core/member.h"

namespace holdfast::daemon {

Status Member::AdmitOrReclaim(Rank rank, RankSession* state, std::uint32_t wanted) {
  Status admitted = Admit(rank, state, wanted);
  if (!admitted.has_value() && DropGrowth()) {
    admitted = Admit(rank, state, wanted);
  }
  if (!admitted.has_value() && hooks_.reclaim_orphans &&
      hooks_.reclaim_orphans(this, RoomFor(rank, *state).missing())) {
    admitted = Admit(rank, state, wanted);
  }
  return admitted;
}

std::uint64_t Member::Room::available() const {
  return (free > promised ? free - promised : 0) + mine;
}

std::uint64_t Member::Room::missing() const {
  const std::uint64_t needed = kPromisedSlots * capacity + frozen;
  if (needed <= mine) {
    return 0;
  }
  const std::uint64_t wanted = needed - mine + promised;
  return wanted > free ? wanted - free : 0;
}

Member::Room Member::RoomFor(Rank rank, const RankSession& state) {
  Room room;
  room.capacity = CapacityOf(state);
  room.frozen = StaticCapacityOf(state);
  room.free = context_->slots.free_bytes();
  room.promised = hooks_.reserved_by_others ? hooks_.reserved_by_others(this) : 0;
  for (const auto& [other, other_state] : ranks_) {
    room.promised += other == rank ? 0 : OutstandingBytes(other, other_state);
  }
  context_->slots.ForEach([&](Slot* slot) {
    room.mine += slot->job == job_->uid() && slot->rank == rank ? slot->capacity_bytes : 0;
  });
  room.mine -= StuckStaticBytes(rank, state);
  return room;
}

// Two slots are the least: one keeps the last complete snapshot while the other fills; and, once,
// one for the static image.  Only they are promised: a third that one rank may want must not refuse
// the next rank its second.  What this rank holds already counts, also a base that is still pinned:
// that slot comes back later.
Status Member::Admit(Rank rank, RankSession* state, std::uint32_t wanted) {
  const Room room = RoomFor(rank, *state);
  const std::uint64_t available = room.available();
  const std::uint64_t possible =
      available > room.frozen ? (available - room.frozen) / room.capacity : 0;
  if (possible < kPromisedSlots) {
    return Error(
        Errc::kNoSpace,
        "rank " + std::to_string(rank) + " of job " + job_->record.name() + " needs 2 slots of " +
            FormatBytes(room.capacity) + " = " + FormatBytes(2 * room.capacity) +
            (room.frozen == 0 ? ""
                              : " and " + FormatBytes(room.frozen) + " for its frozen tensors") +
            ", but the arena has " + FormatBytes(available) + " for it (budget " +
            FormatBytes(context_->slots.budget_bytes()) + ", used " +
            FormatBytes(context_->slots.used_bytes()) + ", promised to other ranks " +
            FormatBytes(room.promised) +
            "); raise the budget, or free memory with `holdfast drop JOB`");
  }
  state->slots_wanted =
      std::max(kPromisedSlots, wanted == 0 ? context_->options.default_slots : wanted);
  state->slots_admitted =
      static_cast<std::uint32_t>(std::min<std::uint64_t>(state->slots_wanted, possible));
  return Ok();
}

std::uint64_t Member::FreeableBytes() const {
  std::set<SlotRef> kept;
  for (const auto& [id, by_rank] : job_->shards) {
    for (const auto& [rank, shard] : by_rank) {
      const Slot* slot = context_->slots.Find(shard.slot);
      if (slot != nullptr && slot->pins > 0) {
        kept.insert(shard.slot);
        kept.insert(shard.static_slot.value_or(shard.slot));
      }
    }
  }
  std::uint64_t bytes = 0;
  std::as_const(context_->slots).ForEach([&](const Slot& slot) {
    const bool idle =
        slot.phase == SlotPhase::kFree ||
        (slot.phase == SlotPhase::kSealed && slot.pins == 0 && !kept.contains(slot.ref));
    const bool stays = slot.kind == proto::STATIC && slot.spoilt;  // quarantined
    bytes += slot.job == job_->uid() && idle && !stays ? slot.capacity_bytes : 0;
  });
  return bytes;
}

}  // namespace holdfast::daemon
