// The restore half of the coordinator: collect -> prepare -> go -> run (design section 4).

#include <algorithm>
#include <utility>

#include "daemon/core/coordinator.h"

namespace holdfast::daemon {
namespace {

std::optional<SnapshotKey> NewestOutOfReach(const Inventory& inventory) {
  for (auto it = inventory.out_of_reach.rbegin(); it != inventory.out_of_reach.rend(); ++it) {
    if (!inventory.discarded.contains(it->first)) {
      return it->first;
    }
  }
  return std::nullopt;
}

}  // namespace

// The number is raised in the record before the attempt's first message, so that one number never
// names two attempts, whatever crashes in between (I11).
void Coordinator::StartAttempt(std::uint32_t number) {
  proto::RestoreDecision* now = MutableDecision();
  now->set_attempt(number);
  now->set_decided(false);
  now->clear_choice();
  now->clear_fallback();
  now->set_fallback_open(true);
  now->set_committed(false);
  phase_ = Phase::kCollect;
  plan_ = {};
  error_.reset();
  attempt_started_ = context_->now;
  job_->SaveIncarnation(context_, epoch_.number);
  ListTiers();
}

void Coordinator::ListTiers() {
  listings_.clear();
  for (const FlushScheduler& scheduler : schedulers_) {
    const std::string& root = scheduler.policy().root();
    listings_[root];
    context_->Do(
        ListTier{job_->record.name(), job_->uid(), root, job_->IsExpectedOn(root), attempt()});
  }
}

void Coordinator::OnTierListed(const std::string& root,
                               std::uint32_t attempt_answered,
                               Result<std::vector<TierSnapshot>> listed) {
  const auto it = listings_.find(root);
  if (it == listings_.end() || attempt_answered != attempt() || it->second.answered) {
    return;
  }
  it->second.answered = true;
  if (!listed.has_value()) {
    it->second.error = listed.error().message;
    tier_errors_[root] = listed.error().message;
    Log("persistent " + root + " gives nothing: " + listed.error().message);
    Decide();
    return;
  }
  it->second.snapshots = std::move(listed).value();
  TakeListing(root, it->second.snapshots);
  Decide();
}

// A listing is believed about what it found whole and about what is gone; one that is damaged is
// still there.
void Coordinator::TakeListing(const std::string& root, const std::vector<TierSnapshot>& snapshots) {
  std::set<SnapshotKey> present;
  for (const TierSnapshot& snapshot : snapshots) {
    present.insert(snapshot.id);
    if (snapshot.problem.has_value()) {
      Log("persistent " + root + ", " + ToText(snapshot.id) + ": " + snapshot.problem->message);
      continue;
    }
    proto::DurableRecord* durable = job_->Durable(root, snapshot.id);
    if (!durable->published()) {
      durable->set_published(true);
      job_->SaveDurable(context_, root, snapshot.id);
    }
  }
  std::vector<SnapshotKey> gone;
  for (const auto& [id, durable] : job_->durables[root]) {
    if (durable.published() && !present.contains(id)) {
      gone.push_back(id);
    }
  }
  for (const SnapshotKey& id : gone) {
    job_->EraseDurable(context_, root, id);
  }
}

bool Coordinator::InventoryClosed() const {
  const bool waited = context_->now - attempt_started_ >= context_->options.restore_wait;
  for (const auto& [root, listing] : listings_) {
    if (!listing.answered && !waited) {
      return false;
    }
  }
  for (const auto& [node, report] : reports_) {
    if (report.answers_attempt != attempt() && !waited) {
      return false;
    }
  }
  return !reports_.empty();
}

void Coordinator::DecideCollect() {
  if (!InventoryClosed()) {
    return;
  }
  std::optional<RestoreWish> wish;
  bool any_asked = false;
  bool all_asked = true;
  bool trains = false;
  for (Rank rank = 0; rank < world_size(); ++rank) {
    const RankReport* state = RankOf(rank);
    trains = trains || (state != nullptr && state->last_begun != kNoStep);
    if (state == nullptr || !state->asked) {
      all_asked = false;
      continue;
    }
    any_asked = true;
    if (wish.has_value() && *wish != state->wish) {
      FailAttempt("the ranks name different steps to restore; give all the same");
      return;
    }
    wish = state->wish;
  }
  if (all_asked) {
    Choose(*wish);
  } else if (trains && !any_asked) {
    StartWithoutRestore();
  } else if (trains) {
    FailAttempt(
        "some ranks train without having asked for a restore, others wait for one; call "
        "restore() on every rank, or on none");
  }
}

Inventory Coordinator::TakeInventory() const {
  Inventory inventory;
  for (const auto& [id, held] : HeldShards()) {
    if (id.incarnation == epoch_.number) {
      continue;
    }
    for (const auto& [rank, state] : held) {
      if (state != ShardEntry::State::kFilling) {
        inventory.sources[id];
      }
      if (state == ShardEntry::State::kSealed) {
        inventory.sources[id][rank].push_back(Source{});
      }
      if (const Shard* shard = job_->FindShard(id, rank); shard != nullptr) {
        inventory.world_sizes[id] = shard->sidecar.world_size();
        if (shard->poisoned) {
          inventory.bad[{id, rank}][Source{}] = shard->poison_reason;
        }
      }
    }
  }
  for (const auto& [node, report] : reports_) {
    inventory.was_complete.insert(report.known_complete.begin(), report.known_complete.end());
  }
  AddTiers(&inventory);
  for (const auto& [id, sources] : inventory.sources) {
    if (job_->IsDiscarded(id)) {
      inventory.discarded.insert(id);
    }
    const auto tries = tries_.find(id);
    if (tries != tries_.end() && tries->second >= context_->options.restore_tries) {
      inventory.tried_too_often.insert(id);
    }
    if (job_->StartsThatFailedOn(id) >= context_->options.restore_tries) {
      inventory.ended_too_many_starts.insert(id);
    }
  }
  for (const auto& [shard, sources] : bad_sources_) {
    inventory.bad[shard].insert(sources.begin(), sources.end());
  }
  return inventory;
}

void Coordinator::AddTiers(Inventory* inventory) const {
  for (const FlushScheduler& scheduler : schedulers_) {
    const std::string& root = scheduler.policy().root();
    const auto listing = listings_.find(root);
    if (listing == listings_.end() || !listing->second.answered) {
      AddUnanswered(root, "no listing in time", inventory);
    } else if (listing->second.error.has_value()) {
      AddUnanswered(root, *listing->second.error, inventory);
    } else {
      AddListing(scheduler.policy(), listing->second, inventory);
    }
  }
}

void Coordinator::AddListing(const proto::TierPolicy& tier,
                             const TierListing& listing,
                             Inventory* inventory) const {
  for (const TierSnapshot& snapshot : listing.snapshots) {
    inventory->was_complete.insert(snapshot.id);
    auto& sources = inventory->sources[snapshot.id];
    if (snapshot.problem.has_value()) {
      inventory->out_of_reach[snapshot.id].push_back("persistent " + tier.root() + ": " +
                                                     snapshot.problem->message);
      continue;
    }
    inventory->world_sizes[snapshot.id] = snapshot.world_size;
    for (Rank rank = 0; rank < snapshot.world_size; ++rank) {
      sources[rank].push_back(Source{Source::Kind::kTier, tier.root()});
    }
    const proto::DurableRecord* durable = job_->FindDurable(tier.root(), snapshot.id);
    if (tier.scope() == proto::SHARED && (durable == nullptr || !durable->bad())) {
      inventory->safe.insert(snapshot.id);
    }
  }
}

// What was published there was complete, and still is: that nobody can read it now must not look
// as if there were nothing (R).
void Coordinator::AddUnanswered(const std::string& root,
                                const std::string& why,
                                Inventory* inventory) const {
  const std::string text = "persistent " + root + " did not answer: " + why;
  inventory->unanswered.push_back(text);
  const auto durables = job_->durables.find(root);
  if (durables == job_->durables.end()) {
    return;
  }
  for (const auto& [id, durable] : durables->second) {
    if (durable.published()) {
      inventory->was_complete.insert(id);
      inventory->sources[id];
      inventory->out_of_reach[id].push_back(text);
    }
  }
}

void Coordinator::Choose(const RestoreWish& wish) {
  plan_ = PlanRestore(TakeInventory(), world_size(), wish);
  for (const std::string& line : plan_.passed_over) {
    Log("attempt " + std::to_string(attempt()) + ": " + line);
  }
  if (plan_.error.has_value()) {
    FailAttempt(*plan_.error);
    return;
  }
  proto::RestoreDecision* now = MutableDecision();
  now->set_decided(true);
  now->set_has_named_step(wish.named_step.has_value());
  now->set_named_step(wish.named_step.value_or(0));
  now->set_fallback_open(false);
  if (plan_.fallback.has_value()) {
    *now->mutable_fallback() = job_->Id(*plan_.fallback);
  }
  if (!plan_.choice.has_value()) {
    Commit();
    return;
  }
  *now->mutable_choice() = job_->Id(*plan_.choice);
  // The boundary is the user's word alone; no later attempt moves it.
  if (wish.named_step.has_value() && !now->has_boundary()) {
    *now->mutable_boundary() = job_->Id(*plan_.choice);
  }
  ++tries_[*plan_.choice];
  phase_ = Phase::kPrepare;
  RecordDecision();
}

// The user trains without having asked for a restore.  What older incarnations left is kept until
// the first snapshot of this one is complete: a forgotten call must not destroy weeks of work.
void Coordinator::StartWithoutRestore() {
  const Inventory inventory = TakeInventory();
  const RestorePlan older = PlanRestore(inventory, world_size(), RestoreWish{});
  MutableDecision()->set_decided(true);
  MutableDecision()->set_fallback_open(false);
  const auto kept = older.choice.has_value() ? older.choice : NewestOutOfReach(inventory);
  if (kept.has_value()) {
    *MutableDecision()->mutable_fallback() = job_->Id(*kept);
  }
  Commit();
}

void Coordinator::DecideLoading() {
  if (TakeFailures()) {
    return;
  }
  bool all_prepared = true;
  bool all_loaded = true;
  for (Rank rank = 0; rank < world_size(); ++rank) {
    const RankReport* state = RankOf(rank);
    all_prepared = all_prepared && state != nullptr && state->prepared == attempt();
    all_loaded = all_loaded && state != nullptr && state->loaded == attempt();
  }
  if (phase_ == Phase::kPrepare && all_prepared) {
    phase_ = Phase::kGo;
  }
  if (phase_ == Phase::kGo && all_loaded) {
    Commit();
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

// True when a failure of this attempt was found, and the next attempt has begun.
bool Coordinator::TakeFailures() {
  bool failed = false;
  for (const auto& [node, report] : reports_) {
    for (const RestoreFailure& failure : report.failures) {
      if (failure.attempt != attempt()) {
        continue;
      }
      failed = true;
      Log("attempt " + std::to_string(attempt()) + ": " + ToText(failure.id) + ", rank " +
          std::to_string(failure.rank) + ", " + failure.source.Text() + ": " + failure.reason);
      if (failure.source_is_bad) {
        bad_sources_[{failure.id, failure.rank}][failure.source] = failure.reason;
        MarkDurable(failure.source, failure.id, /*bad=*/true);
      }
    }
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

void Coordinator::FailAttempt(const std::string& why) {
  error_ = why;
  phase_ = Phase::kError;
  Log("attempt " + std::to_string(attempt()) + ": " + why);
  job_->SaveIncarnation(context_, epoch_.number);
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
  write.file.add_member_node_uuids(context_->node_uuid);
  *write.file.mutable_decision() = decision();
  write.tiers.assign(job_->record.tiers().begin(), job_->record.tiers().end());
  write.expected_roots = job_->ExpectedRoots();
  if (!write.tiers.empty()) {
    context_->Do(std::move(write));
  }
}

}  // namespace holdfast::daemon
