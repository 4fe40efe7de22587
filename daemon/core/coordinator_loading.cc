// The second half of a restore attempt: prepare -> go -> run, and its failures (docs/peers.md).

#include <algorithm>
#include <utility>

#include "daemon/core/coordinator.h"

namespace holdfast::daemon {

void Coordinator::DecideLoading() {
  if (TakeFailures()) {
    return;
  }
  bool all_prepared = true;
  bool all_loaded = true;
  bool all_here = true;
  for (Rank rank = 0; rank < world_size(); ++rank) {
    const RankReport* state = RankOf(rank);
    all_prepared = all_prepared && state != nullptr && state->prepared == attempt();
    all_loaded = all_loaded && state != nullptr && state->loaded == attempt();
    all_here = all_here && state != nullptr && (state->connected || state->loaded == attempt());
  }
  if (phase_ == Phase::kPrepare && all_prepared) {
    phase_ = Phase::kGo;
    MutableDecision()->set_overwrites(true);
    job_->SaveIncarnation(context_, epoch_.number);
  }
  if (phase_ == Phase::kGo && all_loaded) {
    Commit();
  } else if (all_here) {
    waiting_since_.reset();
  } else {
    GiveUpWaiting("went away before the snapshot was loaded",
                  [](const RankReport& rank, std::uint32_t attempt) {
                    return rank.connected || rank.loaded == attempt;
                  });
  }
}

// For `holdfast ls`, and for who asks what is durable; a later restore tries the source again.
void Coordinator::MarkDurable(const Source& source, const SnapshotKey& id, bool bad) {
  const auto tier = job_->durables.find(source.root);
  if (source.kind != Source::Kind::kTier || tier == job_->durables.end()) {
    return;
  }
  if (const auto it = tier->second.find(id); it != tier->second.end() && it->second.bad() != bad) {
    it->second.set_bad(bad);
    job_->SaveDurable(context_, source.root, id);
  }
}

bool Coordinator::TakeFatal() {
  for (const auto& [node, report] : reports_) {
    for (const RestoreFailure& failure : report.failures) {
      if (failure.fatal && failure.attempt == attempt()) {
        FailAttempt("rank " + std::to_string(failure.rank) + ": " + failure.reason, failure.code);
        return true;
      }
    }
  }
  return false;
}

// True when a failure of this attempt was found, and the next attempt has begun.
bool Coordinator::TakeFailures() {
  bool failed = false;
  std::map<SnapshotKey, std::string> reasons;
  for (const auto& [node, report] : reports_) {
    for (const RestoreFailure& failure : report.failures) {
      if (failure.attempt != attempt()) {
        continue;
      }
      failed = true;
      const std::string who = "rank " + std::to_string(failure.rank) + ", " +
                              failure.source.Text() + ": " + failure.reason;
      Log("attempt " + std::to_string(attempt()) + ": " + ToText(failure.id) + ", " + who);
      std::string& known = reasons[failure.id];
      known += (known.empty() ? "" : "; ") + who;
      ++source_failures_[{failure.id, failure.rank}][failure.source];
      if (failure.source_is_bad) {
        bad_sources_[{failure.id, failure.rank}][failure.source] = failure.reason;
        MarkDurable(failure.source, failure.id, /*bad=*/true);
      }
    }
  }
  for (auto& [id, reason] : reasons) {
    last_failures_[id] = std::move(reason);
  }
  if (failed) {
    StartAttempt(attempt() + 1);
  }
  return failed;
}

// I11: recorded before any command with phase run can leave (same Ready).
void Coordinator::Commit() {
  MutableDecision()->set_committed(true);
  phase_ = Phase::kRun;
  const auto base = Base();
  if (base.has_value()) {
    if (!job_->IsComplete(*base)) {
      job_->SetOutcome(context_, *base, proto::COMPLETE, "");
    }
    MarkLoadedSources(*base);
    for (FlushScheduler& scheduler : schedulers_) {
      scheduler.OnBase(*base, job_->IsDurable(*base, scheduler.policy().root()));
    }
  }
  RecordDecision();
}

// Every chunk was checked while it was loaded: a root that gave all shards has a good copy.
void Coordinator::MarkLoadedSources(const SnapshotKey& base) {
  const auto& sources = plan_.sources;
  const bool one_source =
      !sources.empty() && std::all_of(sources.begin(), sources.end(), [&](const auto& entry) {
        return entry.second == sources.begin()->second;
      });
  if (one_source) {
    MarkDurable(sources.begin()->second, base, /*bad=*/false);
  }
}

void Coordinator::FailAttempt(const std::string& why, Errc code) {
  error_ = why;
  error_code_ = code;
  phase_ = Phase::kError;
  Log("attempt " + std::to_string(attempt()) + ": " + why);
  job_->SaveIncarnation(context_, epoch_.number);
}

// L: a user who was told that nothing can be restored may train from the initial state.  Where some
// rank may have loaded a part of a snapshot there is no such state, and nothing may become
// complete.
void Coordinator::DecideError() {
  bool all_train = true;
  for (Rank rank = 0; rank < world_size(); ++rank) {
    const RankReport* state = RankOf(rank);
    all_train = all_train && state != nullptr && state->last_begun != kNoStep;
    if (state != nullptr && state->asked && state->asked_after >= attempt()) {
      StartAttempt(attempt() + 1);  // with another wish, perhaps
      return;
    }
  }
  if (all_train && !decision().overwrites()) {
    Log("attempt " + std::to_string(attempt()) + ": every rank trains from its initial state");
    StartWithoutRestore();
  }
}

void Coordinator::RecordDecision() {
  job_->SaveIncarnation(context_, epoch_.number);
  WriteIncarnation write;
  write.job_name = job_->record.name();
  write.file.set_format_version(1);
  write.file.set_job_uid(job_->uid());
  write.file.set_number(epoch_.number);
  write.file.set_token(epoch_.token);
  write.file.set_world_size(world_size());
  *write.file.mutable_member_node_uuids() = job_->Present()->member_node_uuids();
  if (!job_->SpansNodes()) {
    write.file.add_member_node_uuids(context_->node_uuid);
  }
  *write.file.mutable_decision() = decision();
  write.tiers.assign(job_->record.tiers().begin(), job_->record.tiers().end());
  write.expected_roots = job_->ExpectedRoots();
  if (!write.tiers.empty()) {
    context_->Do(std::move(write));
  }
}

}  // namespace holdfast::daemon
