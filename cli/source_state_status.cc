// What `holdfast status` says of a dead daemon's state.

#include <algorithm>

#include "cli/snapshot_state.h"
#include "cli/source_state.h"

namespace holdfast::cli {

void StateSource::FillArena(proto::ArenaStatus* arena) const {
  arena->set_path(arena_.folder);
  for (const proto::SlotRecord& slot : contents_.slots) {
    if (!Counts(slot)) {
      continue;
    }
    arena->set_used_bytes(arena->used_bytes() + slot.capacity_bytes());
    switch (slot.state()) {
      case proto::SLOT_FREE:
        arena->set_free_slots(arena->free_slots() + 1);
        break;
      case proto::SLOT_SEALED:
        arena->set_sealed_slots(arena->sealed_slots() + 1);
        break;
      case proto::SLOT_QUARANTINED:
        arena->set_quarantined_bytes(arena->quarantined_bytes() + slot.capacity_bytes());
        break;
      default:
        arena->set_filling_slots(arena->filling_slots() + 1);
    }
  }
}

void StateSource::FillJob(const proto::JobRecord& record,
                          const Listing& listing,
                          proto::JobStatus* job) const {
  job->set_name(record.name());
  job->set_job_uid(record.job_uid());
  job->set_owner_uid(record.owner_uid());
  job->set_incarnation(record.epoch_number());
  job->set_world_size(record.world_size());
  for (const proto::SlotRecord& slot : contents_.slots) {
    const bool held = slot.state() != proto::SLOT_QUARANTINED && Counts(slot);
    if (held && slot.job_uid() == record.job_uid()) {
      job->set_arena_bytes(job->arena_bytes() + slot.capacity_bytes());
    }
  }
  for (const proto::IncarnationRecord& incarnation : contents_.incarnations) {
    if (incarnation.job_uid() == record.job_uid() &&
        incarnation.number() == record.epoch_number() && incarnation.decision().has_choice()) {
      *job->mutable_restored() = incarnation.decision().choice();
    }
  }
  for (const proto::TierPolicy& policy : record.tiers()) {
    proto::TierStatus* tier = job->add_tiers();
    tier->set_root(policy.root());
    tier->set_scope(policy.scope());
    tier->set_healthy(true);
    tier->set_newest_durable_step(-1);
  }
  for (const proto::SnapshotInfo& snapshot : listing.reply.snapshots()) {
    if (snapshot.id().job_uid() != record.job_uid()) {
      continue;
    }
    if (IsComplete(snapshot) && !snapshot.discarded() && !job->has_newest_complete()) {
      *job->mutable_newest_complete() = snapshot.id();
    }
    for (proto::TierStatus& tier : *job->mutable_tiers()) {
      const auto& roots = snapshot.durable_on();
      if (tier.newest_durable_step() < 0 &&
          std::find(roots.begin(), roots.end(), tier.root()) != roots.end()) {
        tier.set_newest_durable_step(snapshot.id().step());
        tier.set_newest_durable_incarnation(snapshot.id().incarnation());
      }
    }
  }
}

Result<proto::StatusReply> StateSource::Overview(const Listing& listing) {
  proto::StatusReply status;
  status.set_state_dir(arena_.state_dir);
  status.set_daemon_pid(arena_.daemon_pid.value_or(0));
  if (contents_.header) {
    status.set_node_uuid(contents_.header->node_uuid());
    status.set_boot_number(contents_.header->boot_number());
  }
  FillArena(status.mutable_arena());
  for (const proto::JobRecord& record : contents_.jobs) {
    FillJob(record, listing, status.add_jobs());
  }
  return status;
}

}  // namespace holdfast::cli
