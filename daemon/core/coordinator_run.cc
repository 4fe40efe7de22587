// The half of the coordinator that makes snapshots durable while training runs: flush targets,
// publishing, retention (docs/ARCHITECTURE.md, life of a snapshot).

#include <algorithm>
#include <utility>

#include "daemon/core/coordinator.h"
#include "storage_tiers/retention.h"

namespace holdfast::daemon {

// The newest complete snapshot of this history of which every shard is still sealed in memory.
std::optional<SnapshotKey> Coordinator::NewestCompleteHere() const {
  const auto& ids = index_.ids();
  for (auto it = ids.rbegin(); it != ids.rend(); ++it) {
    const SnapshotKey& id = it->first;
    const bool of_this_history = id.incarnation == epoch_.number || id == Base();
    if (!of_this_history || !job_->IsComplete(id)) {
      continue;
    }
    const ReportIndex::Taken& taken = *index_.Find(id);
    if (taken.held.size() == world_size() && taken.sealed == world_size()) {
      return id;
    }
  }
  return std::nullopt;
}

void Coordinator::ScheduleFlushes() {
  if (superseded_.has_value()) {
    return;
  }
  bool drains = false;
  for (const auto& [node, report] : reports_) {
    for (const auto& [rank, state] : report.ranks) {
      drains = drains || state.drains;
    }
  }
  if (drains && !drains_) {
    for (auto& [key, publishing] : publishing_) {
      publishing.retry.not_before = context_->now;  // the user waits: no backoff is waited for
    }
  }
  drains_ = drains;
  const auto newest = NewestCompleteHere();
  for (FlushScheduler& scheduler : schedulers_) {
    const auto target = scheduler.target();
    if (target.has_value() && IsHopeless(scheduler.policy().root(), *target)) {
      scheduler.OnGivenUp(*target);
      publishing_.erase({scheduler.policy().root(), *target});
      // Now: where a tier is full of what was given up, nothing would ever be published again.
      MakeRoom(scheduler, *target);
    }
    if (newest.has_value()) {
      ConsiderTier(&scheduler, *newest, drains);
    }
    if (scheduler.target().has_value()) {
      Publish(scheduler.policy().root(), *scheduler.target());
    }
  }
}

void Coordinator::ConsiderTier(FlushScheduler* scheduler, const SnapshotKey& newest, bool drains) {
  if (deleting_.contains({scheduler->policy().root(), newest})) {
    return;  // given up a moment ago: its files are going
  }
  // One that is published, also with damage, is never written over: flushing it again mends
  // nothing.
  const proto::DurableRecord* durable = job_->FindDurable(scheduler->policy().root(), newest);
  const bool durable_here = durable != nullptr && durable->published();
  scheduler->Consider(newest, durable_here, drains, context_->now);
}

// Whose files of it are on the tier.  "again": of its target, once files were missed; what nodes
// say that have not looked again since counts no more.
std::set<Rank> Coordinator::FlushedRanks(const std::string& root,
                                         const SnapshotKey& id,
                                         std::uint32_t again) const {
  std::set<Rank> flushed;
  for (const auto& [node, report] : reports_) {
    const auto looked = report.looked_again.find({root, id});
    if (again != 0 && (looked == report.looked_again.end() || looked->second != again)) {
      continue;
    }
    const auto tier = report.flushed.find(root);
    if (tier == report.flushed.end()) {
      continue;
    }
    if (const auto it = tier->second.find(id); it != tier->second.end()) {
      flushed.insert(it->second.begin(), it->second.end());
    }
  }
  return flushed;
}

// A shard that is neither flushed nor sealed any more can never be flushed.
bool Coordinator::TargetIsLost(const std::string& root, const SnapshotKey& id) const {
  const std::set<Rank> flushed = FlushedRanks(root, id, 0);
  const ReportIndex::Taken* taken = index_.Find(id);
  for (Rank rank = 0; rank < world_size(); ++rank) {
    bool has = flushed.contains(rank);
    if (!has && taken != nullptr) {
      const auto shard = taken->held.find(rank);
      has = shard != taken->held.end() && shard->second.State() == ShardEntry::State::kSealed;
    }
    if (!has && !IsOutOfSight(rank)) {
      return true;
    }
  }
  return false;
}

// Lost, or its files are missed again and again: nobody has the shard of one of them any more.
bool Coordinator::IsHopeless(const std::string& root, const SnapshotKey& id) const {
  constexpr std::uint32_t kOften = 3;
  return TargetIsLost(root, id) ||
         (Again(root, id) >= kOften && !publishing_.at({root, id}).under_way);
}

std::uint32_t Coordinator::Again(const std::string& root, const SnapshotKey& id) const {
  const auto publishing = publishing_.find({root, id});
  return publishing == publishing_.end() ? 0 : publishing->second.again;
}

// I6: only when every rank's files are fsynced under their final names.
void Coordinator::Publish(const std::string& root, const SnapshotKey& id) {
  if (FlushedRanks(root, id, Again(root, id)).size() < world_size()) {
    return;
  }
  Publishing& publishing = publishing_[{root, id}];
  if (publishing.under_way || context_->now < publishing.retry.not_before) {
    return;
  }
  publishing.under_way = true;
  PublishManifest action;
  action.job_name = job_->record.name();
  action.job_uid = job_->uid();
  action.root = root;
  action.id = id;
  action.world_size = world_size();
  action.parent = id == Base() ? std::nullopt : Base();
  action.epoch = epoch_;
  context_->Do(std::move(action));
}

void Coordinator::TakeFence(const Error& error) {
  if (error.code == Errc::kFenced && !superseded_.has_value()) {
    superseded_ = error.message + "; start the job again to have its snapshots durable";
    Log(*superseded_);
  }
}

void Coordinator::OnFlushFenced(const Epoch& asker, const Error& error) {
  if (asker == epoch_) {
    TakeFence(error);
  }
}

void Coordinator::OnPublished(const std::string& root,
                              const SnapshotKey& id,
                              const Epoch& asker,
                              const Status& status) {
  if (asker != epoch_ && !status.has_value()) {
    return;  // the coordinator of an older incarnation was fenced: not about this one
  }
  if (!status.has_value()) {
    Publishing& publishing = publishing_[{root, id}];
    publishing.under_way = false;
    tier_errors_[root] = status.error().message;
    // Files that were flushed are gone or damaged; which ones, their nodes find.
    if (status.error().code == Errc::kNotFound || status.error().code == Errc::kCorruption) {
      ++publishing.again;
    }
    // A higher incarnation is recorded: this coordinator is the half-dead old one (I8).
    TakeFence(status.error());
    publishing.retry.Failed(context_->now, context_->options);
    return;
  }
  publishing_.erase({root, id});
  tier_errors_.erase(root);
  job_->Durable(root, id)->set_published(true);
  job_->SaveDurable(context_, root, id);
  for (FlushScheduler& scheduler : schedulers_) {
    if (scheduler.policy().root() == root) {
      scheduler.OnDurable(id);
      delete_retries_.erase(root);
      MakeRoom(scheduler, id);
    }
  }
  Decide();
}

// "newest" was published, or given up.
void Coordinator::MakeRoom(const FlushScheduler& scheduler, const SnapshotKey& newest) {
  const std::string& root = scheduler.policy().root();
  const auto retry = delete_retries_.find(root);
  const bool waits = retry != delete_retries_.end() && context_->now < retry->second.not_before;
  // While a restore is not committed nothing that it could choose is deleted (I4).
  if (phase_ == Phase::kRun && !waits) {
    DropHalfFlushed(root, newest);
    Retain(scheduler);
  }
}

// Files of snapshots up to that one whose flush was given up half-way: nothing names them, they
// only cost space.
void Coordinator::DropHalfFlushed(const std::string& root, const SnapshotKey& newest) {
  for (const auto& [node, report] : reports_) {
    const auto tier = report.flushed.find(root);
    for (const auto& [id, ranks] :
         tier == report.flushed.end() ? std::map<SnapshotKey, std::set<Rank>>() : tier->second) {
      if (id <= newest && job_->FindDurable(root, id) == nullptr) {
        job_->Durable(root, id);  // only another node has begun it
        job_->SaveDurable(context_, root, id);
      }
    }
  }
  for (const auto& [id, durable] : job_->durables[root]) {
    const bool half = !durable.published() && id <= newest;
    if (half && deleting_.emplace(root, id).second) {
      context_->Do(DeleteDurable{job_->record.name(), job_->uid(), root, id, epoch_});
    }
  }
}

void Coordinator::Retain(const FlushScheduler& scheduler) {
  const std::string& root = scheduler.policy().root();
  std::vector<proto::SnapshotId> durable;
  for (const auto& [id, record] : job_->durables[root]) {
    // A damaged one takes no place of a good one, and stays for who wants to save what is in it.
    if (record.published() && !record.bad()) {
      durable.push_back(job_->Id(id));
    }
  }
  std::vector<proto::SnapshotId> pinned;
  if (decision().has_choice()) {
    pinned.push_back(decision().choice());
  }
  if (decision().has_fallback()) {
    pinned.push_back(decision().fallback());
  }
  // I6: what newer manifests name stays, and so does what a flush under way is about to name.
  for (const SnapshotKey& owner : job_->StaticOwners(root)) {
    pinned.push_back(job_->Id(owner));
  }
  storage_tiers::RetentionPolicy policy;
  policy.keep_last = scheduler.policy().keep_last();
  policy.keep_every_steps = scheduler.policy().keep_every_steps();
  for (const proto::SnapshotId& id : storage_tiers::SelectForDeletion(durable, pinned, policy)) {
    if (deleting_.emplace(root, KeyOf(id)).second) {
      context_->Do(DeleteDurable{job_->record.name(), job_->uid(), root, KeyOf(id), epoch_});
    }
  }
}

void Coordinator::OnDurableDeleted(const std::string& root,
                                   const SnapshotKey& id,
                                   const Status& status) {
  const bool asked = deleting_.erase({root, id}) > 0;
  const bool gone = status.has_value() || status.error().code == Errc::kNotFound;
  if (gone) {
    delete_retries_.erase(root);
    job_->EraseDurable(context_, root, id);
    return;
  }
  if (!asked) {
    return;  // a user's word, or of an older incarnation
  }
  // Retention comes back after the next publish, or what is given up next; what could not be
  // deleted only costs space.
  delete_retries_[root].Failed(context_->now, context_->options);
  TakeFence(status.error());
  tier_errors_[root] = status.error().message;
}

}  // namespace holdfast::daemon
