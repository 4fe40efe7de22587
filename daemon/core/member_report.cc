// What the member tells its coordinator, and how it obeys: whole states both ways.

#include <algorithm>
#include <utility>

#include "daemon/core/member.h"

namespace holdfast::daemon {
namespace {

constexpr std::size_t kAnnouncedKept = 512;

}  // namespace

Report Member::MakeReport(bool introduces) {
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
    out.restore_limit = state.restore_limit;
    out.prepared = state.prepared;
    out.loaded = state.loaded;
    out.overwritten = state.overwritten;
    out.drains = DrainIsDue(state);
    out.image_bytes = state.image_bytes;
    out.static_bytes = state.static_bytes;
  }
  ReportShards(&report);
  for (const auto& [root, ids] : job_->durables) {
    for (const auto& [id, durable] : ids) {
      if (!durable.published()) {
        report.flushed[root][id].insert(durable.flushed_ranks().begin(),
                                        durable.flushed_ranks().end());
      }
    }
  }
  for (const FlushTarget& target : command_.flush) {
    if (target.again != 0 && HasLookedAgain(target)) {
      report.looked_again[{target.root, target.id}] = target.again;
    }
  }
  ReportParity(&report);
  report.failures = failures_;
  report.missed_reasons = missed_reasons_;
  const bool elsewhere = !job_->CoordinatorNode().empty();
  if (elsewhere && introduces) {
    report.known_nodes = job_->FormerNodes();
  }
  if (elsewhere && command_.phase != Phase::kRun) {
    report.decisions = job_->OlderDecisions();
  }
  return report;
}

std::optional<UnderWay> Member::StillMaking() const {
  if (command_.phase != Phase::kRun || job_->FallbackIsOpen()) {
    return std::nullopt;
  }
  const bool files = std::any_of(
      flushes_.begin(), flushes_.end(), [](const auto& flush) { return flush.second.under_way; });
  return UnderWay{!row_tries_.empty() || sidecar_fetch_.ticket != 0, files};
}

void Member::ReportShards(Report* report) const {
  for (const auto& [id, by_rank] : job_->shards) {
    for (const auto& [rank, shard] : by_rank) {
      report->shards.push_back(
          {id,
           rank,
           shard.poisoned ? ShardEntry::State::kPoisoned : ShardEntry::State::kSealed,
           shard.sidecar.world_size(),
           job_->TokenOf(id, shard),
           shard.sidecar.images(0).length_bytes(),
           shard.sidecar.images_size() > 1 ? shard.sidecar.images(1).length_bytes() : 0});
    }
    if (job_->IsComplete(id)) {
      report->known_complete.insert(id);
    }
  }
  std::as_const(context_->slots).ForEach([&](const Slot& slot) {
    const bool filling = slot.phase == SlotPhase::kFilling || slot.phase == SlotPhase::kSealing;
    if (slot.job == job_->uid() && filling && slot.step != kNoStep) {
      report->shards.push_back({{slot.epoch_number, slot.step},
                                slot.rank,
                                ShardEntry::State::kFilling,
                                0,
                                job_->TokenOf(slot.epoch_number),
                                0,
                                0});
    }
  });
}

void Member::ReportParity(Report* report) const {
  report->failure_domain = context_->options.failure_domain;
  report->parity_error = parity_error_;
  // Beyond the restore the names suffice: the coordinator knows the sets of its own groups.
  const bool whole = command_.phase != Phase::kRun || job_->FallbackIsOpen();
  for (const auto& [id, by_name] : job_->rows) {
    ParityEntry* last = nullptr;
    for (const auto& [name, row] : by_name) {
      const bool same = last != nullptr && last->local_rank == name.local_rank &&
                        last->epoch == name.epoch && last->version == name.version &&
                        last->kind == name.kind && last->token == row.record.start_token();
      if (!same) {
        report->parity.push_back({id,
                                  row.record.start_token(),
                                  name.local_rank,
                                  name.epoch,
                                  name.version,
                                  {},
                                  whole ? std::optional(row.set) : std::nullopt,
                                  name.kind,
                                  !row.set.static_bytes.empty()});
        last = &report->parity.back();
      }
      last->rows.insert(name.row);
    }
  }
  for (const auto& [id, by_rank] : job_->sidecars) {
    std::map<std::uint64_t, SidecarEntry> by_token;
    for (const auto& [rank, record] : by_rank) {
      by_token.try_emplace(record.start_token(), SidecarEntry{id, record.start_token(), {}})
          .first->second.ranks.push_back(rank);
    }
    for (const auto& [token, entry] : by_token) {
      report->sidecars.push_back(entry);
    }
  }
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
  if (new_attempt || (command.phase != Phase::kPrepare && command.phase != Phase::kGo)) {
    GiveUpBringing();
  }
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
  Protect();
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
