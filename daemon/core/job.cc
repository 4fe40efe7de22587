#include "daemon/core/job.h"

#include <algorithm>
#include <utility>

namespace holdfast::daemon {
namespace {

// Outcomes kept for `holdfast ls` after their shards are gone.
constexpr std::size_t kOutcomesKept = 64;

}  // namespace

bool Job::IsComplete(const SnapshotKey& key) const {
  const auto it = outcomes.find(key);
  return it != outcomes.end() && it->second.outcome() == proto::COMPLETE;
}

bool Job::IsAbandoned(const SnapshotKey& key) const {
  const auto it = outcomes.find(key);
  return it != outcomes.end() && it->second.outcome() == proto::ABANDONED;
}

bool Job::IsDiscarded(const SnapshotKey& key) const {
  // The newest word counts: a later incarnation may have chosen what an earlier one put aside.
  for (auto it = incarnations.rbegin(); it != incarnations.rend(); ++it) {
    const proto::RestoreDecision& decision = it->second.decision();
    if (it->first <= key.incarnation) {
      break;
    }
    if (decision.committed() && decision.has_choice() && KeyOf(decision.choice()) == key) {
      return false;
    }
    if (decision.has_boundary() && key > KeyOf(decision.boundary())) {
      return true;
    }
  }
  return false;
}

const proto::DurableRecord* Job::FindDurable(const std::string& root,
                                             const SnapshotKey& key) const {
  const auto tier = durables.find(root);
  if (tier == durables.end()) {
    return nullptr;
  }
  const auto it = tier->second.find(key);
  return it == tier->second.end() ? nullptr : &it->second;
}

bool Job::IsDurable(const SnapshotKey& key, const std::string& root) const {
  const proto::DurableRecord* durable = FindDurable(root, key);
  return durable != nullptr && durable->published() && !durable->bad();
}

std::vector<std::string> Job::DurableOn(const SnapshotKey& key) const {
  std::vector<std::string> roots;
  for (const auto& [root, ids] : durables) {
    if (IsDurable(key, root)) {
      roots.push_back(root);
    }
  }
  return roots;
}

bool Job::FallbackIsOpen() const {
  const auto present = incarnations.find(record.epoch_number());
  return present != incarnations.end() && present->second.decision().fallback_open();
}

bool Job::IsExpectedOn(const std::string& root) const {
  const auto tier = durables.find(root);
  return tier != durables.end() &&
         std::any_of(tier->second.begin(), tier->second.end(), [](const auto& entry) {
           return entry.second.published();
         });
}

std::set<std::string> Job::ExpectedRoots() const {
  std::set<std::string> roots;
  for (const auto& [root, ids] : durables) {
    if (IsExpectedOn(root)) {
      roots.insert(root);
    }
  }
  return roots;
}

bool Job::IsBaseOrFallback(const SnapshotKey& key) const {
  const auto present = incarnations.find(record.epoch_number());
  if (present == incarnations.end()) {
    return false;
  }
  const proto::RestoreDecision& decision = present->second.decision();
  return (decision.has_choice() && KeyOf(decision.choice()) == key) ||
         (decision.has_fallback() && KeyOf(decision.fallback()) == key);
}

bool Job::IsFallbackOnTier(const SnapshotKey& key) const {
  const auto present = incarnations.find(record.epoch_number());
  if (present == incarnations.end() || !present->second.decision().has_fallback() ||
      KeyOf(present->second.decision().fallback()) != key) {
    return false;
  }
  const auto& tiers = record.tiers();
  return std::any_of(tiers.begin(), tiers.end(), [&](const proto::TierPolicy& tier) {
    return tier.scope() == proto::SHARED && IsDurable(key, tier.root());
  });
}

std::uint32_t Job::StartsThatFailedOn(const SnapshotKey& key) const {
  std::uint32_t failed = 0;
  for (auto it = incarnations.rbegin(); it != incarnations.rend(); ++it) {
    const proto::RestoreDecision& decision = it->second.decision();
    const bool chose = decision.has_choice() && KeyOf(decision.choice()) == key;
    if (it->first >= record.epoch_number() || !chose) {
      continue;
    }
    if (decision.committed()) {
      break;
    }
    ++failed;
  }
  return failed;
}

bool Job::IsSound(const SnapshotKey& key) const {
  const auto by_rank = shards.find(key);
  return by_rank != shards.end() &&
         std::none_of(by_rank->second.begin(), by_rank->second.end(), [](const auto& shard) {
           return shard.second.poisoned;
         });
}

std::optional<SnapshotKey> Job::NewestComplete() const {
  for (auto it = shards.rbegin(); it != shards.rend(); ++it) {
    if (IsComplete(it->first) && IsSound(it->first) && !IsDiscarded(it->first)) {
      return it->first;
    }
  }
  return std::nullopt;
}

std::optional<SnapshotKey> Job::NewestCompleteAnywhere() const {
  std::optional<SnapshotKey> newest = NewestComplete();
  for (const auto& [root, ids] : durables) {
    for (const auto& [id, durable] : ids) {
      if (IsDurable(id, root) && !IsDiscarded(id) && (!newest.has_value() || *newest < id)) {
        newest = id;
      }
    }
  }
  return newest;
}

const Shard* Job::FindShard(const SnapshotKey& key, Rank rank) const {
  const auto by_rank = shards.find(key);
  if (by_rank == shards.end()) {
    return nullptr;
  }
  const auto it = by_rank->second.find(rank);
  return it == by_rank->second.end() ? nullptr : &it->second;
}

Shard* Job::FindShard(const SnapshotKey& key, Rank rank) {
  return const_cast<Shard*>(std::as_const(*this).FindShard(key, rank));
}

bool Job::SharesStatic(SlotRef slot, bool poisoned_only) const {
  for (const auto& [id, by_rank] : shards) {
    for (const auto& [rank, shard] : by_rank) {
      if (shard.static_slot == slot && (shard.poisoned || !poisoned_only)) {
        return true;
      }
    }
  }
  return false;
}

proto::IncarnationRecord* Job::Present() {
  proto::IncarnationRecord& present = incarnations[record.epoch_number()];
  if (present.job_uid().empty()) {
    present.set_job_uid(uid());
    present.set_number(record.epoch_number());
    present.set_token(record.epoch_token());
    present.set_world_size(record.world_size());
    present.set_last_begun_step(kNoStep);
  }
  return &present;
}

void Job::Save(CoreContext* context) const {
  context->batch()->PutJob(record);
}

void Job::SaveIncarnation(CoreContext* context, std::uint64_t number) const {
  context->batch()->PutIncarnation(incarnations.at(number));
}

void Job::PutShard(CoreContext* context, const SnapshotKey& key, Rank rank, Shard shard) {
  shards[key].insert_or_assign(rank, std::move(shard));
  SaveShard(context, key, rank);
}

void Job::SaveShard(CoreContext* context, const SnapshotKey& key, Rank rank) const {
  const Shard& shard = *FindShard(key, rank);
  proto::ShardRecord saved;
  *saved.mutable_sidecar() = shard.sidecar;
  saved.set_slot(shard.slot.slot);
  saved.set_generation(shard.slot.generation);
  saved.set_poisoned(shard.poisoned);
  saved.set_arena_uuid(context->slots.identity().arena_uuid);
  saved.set_boot_id(context->slots.identity().boot_id);
  saved.set_restored(shard.restored);
  if (shard.static_slot.has_value()) {
    saved.set_static_slot(shard.static_slot->slot);
    saved.set_static_generation(shard.static_slot->generation);
  }
  context->batch()->PutShard(saved);
}

void Job::EraseShard(CoreContext* context, const SnapshotKey& key, Rank rank) {
  const auto by_rank = shards.find(key);
  if (by_rank == shards.end()) {
    return;
  }
  by_rank->second.erase(rank);
  if (by_rank->second.empty()) {
    shards.erase(by_rank);
  }
  context->batch()->DeleteShard(Id(key), rank);
}

void Job::SetOutcome(CoreContext* context,
                     const SnapshotKey& key,
                     proto::Outcome outcome,
                     std::string reason,
                     std::optional<std::uint32_t> world_size) {
  proto::OutcomeRecord& saved = outcomes[key];
  *saved.mutable_id() = Id(key);
  saved.set_outcome(outcome);
  saved.set_reason(std::move(reason));
  saved.set_world_size(world_size.value_or(record.world_size()));
  saved.set_discarded(IsDiscarded(key));
  context->batch()->PutOutcome(saved);
  PruneOutcomes(context);
}

proto::DurableRecord* Job::Durable(const std::string& root, const SnapshotKey& key) {
  proto::DurableRecord& durable = durables[root][key];
  if (durable.root().empty()) {
    *durable.mutable_id() = Id(key);
    durable.set_root(root);
  }
  return &durable;
}

void Job::SaveDurable(CoreContext* context, const std::string& root, const SnapshotKey& key) const {
  context->batch()->PutDurable(durables.at(root).at(key));
}

void Job::EraseDurable(CoreContext* context, const std::string& root, const SnapshotKey& key) {
  const auto tier = durables.find(root);
  if (tier != durables.end() && tier->second.erase(key) > 0) {
    context->batch()->DeleteDurable(Id(key), root);
  }
}

void Job::ForgetPublished(CoreContext* context) {
  for (auto& [root, ids] : durables) {
    std::erase_if(ids, [&, &root = root](const auto& entry) {
      if (entry.second.published()) {
        context->batch()->DeleteDurable(Id(entry.first), root);
      }
      return entry.second.published();
    });
  }
}

void Job::Forget(CoreContext* context) const {
  for (const auto& [root, ids] : durables) {
    for (const auto& [key, durable] : ids) {
      context->batch()->DeleteDurable(Id(key), root);
    }
  }
  for (const auto& [key, outcome] : outcomes) {
    context->batch()->DeleteOutcome(Id(key));
  }
  for (const auto& [number, incarnation] : incarnations) {
    context->batch()->DeleteIncarnation(uid(), number);
  }
  context->batch()->DeleteJob(uid());
}

void Job::PruneOutcomes(CoreContext* context) {
  if (outcomes.size() <= 2 * kOutcomesKept) {
    return;
  }
  std::size_t surplus = outcomes.size() - kOutcomesKept;
  for (auto it = outcomes.begin(); it != outcomes.end() && surplus > 0;) {
    const bool held = shards.contains(it->first) || !DurableOn(it->first).empty();
    if (held) {
      ++it;
      continue;
    }
    context->batch()->DeleteOutcome(Id(it->first));
    it = outcomes.erase(it);
    --surplus;
  }
}

}  // namespace holdfast::daemon
