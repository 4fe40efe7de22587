// Sessions of ranks: register, resume, loss, death, fencing.

#include <algorithm>
#include <utility>

#include "daemon/core/first_few.h"
#include "daemon/core/member.h"

namespace holdfast::daemon {

Member::Member(CoreContext* context, Job* job) : context_(context), job_(job) {}

void Member::OnRegister(SessionId session,
                        const ClientIdentity& identity,
                        RequestId request,
                        const proto::RegisterRequest& body,
                        const LayoutFacts& layout) {
  const Rank rank = body.rank();
  if (RefuseTwin(session, identity, request, body)) {
    return;
  }
  RankSession* state = &ranks_[rank];
  const bool same_process = state->token != 0 && state->token == body.session_token();
  if (!same_process) {
    // After a restart of the daemon nothing is known of a session but its token and its slots.
    ReleaseRestore(state);
    AnswerWaiting(state, Error(Errc::kUnavailable, "this rank has registered anew"));
    *state = {};
    state->token = body.session_token() != 0 ? body.session_token() : identity.session_random;
  }
  const RankSession before = *state;
  const bool new_layout = state->layout_hash != layout.hash;
  state->layout_hash = layout.hash;
  state->image_bytes = layout.image_bytes;
  state->static_hash = layout.static_hash;
  state->static_bytes = layout.static_bytes;
  state->numa_node = body.has_numa_node() ? body.numa_node() : -1;
  const Status admitted = AdmitOrReclaim(rank, state, body.slots_wanted());
  if (!admitted.has_value()) {
    context_->ReplyError(session, request, admitted.error());
    *state = before;
    if (before.layout_hash.empty()) {
      ranks_.erase(rank);
    }
    return;
  }
  const bool resumed = state->session != session;
  if (resumed) {
    state->has_fd.clear();
    AnswerWaiting(state, Error(Errc::kUnavailable, "this rank's session is elsewhere now"));
  }
  state->session = session;
  state->process = identity;
  state->dead = false;
  state->finished = false;
  state->layout_generation += new_layout ? 1 : 0;
  state->last_begun = std::max(state->last_begun, body.last_begun_step());
  state->skipped = std::max(state->skipped, body.skipped_total());

  proto::ServerMessage message;
  proto::RegisterReply* reply = message.mutable_register_();
  TakeBackSlots(rank, state, body, resumed, reply);
  TakeBackStatic(rank, state, body, reply);
  reply->set_session_token(state->token);
  reply->set_layout_generation(state->layout_generation);
  reply->set_slots_admitted(state->slots_admitted);
  reply->set_image_bytes(state->image_bytes);
  reply->set_static_image_bytes(state->static_bytes);
  const auto newest = NewestCompleteOfEpoch();
  reply->set_newest_complete_step(newest.has_value() ? newest->step : kNoStep);
  job_->record.set_finished(false);
  job_->record.set_last_active_unix_ms(context_->WallMs());
  job_->Save(context_);
  ReplyTo(*state, request, std::move(message));
}

// Two live trainers must never be the same rank: the second is told who is first.  A process that
// knows no token is the first itself if it never heard the answer to its registration.
bool Member::RefuseTwin(SessionId session,
                        const ClientIdentity& identity,
                        RequestId request,
                        const proto::RegisterRequest& body) {
  const Rank rank = body.rank();
  const auto it = ranks_.find(rank);
  if (it == ranks_.end() || it->second.dead || it->second.token == body.session_token() ||
      it->second.session == session || IsSameProcess(it->second.process, identity)) {
    return false;
  }
  context_->ReplyError(session,
                       request,
                       Error(Errc::kAlreadyExists,
                             "rank " + std::to_string(rank) + " of job " + job_->record.name() +
                                 " is process " + std::to_string(it->second.process.pid) +
                                 " already; end that one, or start a new incarnation from rank 0"));
  return true;
}

// What the client holds stays its own.  When it resumes, a slot of its token that it does not name
// is proven idle by the word of the live client; when it only brings a new layout on the connection
// that it has, it names nothing, and a copy of the old layout goes on until it is sealed or done
// (I7).
void Member::TakeBackSlots(Rank rank,
                           RankSession* state,
                           const proto::RegisterRequest& body,
                           bool resumed,
                           proto::RegisterReply* reply) {
  std::set<SlotRef> kept;
  for (const proto::HeldSlot& held : body.held()) {
    Slot* slot = OwnSlot(rank, held.slot(), held.generation());
    if (slot != nullptr && slot->session_token == state->token && Vouch(slot, state, held)) {
      kept.insert(slot->ref);
      state->has_fd.insert(slot->ref);
      *reply->add_kept() = held;
    }
  }
  for (Slot* slot : SlotsOf(rank)) {
    if (kept.contains(slot->ref)) {
      continue;
    }
    if (slot->session_token != state->token) {
      LoseOwner(slot);
    } else if (SlotTable::Allows(*slot, SlotEvent::kReturned)) {
      context_->slots.Apply(slot, SlotEvent::kReturned, context_->batch());
    } else if (resumed &&
               (slot->phase == SlotPhase::kFilling || slot->phase == SlotPhase::kDraining)) {
      GiveUp(slot, /*copies_done=*/true);
    }
  }
}

// False where the slot is not the client's any more.
bool Member::Vouch(Slot* slot, RankSession* state, const proto::HeldSlot& held) {
  const bool limbo = slot->phase == SlotPhase::kLimbo;
  storage_tiers::CatalogBatch* batch = context_->batch();
  switch (held.use()) {
    case proto::HeldSlot::IDLE:
      // A changed layout needs another header: the client gives an idle slot back by registering.
      if (slot->layout_hash != state->layout_hash) {
        return false;
      }
      if (limbo) {
        context_->slots.Apply(slot, SlotEvent::kVouchedIdle, batch);
      }
      return slot->phase == SlotPhase::kGranted;
    case proto::HeldSlot::FILLING:
      if (limbo) {
        context_->slots.Apply(slot, SlotEvent::kVouchedFilling, batch);
        slot->step = held.step();
      } else if (slot->phase == SlotPhase::kGranted) {
        context_->slots.Apply(slot, SlotEvent::kBegin, batch);
        slot->step = held.step();
      }
      state->last_begun = std::max(state->last_begun, held.step());
      // Sealed already, and the answer was lost: the client's seal is answered again.
      return slot->phase == SlotPhase::kFilling || slot->phase == SlotPhase::kSealed ||
             slot->phase == SlotPhase::kDraining || slot->phase == SlotPhase::kSealing;
    case proto::HeldSlot::DRAINING:
      if (limbo) {
        context_->slots.Apply(slot, SlotEvent::kVouchedDraining, batch);
      } else if (slot->phase == SlotPhase::kGranted) {
        context_->slots.Apply(slot, SlotEvent::kBegin, batch);
      }
      if (slot->phase == SlotPhase::kFilling) {
        context_->slots.Apply(slot, SlotEvent::kGivenUp, batch);
      }
      slot->step = held.step();
      return slot->phase == SlotPhase::kDraining;
    default:
      return false;
  }
}

// I7: what a dead or fenced client may still write to is never reused.
void Member::LoseOwner(Slot* slot) {
  if (slot->phase == SlotPhase::kSealing) {
    context_->slots.Apply(slot, SlotEvent::kGivenUp, context_->batch());
    return;  // the digest that runs ends it
  }
  if (SlotTable::Allows(*slot, SlotEvent::kOwnerGone)) {
    context_->slots.Apply(slot, SlotEvent::kOwnerGone, context_->batch());
    context_->Do(QuarantineSlot{slot->ref});
  }
}

std::optional<Rank> Member::RankOfSession(SessionId session) const {
  for (const auto& [rank, state] : ranks_) {
    if (state.session == session && session != 0) {
      return rank;
    }
  }
  return std::nullopt;
}

void Member::OnDisconnected(SessionId session) {
  const auto rank = RankOfSession(session);
  if (!rank.has_value()) {
    return;
  }
  RankSession& state = ranks_.at(*rank);
  state.session = 0;
  state.has_fd.clear();
  state.restore_request.reset();
  state.loaded_request.reset();
  state.early_load.reset();
  state.drain.reset();
  for (auto& [slot, pending] : state.digesting) {
    pending.request = 0;
  }
  job_->record.set_last_active_unix_ms(context_->WallMs());
  job_->Save(context_);
}

// Every begin came before this on the same connection: what counts as granted was not touched.  A
// slot that is still being filled here is treated as its dead owner's, whatever the client thinks.
void Member::OnLeave(Rank rank, RequestId request) {
  RankSession& state = ranks_.at(rank);
  const SessionId session = state.session;
  AnswerWaiting(&state, Error(Errc::kCancelled, "this rank has left"));
  context_->slots.ForEach([&](Slot* slot) {
    if (slot->job == job_->uid() && slot->session_token == state.token &&
        slot->phase == SlotPhase::kGranted) {
      context_->slots.Apply(slot, SlotEvent::kReturned, context_->batch());
    }
  });
  OnProcessDead(state.token);
  proto::ServerMessage message;
  message.mutable_leave();
  context_->Reply(session, request, std::move(message));
}

bool Member::OnProcessDead(std::uint64_t token) {
  bool ours = false;
  for (auto& [rank, state] : ranks_) {
    if (state.token == token) {
      ours = true;
      state.dead = true;
      OnDisconnected(state.session);
      ReleaseRestore(&state);
    }
  }
  context_->slots.ForEach([&](Slot* slot) {
    if (slot->job == job_->uid() && slot->session_token == token &&
        slot->phase != SlotPhase::kSealing) {
      ours = true;
      LoseOwner(slot);
    }
  });
  return ours;
}

void Member::EndSessions(const Error& error, std::uint64_t newer_epoch) {
  for (auto& [rank, state] : ranks_) {
    ReleaseRestore(&state);
    if (state.session == 0) {
      continue;
    }
    AnswerWaiting(&state, error);
    Send send;
    send.session = state.session;
    send.message.mutable_fenced()->set_newer_epoch(newer_epoch);
    context_->Do(std::move(send));
  }
  ranks_.clear();
  context_->slots.ForEach([&](Slot* slot) {
    if (slot->job == job_->uid()) {
      LoseOwner(slot);
    }
  });
  GiveUpOtherRows(nullptr);
  GiveUpBringing();
  failures_.clear();
  missed_reasons_.clear();
  silent_since_.reset();
}

// The number of the newer start is not known here: another node has refused this incarnation.
void Member::Fence(const Error& error) {
  EndSessions(error, 0);
}

void Member::StartEpoch() {
  EndSessions(Error(Errc::kFenced, "a newer incarnation of this job has started"),
              job_->record.epoch_number());
  job_->Present();
  command_ = {};
  command_.stamp.epoch = job_->epoch();
  for (auto& [key, flush] : flushes_) {
    flush.must_finish = false;
  }
}

void Member::StartEpochAfterRestart() {
  if (job_->record.epoch_number() != 0) {
    job_->Present();
  }
  command_ = {};
  command_.stamp.epoch = job_->epoch();
}

void Member::OnLimboOver(std::uint64_t token) {
  context_->slots.ForEach([&](Slot* slot) {
    if (slot->job == job_->uid() && slot->session_token == token &&
        slot->phase == SlotPhase::kLimbo) {
      LoseOwner(slot);
    }
  });
}

bool Member::live() const {
  return std::any_of(
      ranks_.begin(), ranks_.end(), [](const auto& entry) { return !entry.second.dead; });
}

std::string Member::LiveTrainers(const ClientIdentity& asker, bool only_connected) const {
  FirstFew trainers(", ", 16);
  for (const auto& [rank, state] : ranks_) {
    const bool gone = state.dead || state.finished || (only_connected && state.session == 0);
    if (gone || IsSameProcess(state.process, asker)) {
      continue;
    }
    trainers.Add("rank " + std::to_string(rank) + " is process " +
                 std::to_string(state.process.pid));
  }
  return trainers.Text();
}

// I12: a request that is not answered would count against its session for ever.
void Member::AnswerSuperseded(const RankSession& state, RequestId request) {
  if (state.session != 0 && request != 0) {
    context_->ReplyError(state.session,
                         request,
                         Error(Errc::kCancelled, "a later request of this rank replaces it"));
  }
}

void Member::AnswerWaiting(RankSession* state, const Error& error) {
  std::vector<RequestId> requests = {
      std::exchange(state->restore_request, std::nullopt).value_or(0),
      std::exchange(state->loaded_request, std::nullopt).value_or(0),
      state->drain.has_value() ? state->drain->request : 0};
  state->early_load.reset();
  state->drain.reset();
  for (auto& [slot, pending] : state->digesting) {
    requests.push_back(std::exchange(pending.request, 0));
  }
  for (const RequestId request : requests) {
    if (state->session != 0 && request != 0) {
      context_->ReplyError(state->session, request, error);
    }
  }
}

// Request numbers belong to a connection: what was asked on a lost one is not answered on the next.
void Member::ReplyTo(const RankSession& state, RequestId request, proto::ServerMessage message) {
  if (state.session == 0 || request == 0) {
    return;
  }
  context_->Reply(state.session, request, std::move(message));
}

}  // namespace holdfast::daemon
