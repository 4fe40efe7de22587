// Snapshots of ranks: begin, miss, torn, seal (docs/ARCHITECTURE.md, life of a snapshot).

#include <algorithm>
#include <utility>

#include "common/crc32c.h"
#include "common/units.h"
#include "daemon/core/member.h"
#include "layout/sidecar.h"

namespace holdfast::daemon {
namespace {

constexpr std::size_t kReasonsKept = 64;
constexpr std::uint64_t kStateBytesLimit = 16 * kMiB;

Error NotYours(std::uint32_t slot) {
  return Error(Errc::kInvalidArgument,
               "slot " + std::to_string(slot) + " is not this rank's to use now");
}

std::uint64_t StateBytes(const proto::SealRequest& seal) {
  std::uint64_t bytes = 0;
  for (const proto::StateItem& item : seal.state()) {
    bytes += item.ByteSizeLong();
  }
  return bytes;
}

bool IsGrantedTo(const RankSession& state, const Slot* slot) {
  return slot != nullptr && slot->session_token == state.token &&
         slot->phase == SlotPhase::kGranted;
}

proto::ServerMessage SealedMessage() {
  proto::ServerMessage message;
  message.mutable_seal();
  return message;
}

}  // namespace

void Member::OnBegin(Rank rank, RequestId request, const proto::BeginRequest& body) {
  RankSession& state = ranks_.at(rank);
  Slot* slot = OwnSlot(rank, body.slot(), body.generation());
  const bool repeated = slot != nullptr && slot->session_token == state.token &&
                        slot->step == body.step() && slot->phase != SlotPhase::kGranted;
  if (slot == nullptr || slot->session_token != state.token ||
      !(repeated || SlotTable::Allows(*slot, SlotEvent::kBegin))) {
    context_->ReplyError(state.session, request, NotYours(body.slot()));
    return;
  }
  if (!repeated && body.step() <= state.last_begun) {
    context_->ReplyError(state.session,
                         request,
                         Error(Errc::kInvalidArgument,
                               "step " + std::to_string(body.step()) + " is not above step " +
                                   std::to_string(state.last_begun) + ", the last of this rank"));
    return;
  }
  if (!repeated) {
    GoOn();
    context_->slots.Apply(slot, SlotEvent::kBegin, context_->batch());
    slot->step = body.step();
    state.last_begun = body.step();
  }
  const SnapshotKey id{job_->record.epoch_number(), body.step()};
  if (job_->IsAbandoned(id)) {
    GiveUp(slot, /*copies_done=*/false);
    context_->ReplyError(
        state.session,
        request,
        Error(Errc::kAbandoned, ToText(id) + " was abandoned: " + job_->outcomes.at(id).reason()));
    return;
  }
  proto::ServerMessage message;
  message.mutable_begin();
  ReplyTo(state, request, std::move(message));
}

// Its memory was given up, by force or by a rank that was done too early; what it saves from now on
// must outlive its trainers again.
void Member::GoOn() {
  if (job_->record.finished()) {
    job_->record.set_finished(false);
    job_->Save(context_);
  }
}

void Member::Miss(RankSession* state, Rank rank, Step step, const std::string& reason) {
  ++state->missed;
  state->last_missed_reason = Shortened(reason);
  missed_reasons_[{step, rank}] = state->last_missed_reason;
  if (missed_reasons_.size() > kReasonsKept) {
    missed_reasons_.erase(missed_reasons_.begin());
  }
}

void Member::OnMissed(Rank rank, RequestId request, const proto::MissedRequest& body) {
  RankSession& state = ranks_.at(rank);
  if (body.step() > state.last_begun) {
    state.last_begun = body.step();
    // No slot is free before something newer is complete, and protected: that is what takes so
    // long.
    std::string why = WhoIsSilent();
    if (why.empty() && command_.coded && command_.protect.has_value()) {
      why = "protection lags: " + ToText(command_.protect->id) + " is being protected" +
            (parity_error_.empty() ? "" : ": " + parity_error_);
    }
    Miss(&state, rank, body.step(), body.reason() + (why.empty() ? "" : "; " + why));
    state.missed -= body.has_skipped_total() ? 1 : 0;  // it is among those that the client counts
  }
  state.skipped = std::max(state.skipped, body.skipped_total());
  proto::ServerMessage message;
  message.mutable_missed();
  ReplyTo(state, request, std::move(message));
}

void Member::OnTorn(Rank rank, RequestId request, const proto::TornRequest& body) {
  RankSession& state = ranks_.at(rank);
  Slot* slot = OwnSlot(rank, body.slot(), body.generation());
  const bool current = slot != nullptr && slot->session_token == state.token &&
                       slot->step == body.step() &&
                       (slot->phase == SlotPhase::kFilling || slot->phase == SlotPhase::kDraining);
  // Anything else is the repetition of a message that was obeyed before the connection broke.
  if (current) {
    Miss(&state, rank, body.step(), body.reason());
    GiveUp(slot, body.copies_done());
  } else if (IsGrantedTo(state, slot) && (body.copies_done() || body.step() > state.last_begun)) {
    TearUnbegun(&state, rank, slot, body);
  }
  proto::ServerMessage message;
  message.mutable_torn();
  ReplyTo(state, request, std::move(message));
}

// The begin was refused or lost, the client copied all the same: without this the slot would stay
// granted to a client that does not know of it (L).
void Member::TearUnbegun(RankSession* state,
                         Rank rank,
                         Slot* slot,
                         const proto::TornRequest& body) {
  context_->slots.Apply(slot, SlotEvent::kBegin, context_->batch());
  slot->step = body.step();
  if (body.step() > state->last_begun) {
    state->last_begun = body.step();
    Miss(state, rank, body.step(), body.reason());
  }
  GiveUp(slot, body.copies_done());
}

void Member::OnCopiesDone(Rank rank, RequestId request, const proto::CopiesDoneRequest& body) {
  RankSession& state = ranks_.at(rank);
  Slot* slot = OwnSlot(rank, body.slot(), body.generation());
  if (IsGrantedTo(state, slot)) {
    context_->slots.Apply(slot, SlotEvent::kReturned, context_->batch());  // as TearUnbegun
  } else if (slot != nullptr && slot->session_token == state.token &&
             slot->phase == SlotPhase::kDraining) {
    GiveUp(slot, /*copies_done=*/true);
  }
  proto::ServerMessage message;
  message.mutable_copies_done();
  ReplyTo(state, request, std::move(message));
}

void Member::OnSeal(Rank rank, RequestId request, const proto::SealRequest& body) {
  RankSession& state = ranks_.at(rank);
  const SnapshotKey id{job_->record.epoch_number(), body.step()};
  Slot* slot = OwnSlot(rank, body.slot(), body.generation());
  const Shard* sealed = job_->FindShard(id, rank);
  if (sealed != nullptr && slot != nullptr && sealed->slot == slot->ref) {
    ReplyTo(state, request, SealedMessage());  // the answer was lost, not the seal
    return;
  }
  if (sealed != nullptr) {
    context_->ReplyError(state.session, request, NotYours(body.slot()));
    return;
  }
  const bool current =
      slot != nullptr && slot->session_token == state.token && slot->step == body.step();
  // A client that seals has no copy under way any more, so a given-up slot is free at once.
  if (job_->IsAbandoned(id) || (current && slot->phase == SlotPhase::kDraining)) {
    if (current) {
      GiveUp(slot, /*copies_done=*/true);
    }
    context_->ReplyError(
        state.session, request, Error(Errc::kAbandoned, ToText(id) + " was abandoned"));
    return;
  }
  if (current && state.digesting.contains(slot->ref)) {
    AnswerSuperseded(state, std::exchange(state.digesting.at(slot->ref).request, request));
    return;
  }
  if (!current || slot->phase != SlotPhase::kFilling) {
    context_->ReplyError(state.session, request, NotYours(body.slot()));
    return;
  }
  const std::uint64_t bytes = slot->image_bytes;
  const bool wrong_digests =
      body.chunk_crc32c_size() != 0 &&
      static_cast<std::uint64_t>(body.chunk_crc32c_size()) != ChunkCount(bytes);
  if (wrong_digests || StateBytes(body) > kStateBytesLimit || slot->layout_hash.empty()) {
    RefuseSeal(rank,
               request,
               slot,
               body,
               wrong_digests ? "needs " + std::to_string(ChunkCount(bytes)) +
                                   " chunk digests, has " + std::to_string(body.chunk_crc32c_size())
                             : "non-tensor state of " + FormatBytes(StateBytes(body)) +
                                   " is over the limit of 16 MiB; keep large values as tensors");
    return;
  }
  if (body.chunk_crc32c_size() == 0 && bytes != 0) {
    context_->slots.Apply(slot, SlotEvent::kFinal, context_->batch());
    state.digesting[slot->ref] = RankSession::PendingSeal{request, body};
    slot->digesting = true;
    context_->Do(DigestSlot{slot->ref, bytes});
    return;
  }
  RecordSeal(rank, request, slot, body, {body.chunk_crc32c().begin(), body.chunk_crc32c().end()});
}

void Member::RefuseSeal(Rank rank,
                        RequestId request,
                        Slot* slot,
                        const proto::SealRequest& seal,
                        const std::string& why) {
  RankSession& state = ranks_.at(rank);
  const SnapshotKey id{job_->record.epoch_number(), seal.step()};
  Miss(&state, rank, seal.step(), "seal refused: " + why);
  GiveUp(slot, /*copies_done=*/true);
  if (request != 0) {
    context_->ReplyError(state.session,
                         request,
                         Error(Errc::kInvalidArgument, "seal of " + ToText(id) + ": " + why));
  }
}

proto::Sidecar Member::MakeSidecar(Rank rank,
                                   const Slot& slot,
                                   const proto::SealRequest& seal,
                                   const std::vector<std::uint32_t>& digests) const {
  proto::Sidecar sidecar;
  sidecar.set_format_version(1);
  *sidecar.mutable_id() = job_->Id({job_->record.epoch_number(), seal.step()});
  sidecar.set_job_name(job_->record.name());
  sidecar.set_rank(rank);
  sidecar.set_world_size(job_->record.world_size());
  sidecar.set_layout_hash(slot.layout_hash);
  proto::ImageDigest* image = sidecar.add_images();
  image->set_kind(proto::DYNAMIC);
  image->set_length_bytes(slot.image_bytes);
  image->set_chunk_bytes(kChunkBytes);
  image->mutable_chunk_crc32c()->Add(digests.begin(), digests.end());
  *sidecar.mutable_state() = seal.state();
  sidecar.set_sealed_unix_ms(context_->WallMs());
  sidecar.set_node_uuid(context_->node_uuid);
  const proto::RestoreDecision& decision = job_->Present()->decision();
  if (decision.has_choice()) {
    *sidecar.mutable_parent() = decision.choice();
  }
  return sidecar;
}

// Record and sidecar are in this Ready's batch; the answer leaves after it is synced.
void Member::RecordSeal(Rank rank,
                        RequestId request,
                        Slot* slot,
                        const proto::SealRequest& seal,
                        const std::vector<std::uint32_t>& digests) {
  RankSession& state = ranks_.at(rank);
  const SnapshotKey id{job_->record.epoch_number(), seal.step()};
  const Result<Slot*> frozen = StaticOfSeal(rank, *slot, seal);
  if (!frozen.has_value()) {
    RefuseSeal(rank, request, slot, seal, frozen.error().message);
    return;
  }
  Shard shard;
  shard.slot = slot->ref;
  shard.sidecar = MakeSidecar(rank, *slot, seal, digests);
  // What the client sent goes into a record: one that no start would read must not be written.
  if (const Status valid = layout::ValidateSidecar(shard.sidecar); !valid.has_value()) {
    RefuseSeal(rank, request, slot, seal, valid.error().message);
    return;
  }
  if (Slot* image = frozen.value(); image != nullptr) {
    SealStatic(image, id, seal.static_image());
    shard.static_slot = image->ref;
    AddStaticImage(*image, &shard.sidecar);
  }
  context_->slots.Apply(slot, SlotEvent::kSealRecorded, context_->batch());
  job_->PutShard(context_, id, rank, std::move(shard));
  ++state.sealed;
  state.last_sealed = seal.step();
  ReplyTo(state, request, SealedMessage());
}

void Member::OnDigested(SlotRef ref, Result<std::vector<std::uint32_t>> digests) {
  Slot* slot = context_->slots.Find(ref);
  if (slot == nullptr) {
    return;
  }
  slot->digesting = false;
  slot->spoilt = slot->spoilt || (!digests.has_value() && digests.error().code != Errc::kCancelled);
  const Rank rank = slot->rank;
  const auto it = ranks_.find(rank);
  const bool awaited = it != ranks_.end() && it->second.digesting.contains(ref);
  if (!awaited || slot->phase != SlotPhase::kSealing || !digests.has_value()) {
    GiveUp(slot, /*copies_done=*/true);
  }
  if (!awaited) {
    return;
  }
  const RankSession::PendingSeal pending = std::move(it->second.digesting.at(ref));
  it->second.digesting.erase(ref);
  if (slot->phase == SlotPhase::kSealing) {
    RecordSeal(rank, pending.request, slot, pending.seal, digests.value());
    return;
  }
  const std::string reason =
      digests.has_value() ? "it was abandoned" : "its digest failed: " + digests.error().message;
  Miss(&it->second, rank, pending.seal.step(), reason);
  if (pending.request != 0) {
    context_->ReplyError(
        it->second.session,
        pending.request,
        Error(Errc::kAbandoned, "step " + std::to_string(pending.seal.step()) + ": " + reason));
  }
}

}  // namespace holdfast::daemon
