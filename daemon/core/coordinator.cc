#include "daemon/core/coordinator.h"

#include <utility>

namespace holdfast::daemon {
namespace {

constexpr std::size_t kLogLines = 64;

}  // namespace

Coordinator::Coordinator(CoreContext* context, Job* job)
    : context_(context), job_(job), epoch_(job->epoch()), attempt_started_(context->now) {
  for (const proto::TierPolicy& tier : job->record.tiers()) {
    schedulers_.emplace_back(tier, context->now);
  }
  job_->Present()->set_coordinator(true);
  OnMembers();
  if (MutableDecision()->committed()) {
    phase_ = Phase::kRun;
    if (const auto base = Base(); base.has_value()) {
      for (FlushScheduler& scheduler : schedulers_) {
        scheduler.OnBase(*base, job_->IsDurable(*base, scheduler.policy().root()));
      }
    }
    CountFromDurables();
    ReopenFallback();
    return;
  }
  StartAttempt(MutableDecision()->attempt() + 1);
}

// Intervals count from the newest durable snapshot, also for one that comes back after a crash.
void Coordinator::CountFromDurables() {
  for (FlushScheduler& scheduler : schedulers_) {
    const std::string& root = scheduler.policy().root();
    const auto durables = job_->durables.find(root);
    if (durables == job_->durables.end()) {
      continue;
    }
    for (const auto& [id, durable] : durables->second) {
      if (id.incarnation == epoch_.number && job_->IsDurable(id, root)) {
        scheduler.OnDurable(id);
      }
    }
  }
}

std::uint32_t Coordinator::attempt() const {
  return decision().attempt();
}

proto::RestoreDecision* Coordinator::MutableDecision() {
  return job_->Present()->mutable_decision();
}

const proto::RestoreDecision& Coordinator::decision() const {
  return job_->incarnations.at(epoch_.number).decision();
}

std::optional<SnapshotKey> Coordinator::Base() const {
  return decision().has_choice() ? std::optional(KeyOf(decision().choice())) : std::nullopt;
}

void Coordinator::Log(std::string line) {
  if (log_.size() >= kLogLines) {
    log_.erase(log_.begin());
  }
  log_.push_back(std::move(line));
}

void Coordinator::OnReport(const Report& report) {
  if (TakeReport(report)) {
    Decide();
  }
}

bool Coordinator::TakeReport(const Report& report) {
  if (report.stamp.epoch != epoch_) {
    return false;
  }
  const auto last = heard_.find(report.node_uuid);
  if (last != heard_.end() && !report.stamp.NewerThan(last->second)) {
    return false;
  }
  heard_[report.node_uuid] = report.stamp;
  if (report.node_uuid != context_->node_uuid) {
    LearnNodes(report.known_nodes);
    TakeDecisions(report);
  }
  reports_[report.node_uuid] = report;
  return true;
}

void Coordinator::OnMemberLost(const std::string& node_uuid) {
  reports_.erase(node_uuid);
}

void Coordinator::OnTick() {
  Decide();
}

void Coordinator::Decide() {
  if (superseded_.has_value() && phase_ != Phase::kRun && phase_ != Phase::kError) {
    FailAttempt(*superseded_, Errc::kFenced);
  }
  if (phase_ != Phase::kRun && phase_ != Phase::kError && TakeFatal()) {
    return;
  }
  switch (phase_) {
    case Phase::kCollect:
      DecideCollect();
      break;
    case Phase::kPrepare:
    case Phase::kGo:
      DecideLoading();
      break;
    case Phase::kError:
      DecideError();
      break;
    case Phase::kRun:
      break;
  }
  if (phase_ == Phase::kRun) {
    CloseFallback();
    UpdateGroups();
    DecideOutcomes();
    DecideProtect();
    ScheduleFlushes();
  }
}

std::map<SnapshotKey, std::map<Rank, ShardEntry::State>> Coordinator::HeldShards() const {
  std::map<SnapshotKey, std::map<Rank, ShardEntry::State>> held;
  const std::map<SnapshotKey, std::uint64_t> starts = StartsOfIds();
  for (const auto& [node, report] : reports_) {
    for (const ShardEntry& entry : report.shards) {
      if (entry.token != starts.at(entry.id)) {
        continue;
      }
      const auto [it, fresh] = held[entry.id].emplace(entry.rank, entry.state);
      if (!fresh && entry.state == ShardEntry::State::kSealed) {
        it->second = entry.state;
      }
    }
  }
  return held;
}

std::uint32_t Coordinator::WorldOf(const SnapshotKey& id) const {
  const std::map<SnapshotKey, std::uint64_t> starts = StartsOfIds();
  for (const auto& [node, report] : reports_) {
    for (const ShardEntry& entry : report.shards) {
      if (entry.id == id && entry.world_size != 0 && entry.token == starts.at(id)) {
        return entry.world_size;
      }
    }
  }
  return 0;
}

void Coordinator::DecideOutcomes() {
  for (const auto& [id, held] : HeldShards()) {
    if (id.incarnation == epoch_.number && !job_->IsComplete(id) && !job_->IsAbandoned(id)) {
      DecideOne(id, held);
    } else if (id.incarnation < epoch_.number && !job_->outcomes.contains(id)) {
      DecideOlder(id, held);
    }
  }
}

// An incarnation that ended leaves ids that some rank never sealed.  They are about to be freed,
// and must not vanish without a word; those of which all is there were complete.
void Coordinator::DecideOlder(const SnapshotKey& id,
                              const std::map<Rank, ShardEntry::State>& held) {
  const std::uint32_t world = WorldOf(id);
  if (world == 0) {
    return;
  }
  std::string missing;
  for (Rank rank = 0; rank < world && missing.empty(); ++rank) {
    if (!held.contains(rank)) {
      missing = "rank " + std::to_string(rank) + " never sealed it, and its incarnation is over";
    }
  }
  const proto::Outcome outcome = missing.empty() ? proto::COMPLETE : proto::ABANDONED;
  job_->SetOutcome(context_, id, outcome, missing, world);
}

// I1: complete only with a sealed shard of every rank, all of this very id.
void Coordinator::DecideOne(const SnapshotKey& id, const std::map<Rank, ShardEntry::State>& held) {
  bool complete = true;
  std::string missed;
  for (Rank rank = 0; rank < world_size(); ++rank) {
    const auto it = held.find(rank);
    if (it != held.end()) {
      complete = complete && it->second == ShardEntry::State::kSealed;
      if (it->second == ShardEntry::State::kPoisoned) {
        // Without peers nothing can rebuild it, and a step is sealed only once.
        missed = "the shard of rank " + std::to_string(rank) + " was found bad";
      }
      continue;
    }
    complete = false;
    const RankReport* state = RankOf(rank);
    if (state == nullptr || state->last_begun < id.step || !missed.empty()) {
      continue;
    }
    missed = "rank " + std::to_string(rank) + " missed it";
    for (const auto& [node, report] : reports_) {
      const auto reason = report.missed_reasons.find({id.step, rank});
      missed += reason == report.missed_reasons.end() ? "" : ": " + reason->second;
    }
  }
  if (complete) {
    job_->SetOutcome(context_, id, proto::COMPLETE, "");
  } else if (!missed.empty()) {
    job_->SetOutcome(context_, id, proto::ABANDONED, missed);
  }
}

Command Coordinator::MakeCommand() {
  Command command;
  command.stamp = {epoch_, context_->boot_number(), context_->next_sequence++};
  command.phase = phase_;
  command.attempt = attempt();
  command.decided = decision().decided();
  command.choice = Base();
  command.passed_over = plan_.passed_over;
  command.error = error_;
  command.error_code = error_code_;
  command.superseded = superseded_;
  command.fenced = fenced_;
  command.world_size = world_size();
  command.owner_uid = job_->record.owner_uid();
  command.decision = decision();
  command.coded = IsCoded();
  command.not_coded = WantsGroups() ? not_coded_ : "";
  command.group_version = group_version_;
  command.protected_id = protected_;
  command.margins = margins_;
  command.lost = lost_;
  command.silent = SilentServers();
  command.choice_token = plan_.choice_token;
  for (const auto& [id, outcome] : job_->outcomes) {
    if (outcome.outcome() == proto::COMPLETE) {
      command.complete.insert(id);
    } else if (id.incarnation == epoch_.number) {
      command.abandoned[id] = outcome.reason();
    }
  }
  for (const FlushScheduler& scheduler : schedulers_) {
    if (scheduler.target().has_value() && phase_ == Phase::kRun) {
      command.flush.push_back(
          {scheduler.policy().root(), *scheduler.target(), scheduler.must_finish()});
    }
  }
  for (const auto& [root, ids] : job_->durables) {
    for (const auto& [id, durable] : ids) {
      if (job_->IsDurable(id, root)) {
        command.durable.emplace(root, id);
      }
    }
  }
  return command;
}

}  // namespace holdfast::daemon
