#include "daemon/core/coordinator.h"

#include <algorithm>
#include <utility>

namespace holdfast::daemon {
namespace {

constexpr std::size_t kLogLines = 64;

// Whether groups that are made of the one are those that are made of the other.
bool IsSameToGroups(const Report& a, const Report& b) {
  return a.failure_domain == b.failure_domain &&
         std::equal(a.ranks.begin(),
                    a.ranks.end(),
                    b.ranks.begin(),
                    b.ranks.end(),
                    [](const auto& one, const auto& other) {
                      return one.first == other.first &&
                             one.second.image_bytes == other.second.image_bytes &&
                             one.second.static_bytes == other.second.static_bytes;
                    });
}

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

void Coordinator::OnReport(Report report) {
  TakeReport(std::move(report));
  if (due_) {
    Decide();
  }
}

void Coordinator::TakeReport(Report report) {
  if (report.stamp.epoch != epoch_) {
    return;
  }
  const auto [last, first] = heard_.try_emplace(report.node_uuid, report.stamp);
  if (!first && !report.stamp.NewerThan(last->second)) {
    return;
  }
  last->second = report.stamp;
  if (report.node_uuid != context_->node_uuid) {
    LearnNodes(report.known_nodes);
    TakeDecisions(report);
  }
  report.known_nodes.clear();  // they are learnt; thousands of reports would each keep all
  const auto [kept, fresh] = reports_.try_emplace(report.node_uuid);
  groups_stale_ = groups_stale_ || fresh || !IsSameToGroups(kept->second, report);
  kept->second = std::move(report);
  NoteStates(kept->first, &kept->second);
  const auto touched = index_.Put(kept->second);
  due_ = due_ || DecidesEachReport() || CanDecide(touched);
}

void Coordinator::OnMemberLost(const std::string& node_uuid) {
  reports_.erase(node_uuid);
  NoteStates(node_uuid, nullptr);
  index_.Erase(node_uuid);
  groups_stale_ = due_ = true;
}

void Coordinator::OnTick() {
  Decide();
}

void Coordinator::Decide() {
  due_ = false;
  if (superseded_.has_value() && phase_ != Phase::kRun && phase_ != Phase::kError) {
    FailAttempt(*superseded_, Errc::kFenced);
  }
  if (phase_ != Phase::kRun && phase_ != Phase::kError && TakeFatal()) {
    return;
  }
  if (EndOverdue()) {
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

std::uint32_t Coordinator::WorldOf(const SnapshotKey& id) const {
  const auto start = index_.StartOf(id);
  for (const auto& [node, report] : reports_) {
    for (const ShardEntry& entry : report.shards) {
      if (entry.id == id && entry.world_size != 0 && entry.token == start) {
        return entry.world_size;
      }
    }
  }
  return 0;
}

void Coordinator::DecideOutcomes() {
  for (const auto& [id, by_token] : index_.ids()) {
    if (id.incarnation == epoch_.number && !job_->IsComplete(id) && !job_->IsAbandoned(id)) {
      DecideOne(id, *index_.Find(id));
    } else if (id.incarnation < epoch_.number && !job_->outcomes.contains(id)) {
      DecideOlder(id, *index_.Find(id));
    }
  }
}

// An incarnation that ended leaves ids that some rank never sealed.  They are about to be freed,
// and must not vanish without a word; those of which all is there were complete.
void Coordinator::DecideOlder(const SnapshotKey& id, const ReportIndex::Taken& taken) {
  const std::uint32_t world = WorldOf(id);
  if (world == 0) {
    return;
  }
  std::string missing;
  for (Rank rank = 0; rank < world && missing.empty(); ++rank) {
    if (!taken.held.contains(rank)) {
      missing = "rank " + std::to_string(rank) + " never sealed it, and its incarnation is over";
    }
  }
  const proto::Outcome outcome = missing.empty() ? proto::COMPLETE : proto::ABANDONED;
  job_->SetOutcome(context_, id, outcome, missing, world);
}

// I1: complete only with a sealed shard of every rank, all of this very id.
void Coordinator::DecideOne(const SnapshotKey& id, const ReportIndex::Taken& taken) {
  bool complete = true;
  std::string missed;
  auto next = taken.held.begin();  // both rise
  for (Rank rank = 0; rank < world_size(); ++rank) {
    if (next != taken.held.end() && next->first == rank) {
      const ShardEntry::State state = next++->second.State();
      complete = complete && state == ShardEntry::State::kSealed;
      if (state == ShardEntry::State::kPoisoned) {
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
      const std::string& root = scheduler.policy().root();
      const SnapshotKey& id = *scheduler.target();
      command.flush.push_back({root, id, scheduler.must_finish(), Again(root, id)});
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
