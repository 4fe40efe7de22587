// What the member tells its coordinator, and how it obeys: whole states both ways.

#include <utility>

#include "daemon/core/member.h"

namespace holdfast::daemon {
namespace {

constexpr std::size_t kAnnouncedKept = 512;

}  // namespace

// A node obeys only one start of a number, so its record says whose the shards are.
std::uint64_t Member::TokenOf(std::uint64_t incarnation) const {
  const auto record = job_->incarnations.find(incarnation);
  return record == job_->incarnations.end() ? 0 : record->second.token();
}

Report Member::MakeReport() {
  Report report;
  report.stamp = {job_->epoch(), context_->boot_number(), context_->next_sequence++};
  report.node_uuid = context_->node_uuid;
  report.answers_attempt = command_.attempt;
  for (const auto& [rank, state] : ranks_) {
    RankReport& out = report.ranks[rank];
    out.last_begun = state.last_begun;
    out.connected = state.session != 0;
    out.asked = state.restore_request.has_value();
    out.asked_after = state.asked_after;
    out.wish = state.wish;
    out.prepared = state.prepared;
    out.loaded = state.loaded;
    out.overwritten = state.overwritten;
    out.drains = DrainIsDue(state);
  }
  for (const auto& [id, by_rank] : job_->shards) {
    for (const auto& [rank, shard] : by_rank) {
      report.shards.push_back(
          {id,
           rank,
           shard.poisoned ? ShardEntry::State::kPoisoned : ShardEntry::State::kSealed,
           shard.sidecar.world_size(),
           TokenOf(id.incarnation)});
    }
    if (job_->IsComplete(id)) {
      report.known_complete.insert(id);
    }
  }
  std::as_const(context_->slots).ForEach([&](const Slot& slot) {
    const bool filling = slot.phase == SlotPhase::kFilling || slot.phase == SlotPhase::kSealing;
    if (slot.job == job_->uid() && filling && slot.step != kNoStep) {
      report.shards.push_back({{slot.epoch_number, slot.step},
                               slot.rank,
                               ShardEntry::State::kFilling,
                               0,
                               TokenOf(slot.epoch_number)});
    }
  });
  for (const auto& [root, ids] : job_->durables) {
    for (const auto& [id, durable] : ids) {
      if (!durable.published()) {
        report.flushed[root][id].insert(durable.flushed_ranks().begin(),
                                        durable.flushed_ranks().end());
      }
    }
  }
  report.failures = failures_;
  report.missed_reasons = missed_reasons_;
  if (!job_->CoordinatorNode().empty()) {
    report.known_nodes = job_->KnownNodes();
    report.decisions = job_->OlderDecisions();
  }
  return report;
}

Result<bool> Member::OnCommand(const Command& command) {
  if (command.stamp.epoch != job_->epoch()) {
    return Error(Errc::kFenced,
                 "command of incarnation " + std::to_string(command.stamp.epoch.number) +
                     ", here is " + std::to_string(job_->record.epoch_number()));
  }
  if (command_.stamp.boot != 0 && !command.stamp.NewerThan(command_.stamp)) {
    return false;
  }
  // The first command says nothing of what came before it: there is nothing to take back.
  const bool new_attempt = heard() && command.attempt != command_.attempt;
  const bool new_phase = !heard() || command.phase != command_.phase;
  command_ = command;
  if (!job_->CoordinatorNode().empty()) {
    Mirror();
  }
  std::erase_if(failures_, [&](const auto& failure) { return failure.attempt != command.attempt; });
  if (new_attempt) {
    for (auto& [rank, state] : ranks_) {
      ReleaseRestore(&state);
      AnswerLoaded(&state, false);
    }
  }
  TakeEarlyLoads();
  if (command_.phase == Phase::kRun && new_phase) {
    for (auto& [rank, state] : ranks_) {
      const bool loaded = state.loaded_request_attempt == command_.attempt;
      AnswerLoaded(&state, loaded || !command_.choice.has_value());
      ReleaseRestore(&state);
    }
  }
  Obey();
  return new_attempt || new_phase;
}

void Member::Obey() {
  if (!heard()) {
    return;
  }
  if (command_.phase == Phase::kPrepare || command_.phase == Phase::kGo) {
    PrepareSources();
  }
  AnswerRestores();
  ApplyAbandoned();
  Announce();
  StartFlushes();
  AnswerDrains();
}

// A slot that still fills for an abandoned id is given up, not freed: its copies may land (I7).
void Member::ApplyAbandoned() {
  context_->slots.ForEach([&](Slot* slot) {
    const SnapshotKey id{slot->epoch_number, slot->step};
    const bool filling = slot->phase == SlotPhase::kFilling || slot->phase == SlotPhase::kSealing;
    if (slot->job == job_->uid() && filling && command_.abandoned.contains(id)) {
      GiveUp(slot, /*copies_done=*/false);
    }
  });
}

void Member::Announce() {
  const std::uint64_t epoch = job_->record.epoch_number();
  for (const SnapshotKey& id : command_.complete) {
    if (id.incarnation == epoch) {
      AnnounceOne(id, proto::OutcomeEvent::KIND_COMPLETE, "");
    }
  }
  for (const auto& [id, reason] : command_.abandoned) {
    AnnounceOne(id, proto::OutcomeEvent::KIND_ABANDONED, reason);
  }
  for (const auto& [root, id] : command_.durable) {
    if (id.incarnation == epoch) {
      AnnounceOne(id, proto::OutcomeEvent::KIND_DURABLE, root);
    }
  }
  while (announced_.size() > kAnnouncedKept) {
    announced_.erase(announced_.begin());
  }
}

void Member::AnnounceOne(const SnapshotKey& id,
                         proto::OutcomeEvent::Kind kind,
                         const std::string& reason) {
  const std::pair<SnapshotKey, int> mark{id, kind};
  const bool too_old = announced_.size() >= kAnnouncedKept && mark < *announced_.begin();
  if (too_old || !announced_.insert(mark).second) {
    return;
  }
  for (const auto& [rank, state] : ranks_) {
    if (state.session == 0) {
      continue;
    }
    Send send;
    send.session = state.session;
    proto::OutcomeEvent* event = send.message.mutable_outcome();
    *event->mutable_id() = job_->Id(id);
    event->set_kind(kind);
    event->set_reason(reason);
    context_->Do(std::move(send));
  }
}

}  // namespace holdfast::daemon
