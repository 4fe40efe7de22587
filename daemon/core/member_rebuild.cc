// A shard of a rank that this node serves now, brought from other nodes' memory: copied, or
// decoded.
//
// Sidecar, then memory, then bytes, of the static image before the dynamic one; only a sealed shard
// with a synced record counts as prepared. It stays in this node's arena: the base that is
// protected next.

#include <algorithm>
#include <utility>

#include "common/units.h"
#include "daemon/core/member.h"
#include "layout/sidecar.h"

namespace holdfast::daemon {
namespace {

std::string StaticHashFor(proto::ImageKind kind, const proto::Sidecar& sidecar) {
  return kind == proto::STATIC ? sidecar.static_hash() : "";
}

}  // namespace

bool Member::IsSidecarOf(const proto::Sidecar& sidecar, const SnapshotKey& id) const {
  // Older software did not say which static image it is: its node knows the layout, and says it
  // now.
  const bool named = sidecar.images_size() < 2 || !sidecar.static_hash().empty();
  return named && layout::ValidateSidecar(sidecar).has_value() && !sidecar.has_layout() &&
         sidecar.id().job_uid() == job_->uid() && KeyOf(sidecar.id()) == id;
}

// Whether the shard is here.  Where it is not, its bringing goes on, or begins.
bool Member::Bring(Rank rank, const Source& source) {
  const SnapshotKey& id = *command_.choice;
  const Shard* shard = job_->FindShard(id, rank);
  // R: that of a twin start, which took the same number, is another one.
  if (shard != nullptr && !shard->poisoned && job_->TokenOf(id, *shard) == command_.choice_token) {
    return true;
  }
  const auto order = command_.orders.find(rank);
  if (order == command_.orders.end()) {
    FailRestore(rank, source, false, "it is not known where its shard can be had");
    return false;
  }
  const auto [it, fresh] = bringing_.try_emplace(rank);
  Bringing& bringing = it->second;
  if (fresh) {
    bringing.id = id;
    bringing.attempt = command_.attempt;
    bringing.source = source;
    bringing.token = command_.choice_token;
  }
  if (bringing.ticket != 0) {
    return false;
  }
  if (!bringing.sidecar.has_value() && !TakeSidecar(rank, order->second, &bringing)) {
    return false;
  }
  if (!TakeNextImage(rank, &bringing)) {
    const std::uint64_t bytes = ImageOf(*bringing.sidecar, bringing.image)->length_bytes();
    FailRestore(
        rank, source, false, "the arena has no room for its shard of " + FormatBytes(bytes));
    bringing_.erase(rank);
    return false;
  }
  Slot* slot = context_->slots.Find(*bringing.slot);
  if (slot->phase == SlotPhase::kFree) {
    context_->slots.Apply(slot, SlotEvent::kMake, context_->batch());
    StartBytes(rank, order->second, &bringing);
  }
  return false;
}

// False while it is being asked for.
bool Member::TakeSidecar(Rank rank, const ShardOrder& order, Bringing* bringing) {
  const auto known = job_->sidecars.find(bringing->id);
  if (known != job_->sidecars.end() && known->second.contains(rank) &&
      known->second.at(rank).start_token() == bringing->token &&
      IsSidecarOf(known->second.at(rank).sidecar(), bringing->id)) {
    bringing->sidecar = known->second.at(rank).sidecar();
    return true;
  }
  FetchSidecars fetch;
  fetch.ticket = context_->next_ticket++;
  fetch.job_uid = job_->uid();
  fetch.job_name = job_->record.name();
  fetch.id = bringing->id;
  fetch.from[rank] = order.sidecar_nodes;
  bringing->ticket = fetch.ticket;
  context_->Do(std::move(fetch));
  return false;
}

bool Member::OnSidecarOfShard(std::uint64_t ticket, Result<std::vector<proto::Sidecar>> sidecars) {
  const auto it = std::find_if(bringing_.begin(), bringing_.end(), [&](const auto& entry) {
    return entry.second.ticket == ticket && ticket != 0;
  });
  if (it == bringing_.end()) {
    return false;
  }
  const Rank rank = it->first;
  Bringing& bringing = it->second;
  bringing.ticket = 0;
  std::string why = sidecars.has_value() ? "no node has its sidecar" : sidecars.error().message;
  if (sidecars.has_value()) {
    for (const proto::Sidecar& sidecar : sidecars.value()) {
      if (IsSidecarOf(sidecar, bringing.id) && sidecar.rank() == rank) {
        bringing.sidecar = sidecar;
        return true;
      }
    }
  }
  FailRestore(rank, bringing.source, false, std::move(why));
  bringing_.erase(it);
  return true;
}

// The static image first: no shard names one that is not sealed.  False: there is no room.
bool Member::TakeNextImage(Rank rank, Bringing* bringing) {
  const proto::ImageDigest* frozen = ImageOf(*bringing->sidecar, proto::STATIC);
  const bool lacks = frozen != nullptr && FindSameStatic(rank, *frozen) == nullptr;
  const proto::ImageKind next = lacks ? proto::STATIC : proto::DYNAMIC;
  if (next != bringing->image) {
    bringing->image = next;
    bringing->slot.reset();
  }
  return TakeShardSlot(rank, *ImageOf(*bringing->sidecar, next), bringing);
}

// A sealed one of the rank with the same bytes: an earlier attempt brought it, or another id has
// it.
Slot* Member::FindSameStatic(Rank rank, const proto::ImageDigest& image) {
  for (Slot* slot : SlotsOf(rank, proto::STATIC)) {
    if (HaveSameBytes(slot->static_image, image) && IsUsableStatic(*slot)) {
      return slot;
    }
  }
  return nullptr;
}

bool Member::TakeShardSlot(Rank rank, const proto::ImageDigest& image, Bringing* bringing) {
  if (bringing->slot.has_value() && context_->slots.Find(*bringing->slot) != nullptr) {
    return true;
  }
  const std::uint64_t capacity = CapacityFor(image.length_bytes());
  std::vector<SlotRef> others;
  for (Slot* slot : SlotsOf(rank, image.kind())) {
    const bool idle = slot->phase == SlotPhase::kFree && !IsInUseByRank(slot->ref);
    if (idle && !slot->spoilt && slot->capacity_bytes == capacity) {
      bringing->slot = slot->ref;
      return true;
    }
    if (idle) {
      others.push_back(slot->ref);
    }
  }
  for (const SlotRef& ref : others) {
    if (context_->slots.free_bytes() < capacity) {
      DropFile(ref);
    }
  }
  if (context_->slots.free_bytes() < capacity) {
    return false;
  }
  Slot* slot = context_->slots.Create(capacity,
                                      job_->uid(),
                                      rank,
                                      context_->batch(),
                                      image.kind(),
                                      StaticHashFor(image.kind(), *bringing->sidecar));
  bringing->slot = slot->ref;
  PrepareSlot prepare;
  prepare.slot = slot->ref;
  prepare.capacity_bytes = capacity;
  prepare.kind = image.kind();
  prepare.create = prepare.plain = true;
  prepare.numa_node = ranks_.at(rank).numa_node;
  context_->Do(std::move(prepare));
  return true;
}

void Member::StartBytes(Rank rank, const ShardOrder& order, Bringing* bringing) {
  bringing->ticket = context_->next_ticket++;
  if (bringing->source.kind == Source::Kind::kPeer) {
    context_->Do(PullShard{bringing->ticket,
                           job_->uid(),
                           job_->record.name(),
                           bringing->id,
                           rank,
                           *bringing->slot,
                           *bringing->sidecar,
                           bringing->image,
                           bringing->source.node});
    return;
  }
  const bool frozen = bringing->image == proto::STATIC;
  RebuildShard rebuild;
  rebuild.ticket = bringing->ticket;
  rebuild.job_uid = job_->uid();
  rebuild.job_name = job_->record.name();
  rebuild.id = bringing->id;
  rebuild.rank = rank;
  rebuild.slot = *bringing->slot;
  rebuild.sidecar = *bringing->sidecar;
  rebuild.held = (frozen ? order.static_held : order.held).value_or(HeldSet());
  rebuild.position = rebuild.held.set.PositionOfRank(rank).value_or(0);
  context_->Do(std::move(rebuild));
}

bool Member::OnShardMade(std::uint64_t ticket, const Status& status) {
  const auto it = std::find_if(bringing_.begin(), bringing_.end(), [&](const auto& entry) {
    return entry.second.ticket == ticket && ticket != 0;
  });
  if (it == bringing_.end()) {
    return EndMaking(ticket);
  }
  const Rank rank = it->first;
  Slot* slot = context_->slots.Find(*it->second.slot);
  if (status.has_value() && it->second.image == proto::STATIC) {
    SealBroughtStatic(slot, &it->second);
    return true;
  }
  const Bringing bringing = std::move(it->second);
  bringing_.erase(it);
  if (!status.has_value()) {
    context_->slots.Apply(slot, SlotEvent::kMakeEnded, context_->batch());
    const Errc code = status.error().code;
    const bool bad = code == Errc::kCorruption || code == Errc::kNotFound;
    FailRestore(rank, bringing.source, bad, status.error().message);
    return true;
  }
  const proto::ImageDigest* frozen = ImageOf(*bringing.sidecar, proto::STATIC);
  const Slot* shared = frozen == nullptr ? nullptr : FindSameStatic(rank, *frozen);
  if (frozen != nullptr && shared == nullptr) {
    context_->slots.Apply(slot, SlotEvent::kMakeEnded, context_->batch());
    FailRestore(rank, bringing.source, false, "its static image went bad meanwhile");
    return true;
  }
  // I5: all of it was compared with the sidecar in its place.
  DropOther(bringing.id, rank);
  slot->layout_hash = bringing.sidecar->layout_hash();
  slot->image_bytes = bringing.sidecar->images(0).length_bytes();
  slot->static_hash = bringing.sidecar->static_hash();
  context_->slots.Apply(slot, SlotEvent::kSealRecorded, context_->batch());
  Shard shard;
  shard.slot = slot->ref;
  shard.static_slot = shared == nullptr ? std::nullopt : std::optional(shared->ref);
  shard.sidecar = *bringing.sidecar;
  shard.restored = true;
  shard.start_token = bringing.token;
  job_->PutShard(context_, bringing.id, rank, std::move(shard));
  return true;
}

// From here on it is as one that this rank's trainer filled: shards share it, and the next layout
// may.
void Member::SealBroughtStatic(Slot* slot, Bringing* bringing) {
  slot->layout_hash = bringing->sidecar->layout_hash();
  slot->static_hash = bringing->sidecar->static_hash();
  slot->static_image = *ImageOf(*bringing->sidecar, proto::STATIC);
  slot->image_bytes = slot->static_image.length_bytes();
  if (!slot->static_image.has_owner()) {
    *slot->static_image.mutable_owner() = job_->Id(bringing->id);
  }
  context_->slots.Apply(slot, SlotEvent::kSealRecorded, context_->batch());
  bringing->ticket = 0;
}

// The record is about to name another slot: what it named was bad, or a twin start's.
void Member::DropOther(const SnapshotKey& id, Rank rank) {
  const Shard* shard = job_->FindShard(id, rank);
  Slot* slot = shard == nullptr ? nullptr : context_->slots.Find(shard->slot);
  if (slot != nullptr && SlotTable::Allows(*slot, SlotEvent::kRetire)) {
    context_->slots.Apply(slot, SlotEvent::kRetire, context_->batch());
    slot->step = kNoStep;
    slot->spoilt = shard->poisoned;
  }
}

// The arena refused the file.  Whoever waited for it tries again later or elsewhere, never at once:
// that would go round for ever.
void Member::GiveUpPlace(SlotRef ref, const std::string& why) {
  for (auto& [key, attempt] : row_tries_) {
    if (attempt.slot == ref) {
      attempt.slot.reset();
      attempt.retry.Failed(context_->now, context_->options);
      parity_error_ = "no memory for a row: " + why;
    }
  }
  for (auto it = bringing_.begin(); it != bringing_.end();) {
    if (it->second.slot == ref) {
      FailRestore(it->first, it->second.source, false, "no memory for its shard: " + why);
      it = bringing_.erase(it);
    } else {
      ++it;
    }
  }
}

// Another attempt has begun, or another start: whatever it was for is over.
void Member::GiveUpBringing() {
  for (const auto& [rank, bringing] : bringing_) {
    const Slot* slot = bringing.slot.has_value() ? context_->slots.Find(*bringing.slot) : nullptr;
    if (bringing.ticket != 0 && slot != nullptr && slot->phase == SlotPhase::kMaking) {
      GiveUpMaking(bringing.ticket, slot->ref);
    } else if (bringing.ticket != 0) {
      context_->Do(CancelMaking{bringing.ticket});
    }
  }
  bringing_.clear();
}

}  // namespace holdfast::daemon
