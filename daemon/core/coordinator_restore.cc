// The restore half of the coordinator: collect -> prepare -> go -> run (docs/peers.md).

#include <algorithm>
#include <utility>

#include "daemon/core/coordinator.h"
#include "daemon/core/first_few.h"

namespace holdfast::daemon {
namespace {

constexpr std::size_t kNamed = 16;

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
  orders_.clear();
  ++tailored_;
  error_.reset();
  waiting_since_.reset();
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
      // Which image in memory it was is lost; that its owner is needed is not (I6).
      durable->clear_statics();
      for (const auto& [rank, owner] : snapshot.static_owners) {
        proto::DurableStatic* where = durable->add_statics();
        where->set_rank(rank);
        *where->mutable_owner() = job_->Id(owner);
      }
      job_->SaveDurable(context_, root, snapshot.id);
    }
  }
  std::vector<SnapshotKey> gone;
  for (const auto& [id, durable] : job_->durables[root]) {
    // What this incarnation published may be newer than a listing that took long.
    const bool older = id.incarnation != epoch_.number;
    if (durable.published() && older && !present.contains(id)) {
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
  return !reports_.empty() && (waited || Silent().empty());
}

void Coordinator::DecideCollect() {
  const bool closed = InventoryClosed();
  if (!closed && !IsGreatestObtainable()) {
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
  // A silent node may hold what is asked for by name, or what a user forgot to ask for.
  if (!closed && (!all_asked || *wish != RestoreWish())) {
    return;
  }
  if (all_asked) {
    Choose(*wish);
  } else if (trains && !any_asked && decision().overwrites()) {
    FailAttempt(
        "the ranks train although a failed attempt to restore may have overwritten the initial "
        "state of some: start the training again",
        Errc::kCorruption);
  } else if (trains && !any_asked) {
    StartWithoutRestore();
  } else if (trains) {
    FailAttempt(
        "some ranks train without having asked for a restore, others wait for one; call "
        "restore() on every rank, or on none");
  } else if (any_asked) {
    GiveUpWaiting("did not ask for a restore, as the others do",
                  [](const RankReport& rank, std::uint32_t) { return rank.asked; });
  }
}

// L: ranks that wait for others are told which ones, in time.
void Coordinator::GiveUpWaiting(const char* what,
                                bool (*done)(const RankReport& rank, std::uint32_t attempt)) {
  if (!waiting_since_.has_value()) {
    waiting_since_ = context_->now;
  }
  if (context_->now - *waiting_since_ < context_->options.restore_wait) {
    return;
  }
  FirstFew ranks(", ", kNamed);
  for (Rank rank = 0; rank < world_size(); ++rank) {
    const RankReport* state = RankOf(rank);
    if (state == nullptr || !done(*state, attempt())) {
      ranks.Add(
          std::to_string(rank) +
          (IsOutOfSight(rank) ? " (its node " + NodeText(servers_.at(rank)) + " is silent)" : ""));
    }
  }
  FailAttempt("rank " + ranks.Text() + " " + what + " (restore.wait is " +
                  ToText(context_->options.restore_wait) +
                  "): see why it is not running, then start the job again",
              Errc::kUnavailable);
}

Inventory Coordinator::TakeInventory() const {
  Inventory inventory;
  const std::map<SnapshotKey, std::uint64_t> starts = StartsOfIds();
  for (const auto& [node, report] : reports_) {
    for (const ShardEntry& entry : report.shards) {
      const bool older = entry.id.incarnation != epoch_.number;
      if (!older || entry.state == ShardEntry::State::kFilling) {
        continue;
      }
      if (entry.token == starts.at(entry.id)) {
        AddHeld(node, entry, &inventory);
      } else {
        inventory.out_of_reach[entry.id].push_back(
            "node " + NodeText(node) + " has that of another start with the same number");
      }
    }
  }
  for (const auto& [node, report] : reports_) {
    inventory.was_complete.insert(report.known_complete.begin(), report.known_complete.end());
  }
  AddRebuilds(&inventory);
  AddUnrecorded(&inventory);
  AddTiers(&inventory);
  NameSilent(&inventory);
  for (const auto& [id, sources] : inventory.sources) {
    if (job_->IsDiscarded(id)) {
      inventory.discarded.insert(id);
    }
    const auto tries = tries_.find(id);
    if (tries != tries_.end() && tries->second >= context_->options.restore_tries) {
      const auto why = last_failures_.find(id);
      inventory.tried_too_often[id] =
          why == last_failures_.end() ? "no rank said why" : why->second;
    }
    if (job_->StartsThatFailedOn(id) >= context_->options.restore_tries) {
      inventory.ended_too_many_starts.insert(id);
    }
  }
  for (const auto& [shard, sources] : bad_sources_) {
    inventory.bad[shard].insert(sources.begin(), sources.end());
  }
  inventory.failures = source_failures_;
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
      sources[rank].push_back(Source{Source::Kind::kTier, tier.root(), ""});
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
  for (Rank rank = 0; rank < world_size() && !plan_.choice.has_value(); ++rank) {
    if (RankOf(rank)->overwritten) {
      FailAttempt(
          "no snapshot is left to restore, and a failed attempt has overwritten the initial "
          "state of rank " +
              std::to_string(rank) + ": start the training again with this job's snapshots removed",
          Errc::kCorruption);
      return;
    }
  }
  proto::RestoreDecision* now = MutableDecision();
  now->set_decided(true);
  now->set_has_named_step(wish.named_step.has_value());
  now->set_named_step(wish.named_step.value_or(0));
  now->set_fallback_open(!EveryoneAnswered());
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
  MakeOrders();
  ++tries_[*plan_.choice];
  phase_ = Phase::kPrepare;
  RecordDecision();
}

// The user trains without having asked for a restore.  What older incarnations left is kept until
// the first snapshot of this one is complete: a forgotten call must not destroy weeks of work.
void Coordinator::StartWithoutRestore() {
  const auto kept = PlanKept(TakeInventory());
  MutableDecision()->set_decided(true);
  MutableDecision()->set_fallback_open(false);
  if (kept.has_value()) {
    *MutableDecision()->mutable_fallback() = job_->Id(*kept);
  }
  Commit();
}

}  // namespace holdfast::daemon
