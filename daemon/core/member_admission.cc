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
  const std::uint64_t needed = kPromisedSlots * capacity + frozen + parity;
  if (needed <= mine) {
    return 0;
  }
  const std::uint64_t wanted = needed - mine + promised;
  return wanted > free ? wanted - free : 0;
}

// Two parities of m rows: the old one stays until the new one is whole (docs/peers.md); of a
// static image one, which snapshots share.  How
// long a row is, the longest shard of the group says, and which groups there will be, the
// coordinator: this is the bill of the smallest group that the options make of so many nodes, with
// shards like this one.
std::uint64_t Member::ParityBillOf(const RankSession& state) const {
  const auto present = job_->incarnations.find(job_->record.epoch_number());
  const int members = present == job_->incarnations.end() ? 0 : present->second.members_size();
  const std::uint32_t parity = context_->options.code_parity;
  if (parity == 0 || members < 2 || state.layout_hash.empty() || state.dead) {
    return 0;
  }
  const auto nodes = static_cast<std::uint32_t>(members);
  const std::uint32_t wished = context_->options.code_data + parity;
  std::uint32_t groups = (nodes + wished - 1) / wished;
  while (groups > 1 && nodes / groups < parity + 2) {
    --groups;
  }
  const std::uint32_t size = nodes / groups;
  const std::uint32_t rows = std::min(parity, size - 1);
  const std::uint32_t data = size - rows;
  const auto row_bytes = [&](std::uint64_t image_bytes) {
    return CapacityFor(AlignUp((image_bytes + data - 1) / data, kMiB));
  };
  const std::uint64_t frozen = state.static_bytes == 0 ? 0 : row_bytes(state.static_bytes);
  return rows * (2 * row_bytes(state.image_bytes) + frozen);
}

std::uint64_t Member::ParityBill() const {
  std::uint64_t bill = 0;
  for (const auto& [rank, state] : ranks_) {
    bill += ParityBillOf(state);
  }
  return std::max(bill, row_bill_);
}

// The longest shard of a group makes everybody's rows long: what they take is known only here. From
// now on no rank grows into it.
void Member::NoteRowBill(const ProtectTarget& target) {
  row_bill_ = 0;
  for (const CodeSet& set : target.sets) {
    if (set.PositionOfNode(context_->node_uuid).has_value()) {
      const std::uint64_t parities = set.kind == proto::STATIC ? 1 : 2;
      row_bill_ += parities * set.geometry.code.parity * CapacityFor(set.geometry.segment_bytes);
    }
  }
}

std::uint64_t Member::ParityBytes() const {
  std::uint64_t bytes = 0;
  std::as_const(context_->slots).ForEach([&](const Slot& slot) {
    bytes += slot.parity && slot.job == job_->uid() ? slot.capacity_bytes : 0;
  });
  return bytes;
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
    const bool own = slot->job == job_->uid() && slot->rank == rank && !slot->parity;
    room.mine += own ? slot->capacity_bytes : 0;
  });
  // Rows that are there already serve the ranks that were admitted before.
  std::uint64_t others = 0;
  for (const auto& [other, other_state] : ranks_) {
    others += other == rank ? 0 : ParityBillOf(other_state);
  }
  const std::uint64_t rows = ParityBytes();
  room.promised += others > rows ? others - rows : 0;
  const std::uint64_t bill = ParityBillOf(state);
  const std::uint64_t there = rows > others ? rows - others : 0;
  room.parity = bill > there ? bill - there : 0;
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
  const std::uint64_t beside = room.frozen + room.parity;
  const std::uint64_t possible = available > beside ? (available - beside) / room.capacity : 0;
  if (possible < kPromisedSlots) {
    return Error(
        Errc::kNoSpace,
        "rank " + std::to_string(rank) + " of job " + job_->record.name() + " needs 2 slots of " +
            FormatBytes(room.capacity) + " = " + FormatBytes(2 * room.capacity) +
            (room.frozen == 0 ? ""
                              : " and " + FormatBytes(room.frozen) + " for its frozen tensors") +
            (room.parity == 0
                 ? ""
                 : " and " + FormatBytes(room.parity) + " for the parity of two snapshots") +
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
