// What the coordinator of another node decided, kept in this node's records: whatever is lost
// later, the next incarnation finds it here (docs/peers.md).

#include <utility>

#include "daemon/core/member.h"
#include "storage_tiers/catalog_records.h"

namespace holdfast::daemon {

void Member::Mirror() {
  proto::IncarnationRecord* present = job_->Present();
  // The decision alone is compared: the record names every node of the job.
  if (!present->has_decision() ||
      present->decision().SerializeAsString() != command_.decision.SerializeAsString()) {
    proto::IncarnationRecord next = *present;
    *next.mutable_decision() = command_.decision;
    // A decision that no start would read would make the whole batch unwritable.
    if (storage_tiers::ValidateRecord(next).has_value()) {
      *present = std::move(next);
      job_->SaveIncarnation(context_, job_->record.epoch_number());
    }
  }
  for (const SnapshotKey& id : command_.complete) {
    MirrorOutcome(id, proto::COMPLETE, "");
  }
  for (const auto& [id, reason] : command_.abandoned) {
    MirrorOutcome(id, proto::ABANDONED, reason);
  }
  MirrorDurables();
}

// An outcome never changes; one of an id that nothing here holds is kept only while it is news.
void Member::MirrorOutcome(const SnapshotKey& id,
                           proto::Outcome outcome,
                           const std::string& reason) {
  const auto held = job_->shards.find(id);
  const bool news = job_->outcomes.empty() || job_->outcomes.rbegin()->first < id;
  if (job_->outcomes.contains(id) || (held == job_->shards.end() && !news)) {
    return;
  }
  std::optional<std::uint32_t> world;
  if (held != job_->shards.end()) {
    world = held->second.begin()->second.sidecar.world_size();
  } else if (id.incarnation != job_->record.epoch_number()) {
    return;  // the world that it was taken with is not known here
  }
  job_->SetOutcome(context_, id, outcome, Shortened(reason), world);
}

// Of this incarnation the coordinator knows all: what it does not name was deleted.  Of older ones
// it may not have heard (yet).
void Member::MirrorDurables() {
  std::set<std::string> roots;
  for (const proto::TierPolicy& tier : job_->record.tiers()) {
    roots.insert(tier.root());
  }
  for (const auto& [root, id] : command_.durable) {
    if (roots.contains(root) && !job_->IsDurable(id, root)) {
      proto::DurableRecord* durable = job_->Durable(root, id);
      durable->set_published(true);
      durable->set_bad(false);
      job_->SaveDurable(context_, root, id);
    }
  }
  if (command_.phase != Phase::kRun) {
    return;
  }
  std::vector<std::pair<std::string, SnapshotKey>> gone;
  for (const auto& [root, ids] : job_->durables) {
    for (const auto& [id, durable] : ids) {
      const bool of_now = id.incarnation == job_->record.epoch_number();
      const bool deleted = durable.published() && !command_.durable.contains({root, id});
      const auto newest = command_.durable.lower_bound({root, id});
      const bool overtaken = !durable.published() && newest != command_.durable.end() &&
                             newest->first == root && !IsFlushing(root, id);
      if ((of_now && deleted) || overtaken) {
        gone.emplace_back(root, id);
      }
    }
  }
  for (const auto& [root, id] : gone) {
    job_->EraseDurable(context_, root, id);
  }
}

bool Member::IsFlushing(const std::string& root, const SnapshotKey& id) const {
  for (const FlushTarget& target : command_.flush) {
    if (target.root == root && target.id == id) {
      return true;
    }
  }
  for (const auto& [key, flush] : flushes_) {
    if (std::get<0>(key) == root && std::get<1>(key) == id && flush.under_way) {
      return true;
    }
  }
  return false;
}

}  // namespace holdfast::daemon
