// The member's part of a restore attempt: prepare, tell the choice, hear that it was loaded.

#include <algorithm>
#include <utility>

#include "daemon/core/member.h"

namespace holdfast::daemon {
namespace {

// The answer must be there before the client gives up by itself.
constexpr std::chrono::milliseconds kAnswerTakes{5'000};

std::chrono::milliseconds LimitOf(std::uint64_t timeout_ms) {
  const std::chrono::milliseconds timeout(
      std::min<std::uint64_t>(timeout_ms, kLongestRestore.count()));
  return timeout - std::min(timeout / 10, kAnswerTakes);
}

}  // namespace

void Member::OnRestore(Rank rank, RequestId request, const proto::RestoreRequest& body) {
  RankSession& state = ranks_.at(rank);
  if (state.last_begun != kNoStep && command_.phase == Phase::kRun) {
    context_->ReplyError(state.session,
                         request,
                         Error(Errc::kInvalidArgument,
                               "restore() after a snapshot of the same incarnation: it belongs "
                               "before the first training step"));
    return;
  }
  AnswerSuperseded(state, state.restore_request.value_or(0));
  state.restore_request = request;
  // An attempt whose error this rank was told is over for it, whatever its client remembers.
  state.asked_after = std::max(state.asked_after, body.after_attempt());
  state.wish.named_step =
      body.has_named_step() ? std::optional<Step>(body.named_step()) : std::nullopt;
  state.wish.include_discarded = body.include_discarded();
  state.restore_limit = LimitOf(body.timeout_ms());
  state.overwritten = body.overwritten();
}

void Member::OnLoaded(Rank rank, RequestId request, const proto::LoadedRequest& body) {
  RankSession& state = ranks_.at(rank);
  if (!heard()) {
    // Whether its attempt goes on, is committed or over, only the coordinator's word can say.
    AnswerSuperseded(state, state.loaded_request.value_or(0));
    state.loaded_request = request;
    state.early_load = body;
    return;
  }
  if (command_.phase == Phase::kRun) {
    // The commit may be of an attempt that this rank loaded before the daemon came back.
    AnswerSuperseded(state, state.loaded_request.value_or(0));
    state.loaded_request = request;
    AnswerLoaded(&state, body.ok() && body.attempt() == command_.attempt);
    return;
  }
  AnswerSuperseded(state, state.loaded_request.value_or(0));
  state.loaded_request = request;
  state.loaded_request_attempt = body.attempt();
  if (command_.phase == Phase::kError) {
    TellRestoreError(&state);
    return;
  }
  if (body.fatal()) {
    // Whatever attempt it speaks of: this rank will not ask again.
    FailRestore(rank, Source{}, false, Shortened(body.failure()));
    failures_.back().fatal = true;
    return;
  }
  if (body.attempt() != command_.attempt || state.answered != body.attempt()) {
    // Of an attempt that is over, or before this daemon came back.  Where several ranks find rot at
    // once, the first ends the attempt: what the others found must not cost an attempt each.
    const RankSession::Told& told = state.told;
    if (!body.ok() && body.source_is_bad() && told.attempt == body.attempt() && told.attempt != 0 &&
        told.source.kind != Source::Kind::kTier) {
      Poison(told.id, rank, Shortened(body.failure()), body.bad_image());
    }
    AnswerLoaded(&state, false);
    return;
  }
  if (body.ok()) {
    state.loaded = body.attempt();
    return;
  }
  const auto source = command_.sources.find(rank);
  FailRestore(rank,
              source == command_.sources.end() ? Source{} : source->second,
              body.source_is_bad(),
              Shortened(body.failure()));
  if (body.source_is_bad() && command_.choice.has_value() && source != command_.sources.end() &&
      source->second.kind != Source::Kind::kTier) {
    Poison(*command_.choice, rank, Shortened(body.failure()), body.bad_image());
  }
}

void Member::TakeEarlyLoads() {
  for (auto& [rank, state] : ranks_) {
    const auto early = std::exchange(state.early_load, std::nullopt);
    const auto request = std::exchange(state.loaded_request, std::nullopt);
    if (early.has_value() && request.has_value()) {
      OnLoaded(rank, *request, *early);
    } else {
      state.loaded_request = request;
    }
  }
}

void Member::FailRestore(Rank rank, const Source& source, bool is_bad, std::string reason) {
  RestoreFailure failure;
  failure.attempt = command_.attempt;
  failure.rank = rank;
  failure.id = command_.choice.value_or(SnapshotKey{});
  failure.source = source;
  failure.source_is_bad = is_bad;
  failure.reason = std::move(reason);
  failures_.push_back(std::move(failure));
}

// Prepare: each rank of this node gets a source that is present, and pinned until it has loaded.
// Also while others load: a rank that was called dead and came back has none any more.
void Member::PrepareSources() {
  if (!command_.choice.has_value()) {
    return;
  }
  for (auto& [rank, state] : ranks_) {
    const auto source = command_.sources.find(rank);
    const bool begun = state.prepared == command_.attempt || !state.restore_pins.empty() ||
                       state.restore_file.has_value();
    if (source != command_.sources.end() && !begun && !state.dead && failures_.empty()) {
      PrepareRank(rank, &state, source->second);
    }
  }
}

void Member::PrepareRank(Rank rank, RankSession* state, const Source& source) {
  const SnapshotKey& id = *command_.choice;
  if (source.kind == Source::Kind::kTier) {
    OpenShardFile open;
    open.job_name = job_->record.name();
    open.job_uid = job_->uid();
    open.root = source.root;
    open.id = id;
    open.rank = rank;
    open.attempt = command_.attempt;
    open.ticket = context_->next_ticket++;
    state->restore_file = open.ticket;
    context_->Do(std::move(open));
    return;
  }
  if (source.IsElsewhere() && !Bring(rank, source)) {
    return;  // it goes on when an answer comes
  }
  const Shard* shard = job_->FindShard(id, rank);
  Slot* slot = shard == nullptr ? nullptr : context_->slots.Find(shard->slot);
  const bool shares = shard != nullptr && shard->static_slot.has_value();
  Slot* image = shares ? context_->slots.Find(*shard->static_slot) : nullptr;
  if (shard == nullptr || shard->poisoned || slot == nullptr || (shares && image == nullptr)) {
    FailRestore(rank, source, true, "the shard is not in memory any more");
    return;
  }
  for (Slot* each : {slot, image}) {
    if (each != nullptr) {
      ++each->pins;
      state->restore_pins.push_back(each->ref);
    }
  }
  state->restore_sidecar = shard->sidecar;
  state->prepared = command_.attempt;
}

void Member::OnShardOpened(std::uint32_t attempt,
                           Rank rank,
                           std::uint64_t ticket,
                           Result<proto::Sidecar> sidecar) {
  const auto it = ranks_.find(rank);
  if (it == ranks_.end() || it->second.restore_file != ticket || attempt != command_.attempt) {
    context_->Do(CloseShardFile{ticket});
    return;
  }
  RankSession& state = it->second;
  if (!sidecar.has_value()) {
    const auto source = command_.sources.find(rank);
    const Errc code = sidecar.error().code;
    // Damage is for good; a file system that is away may come back.
    const bool bad = code == Errc::kCorruption || code == Errc::kNotFound ||
                     code == Errc::kVersionMismatch || code == Errc::kInvalidArgument;
    FailRestore(rank,
                source == command_.sources.end() ? Source{} : source->second,
                bad,
                sidecar.error().message);
    ReleaseRestore(&state);
    return;
  }
  state.restore_sidecar = std::move(sidecar).value();
  state.prepared = attempt;
}

// Tells every waiting rank what the attempt came to.
void Member::AnswerRestores() {
  for (auto& [rank, state] : ranks_) {
    if (command_.phase == Phase::kError) {
      if (state.loaded_request.has_value() || state.asked_after < command_.attempt) {
        TellRestoreError(&state);
      }
      continue;
    }
    if (!state.restore_request.has_value()) {
      continue;
    }
    if (command_.phase == Phase::kRun ||
        (command_.phase == Phase::kGo && state.prepared == command_.attempt)) {
      TellChoice(rank, &state);
    }
  }
}

// The restore is over for this rank, whether it waits for a choice or for the others' word.
void Member::TellRestoreError(RankSession* state) {
  const Error error(command_.error_code, command_.error.value_or("nothing to restore"));
  for (std::optional<RequestId>* request : {&state->restore_request, &state->loaded_request}) {
    if (request->has_value()) {
      context_->ReplyError(state->session, **request, error);
      request->reset();
      state->asked_after = command_.attempt;
    }
  }
  ReleaseRestore(state);
}

void Member::TellChoice(Rank rank, RankSession* state) {
  const bool nothing = !command_.choice.has_value();
  if (!nothing && command_.phase == Phase::kRun) {
    // Committed means that this rank had loaded: only a client that lost its place asks again.
    context_->ReplyError(
        state->session,
        *state->restore_request,
        Error(Errc::kUnavailable,
              "this incarnation has restored already; start a new one to restore again"));
    state->restore_request.reset();
    return;
  }
  if (!nothing && (!state->restore_sidecar.has_value() || !command_.sources.contains(rank))) {
    return;  // not prepared (yet): it goes on waiting
  }
  Send send;
  send.session = state->session;
  send.message.set_request_id(*state->restore_request);
  proto::RestoreReply* reply = send.message.mutable_restore();
  reply->set_attempt(command_.attempt);
  reply->set_has_choice(!nothing);
  for (const std::string& line : command_.passed_over) {
    reply->add_passed_over(line);
  }
  if (!nothing && state->restore_sidecar->images_size() > 1) {
    TellStaticSource(*state);
  }
  if (!nothing) {
    *reply->mutable_id() = job_->Id(*command_.choice);
    reply->set_source(command_.sources.at(rank).Text());
    *reply->mutable_sidecar() = *state->restore_sidecar;
    reply->set_has_fd(true);
    send.fd_slot = state->restore_pins.empty() ? std::optional<SlotRef>() : state->restore_pins[0];
    send.fd_file = state->restore_file;
  }
  state->restore_request.reset();
  state->answered = command_.attempt;
  if (!nothing) {
    state->told = {command_.attempt, *command_.choice, command_.sources.at(rank)};
  }
  context_->Do(std::move(send));
}

// One frame carries one descriptor: that of the static image goes first.
void Member::TellStaticSource(const RankSession& state) {
  Send send;
  send.session = state.session;
  send.message.mutable_restore_image()->set_attempt(command_.attempt);
  send.message.mutable_restore_image()->set_has_fd(true);
  if (state.restore_pins.size() > 1) {
    send.fd_slot = state.restore_pins[1];
  }
  send.fd_file = state.restore_file;
  send.fd_image = proto::STATIC;
  context_->Do(std::move(send));
}

void Member::AnswerLoaded(RankSession* state, bool committed) {
  if (!state->loaded_request.has_value()) {
    return;
  }
  proto::ServerMessage message;
  message.mutable_loaded()->set_committed(committed);
  ReplyTo(*state, *state->loaded_request, std::move(message));
  state->loaded_request.reset();
}

void Member::ReleaseRestore(RankSession* state) {
  for (const SlotRef& ref : std::exchange(state->restore_pins, {})) {
    if (Slot* slot = context_->slots.Find(ref); slot != nullptr && slot->pins > 0) {
      --slot->pins;
    }
  }
  if (state->restore_file.has_value()) {
    context_->Do(CloseShardFile{*state->restore_file});
    state->restore_file.reset();
  }
  state->restore_sidecar.reset();
  // Without a source this rank is not prepared, also when it comes back in the same attempt.
  state->prepared = 0;
  state->answered = 0;
}

void Member::Poison(const SnapshotKey& id,
                    Rank rank,
                    const std::string& reason,
                    proto::ImageKind image) {
  Shard* shard = job_->FindShard(id, rank);
  if (shard != nullptr && shard->static_slot.has_value() && image == proto::STATIC) {
    PoisonStatic(*shard->static_slot, reason);
    return;
  }
  if (shard == nullptr || shard->poisoned) {
    return;
  }
  shard->poisoned = true;
  shard->poison_reason = reason;
  job_->SaveShard(context_, id, rank);
}

}  // namespace holdfast::daemon
