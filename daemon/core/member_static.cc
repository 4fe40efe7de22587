// Static images: frozen tensors that are copied once and shared by all later shards of their rank
// (docs/adr/0006).
//
// A rank whose layout has one is granted a slot for it, beside those of its snapshots.  The first
// seal that names the slot seals it too, in one batch, so that a shard never shares what is not
// sealed.  From then on shards name it; it goes when no shard does and no live layout uses it.

#include <algorithm>
#include <utility>

#include "common/crc32c.h"
#include "common/units.h"
#include "daemon/core/member.h"

namespace holdfast::daemon {

std::uint64_t Member::StaticCapacityOf(const RankSession& state) const {
  return state.static_bytes == 0 ? 0 : CapacityFor(state.static_bytes);
}

// A poisoned shard may owe it to this image: then it is not believed either.
bool Member::IsUsableStatic(const Slot& slot) const {
  return slot.kind == proto::STATIC && slot.phase == SlotPhase::kSealed && !slot.spoilt &&
         slot.static_image.chunk_crc32c_size() > 0 &&
         !job_->SharesStatic(slot.ref, /*poisoned_only=*/true);
}

bool Member::IsInUseByRank(SlotRef slot) const {
  return std::any_of(ranks_.begin(), ranks_.end(), [&](const auto& entry) {
    return entry.second.static_slot == slot;
  });
}

// Sealed images that the new layout cannot use, and that its first snapshot must be complete to
// free: what they take is not there for it.
std::uint64_t Member::StuckStaticBytes(Rank rank, const RankSession& state) {
  std::uint64_t stuck = 0;
  for (const Slot* slot : SlotsOf(rank, proto::STATIC)) {
    const bool usable = slot->static_hash == state.static_hash && IsUsableStatic(*slot);
    const bool sealed = slot->phase == SlotPhase::kSealed;
    stuck += sealed && !usable && job_->SharesStatic(slot->ref) ? slot->capacity_bytes : 0;
  }
  return stuck;
}

// As TakeBackSlots; a sealed image is nobody's to write, so there is nothing to take back of it.
void Member::TakeBackStatic(Rank rank,
                            RankSession* state,
                            const proto::RegisterRequest& body,
                            proto::RegisterReply* reply) {
  state->static_slot.reset();
  Slot* named =
      OwnSlot(rank, body.static_slot().slot(), body.static_slot().generation(), proto::STATIC);
  if (named != nullptr && KeepStatic(named, *state)) {
    state->static_slot = named->ref;
    state->has_fd.insert(named->ref);
    *reply->mutable_static_slot() = body.static_slot();
  }
  for (Slot* slot : SlotsOf(rank, proto::STATIC)) {
    if (state->static_slot == slot->ref) {
      continue;
    }
    state->has_fd.erase(slot->ref);  // what the answer does not name is unmapped
    if (slot->session_token != state->token) {
      LoseOwner(slot);
    } else if (SlotTable::Allows(*slot, SlotEvent::kReturned)) {
      context_->slots.Apply(slot, SlotEvent::kReturned, context_->batch());
    }
  }
}

bool Member::KeepStatic(Slot* slot, const RankSession& state) {
  if (state.static_bytes == 0 || slot->static_hash != state.static_hash) {
    return false;
  }
  if (slot->phase == SlotPhase::kLimbo && slot->session_token == state.token) {
    context_->slots.Apply(slot, SlotEvent::kVouchedIdle, context_->batch());
  }
  const bool granted = slot->phase == SlotPhase::kGranted && slot->session_token == state.token;
  if (granted) {
    slot->image_bytes = state.static_bytes;  // a restart knows it of layouts still in force only
  }
  return granted || IsUsableStatic(*slot);
}

void Member::EnsureStatic(Rank rank, RankSession* state) {
  if (state->static_bytes == 0) {
    return;
  }
  Slot* slot = state->static_slot.has_value() ? context_->slots.Find(*state->static_slot) : nullptr;
  if (slot == nullptr || slot->phase == SlotPhase::kQuarantined) {
    state->static_slot.reset();
    if (!ReuseStatic(rank, state) && !MayBringStatic(*state)) {
      static_cast<void>(CreateStatic(rank, state));
    }
  } else if (slot->phase == SlotPhase::kFree) {
    GrantStatic(slot, state);
  }
}

// Until its restore is over this rank's image may yet come from other nodes: the bill has room for
// one.
bool Member::MayBringStatic(const RankSession& state) const {
  return command_.phase != Phase::kRun && ParityBillOf(state) > 0;
}

// One that is sealed already: of the restored incarnation, or of a layout before the last.  The
// newest first.
bool Member::ReuseStatic(Rank rank, RankSession* state) {
  Slot* best = nullptr;
  for (Slot* slot : SlotsOf(rank, proto::STATIC)) {
    // One that a start found free may have died before its header was written: layout_hash says so.
    if (slot->phase == SlotPhase::kFree && !slot->spoilt && !slot->layout_hash.empty() &&
        slot->static_hash == state->static_hash) {
      state->static_slot = slot->ref;
      GrantStatic(slot, state);
      return true;
    }
    // Without layout_hash: its bytes are on their way from other nodes.
    if (slot->phase == SlotPhase::kPreparing && !slot->layout_hash.empty() &&
        slot->static_hash == state->static_hash) {
      state->static_slot = slot->ref;
      return true;
    }
    const bool usable = slot->static_hash == state->static_hash && IsUsableStatic(*slot) &&
                        !state->refused_statics.contains(slot->ref) && !IsInUseByRank(slot->ref);
    if (usable && (best == nullptr ||
                   KeyOf(best->static_image.owner()) < KeyOf(slot->static_image.owner()))) {
      best = slot;
    }
  }
  if (best != nullptr) {
    state->static_slot = best->ref;
    GrantStatic(best, state);
  }
  return best != nullptr;
}

// The first one of a rank is promised; one beside an older one must leave what others are promised.
Status Member::CreateStatic(Rank rank, RankSession* state) {
  const std::uint64_t capacity = StaticCapacityOf(*state);
  const auto idle = [](const Slot* slot) { return slot->phase == SlotPhase::kFree; };
  std::vector<Slot*> others = SlotsOf(rank, proto::STATIC);
  for (const Slot* slot : others) {
    if (idle(slot)) {
      DropFile(slot->ref);
    }
  }
  others = SlotsOf(rank, proto::STATIC);
  if (context_->slots.free_bytes() < capacity) {
    DropFreeSlotsOfAbsentRanks();
  }
  std::uint64_t needed = capacity;
  if (!others.empty()) {
    const std::uint64_t by_others = hooks_.reserved_by_others ? hooks_.reserved_by_others(this) : 0;
    const std::uint64_t reserved = ReservedBytes() + by_others;  // this one's own among them
    needed = std::max(capacity, reserved);
  }
  const std::uint64_t free = context_->slots.free_bytes();
  if (free < needed) {
    return Error(Errc::kNoSpace,
                 "there is no room for " + std::string(others.empty() ? "a" : "another") +
                     " copy of the frozen tensors of rank " + std::to_string(rank) + ", " +
                     FormatBytes(capacity) + ": the arena has " + FormatBytes(free) +
                     " free, of which " + FormatBytes(needed - capacity) +
                     " are promised; raise the budget");
  }
  if (context_->now < state->no_create_before) {
    return Error(Errc::kUnavailable, "the arena has just refused a file");
  }
  Slot* slot = context_->slots.Create(
      capacity, job_->uid(), rank, context_->batch(), proto::STATIC, state->static_hash);
  slot->layout_hash = state->layout_hash;
  slot->image_bytes = state->static_bytes;
  state->static_slot = slot->ref;
  context_->Do(
      PrepareSlot{slot->ref, capacity, true, state->layout_hash, proto::STATIC, state->numa_node});
  return Ok();
}

// I7: as Grant, for one that is to be filled; a sealed one goes out read-only and changes no more.
void Member::GrantStatic(Slot* slot, RankSession* state) {
  const bool sealed = slot->phase == SlotPhase::kSealed;
  if (!sealed) {
    slot->session_token = state->token;
    slot->pid = state->process.pid;
    slot->epoch_number = job_->record.epoch_number();
    context_->slots.Apply(slot, SlotEvent::kGrant, context_->batch());
  }
  Send send;
  send.session = state->session;
  proto::GrantEvent* grant = send.message.mutable_grant();
  grant->set_slot(slot->ref.slot);
  grant->set_generation(slot->ref.generation);
  grant->set_capacity_bytes(slot->capacity_bytes);
  grant->set_layout_generation(state->layout_generation);
  grant->set_image(proto::STATIC);
  grant->set_sealed(sealed);
  if (state->has_fd.insert(slot->ref).second) {
    grant->set_has_fd(true);
    send.fd_slot = slot->ref;
    send.fd_writable = !sealed;
  }
  context_->Do(std::move(send));
}

// nullptr where the layout of "slot" has no static image.
Result<Slot*> Member::StaticOfSeal(Rank rank, const Slot& slot, const proto::SealRequest& seal) {
  if (slot.static_hash.empty()) {
    return static_cast<Slot*>(nullptr);
  }
  const proto::StaticSeal& named = seal.static_image();
  const Error refusal(Errc::kInvalidArgument,
                      "it does not name the static image of its layout, or one that is not sealed");
  Slot* found = OwnSlot(rank, named.slot(), named.generation(), proto::STATIC);
  if (found == nullptr || found->static_hash != slot.static_hash) {
    return refusal;
  }
  const auto& digests = named.chunk_crc32c();
  if (found->phase == SlotPhase::kSealed) {
    const auto& known = found->static_image.chunk_crc32c();
    const bool same =
        digests.empty() || std::equal(digests.begin(), digests.end(), known.begin(), known.end());
    return same && IsUsableStatic(*found) ? Result<Slot*>(found) : refusal;
  }
  const bool granted = found->phase == SlotPhase::kGranted && !found->spoilt &&
                       found->session_token == ranks_.at(rank).token;
  const bool whole = static_cast<std::uint64_t>(digests.size()) == ChunkCount(found->image_bytes);
  return granted && whole ? Result<Slot*>(found) : refusal;
}

// In the batch of the first shard that shares it.
void Member::SealStatic(Slot* slot, const SnapshotKey& id, const proto::StaticSeal& seal) {
  if (slot->phase == SlotPhase::kSealed) {
    return;
  }
  slot->static_image.set_kind(proto::STATIC);
  slot->static_image.set_length_bytes(slot->image_bytes);
  slot->static_image.set_chunk_bytes(kChunkBytes);
  *slot->static_image.mutable_chunk_crc32c() = seal.chunk_crc32c();
  *slot->static_image.mutable_owner() = job_->Id(id);
  context_->slots.Apply(slot, SlotEvent::kBegin, context_->batch());
  context_->slots.Apply(slot, SlotEvent::kSealRecorded, context_->batch());
}

// Seals may come out of order: a shard that is older than the one that sealed the image counts as
// an owner of its own.
void Member::AddStaticImage(const Slot& slot, proto::Sidecar* sidecar) const {
  proto::ImageDigest* image = sidecar->add_images();
  *image = slot.static_image;
  sidecar->set_static_hash(slot.static_hash);
  if (KeyOf(image->owner()) > KeyOf(sidecar->id())) {
    image->clear_owner();
  }
}

void Member::OnRefuseStatic(Rank rank, RequestId request, const proto::RefuseStaticRequest& body) {
  RankSession& state = ranks_.at(rank);
  const SlotRef ref{body.slot(), body.generation()};
  Status made = Ok();
  const Slot* slot = OwnSlot(rank, ref.slot, ref.generation, proto::STATIC);
  if (state.static_slot == ref && slot != nullptr && slot->phase == SlotPhase::kSealed) {
    state.refused_statics.insert(ref);
    LetGoOfStatic(ref);
    made = CreateStatic(rank, &state);
  }
  if (!made.has_value()) {
    context_->ReplyError(state.session, request, made.error());
    return;
  }
  proto::ServerMessage message;
  message.mutable_refuse_static();
  ReplyTo(state, request, std::move(message));
}

// No live layout uses it any more; who maps it is told.
void Member::LetGoOfStatic(SlotRef ref) {
  for (auto& [rank, state] : ranks_) {
    if (state.static_slot == ref) {
      state.static_slot.reset();
    }
  }
  Revoke(ref);
}

void Member::PoisonStatic(SlotRef ref, const std::string& reason) {
  Slot* slot = context_->slots.Find(ref);
  if (slot == nullptr || slot->kind != proto::STATIC) {
    return;
  }
  slot->spoilt = true;
  for (const auto& [id, by_rank] : job_->shards) {
    for (const auto& [rank, shard] : by_rank) {
      if (shard.static_slot == ref) {
        Poison(id, rank, "its static image: " + reason);
      }
    }
  }
  LetGoOfStatic(ref);
}

// I2, I4: an image stays while a shard shares it, a reader holds it or a live layout uses it; after
// a restart of the daemon also while the client that sealed it has not spoken yet.
void Member::DropIdleStatics(bool also_in_use) {
  std::vector<SlotRef> idle;
  context_->slots.ForEach([&](Slot* slot) {
    if (slot->job != job_->uid() || slot->kind != proto::STATIC) {
      return;
    }
    const bool silent =
        slot->epoch_number == job_->record.epoch_number() && !ranks_.contains(slot->rank);
    const bool used = IsInUseByRank(slot->ref) || (slot->phase == SlotPhase::kSealed && silent);
    if (used && !also_in_use) {
      return;
    }
    if (slot->phase == SlotPhase::kSealed && slot->pins == 0 && !job_->SharesStatic(slot->ref)) {
      context_->slots.Apply(slot, SlotEvent::kRetire, context_->batch());
    }
    if (slot->phase == SlotPhase::kFree) {
      idle.push_back(slot->ref);
    }
  });
  for (const SlotRef& ref : idle) {
    LetGoOfStatic(ref);
    Slot* slot = context_->slots.Find(ref);
    if (slot->spoilt) {
      context_->slots.Apply(slot, SlotEvent::kSpoilt, context_->batch());
      context_->Do(QuarantineSlot{ref});
    } else {
      DropFile(ref);
    }
  }
}

}  // namespace holdfast::daemon
