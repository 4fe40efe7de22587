// What status and list requests answer, and metrics are made of.

#include <set>
#include <utility>

#include "daemon/core/node_state.h"

namespace holdfast::daemon {
namespace {

void FillArena(const SlotTable& slots, proto::ArenaStatus* arena) {
  arena->set_budget_bytes(slots.budget_bytes());
  arena->set_used_bytes(slots.used_bytes());
  std::uint64_t quarantined = 0;
  std::uint64_t free = 0;
  std::uint64_t sealed = 0;
  std::uint64_t filling = 0;
  std::uint64_t statics = 0;
  std::uint64_t parity = 0;
  slots.ForEach([&](const Slot& slot) {
    quarantined += slot.phase == SlotPhase::kQuarantined ? slot.capacity_bytes : 0;
    free += slot.phase == SlotPhase::kFree || slot.phase == SlotPhase::kGranted ? 1 : 0;
    sealed += slot.phase == SlotPhase::kSealed ? 1 : 0;
    filling += slot.phase == SlotPhase::kFilling || slot.phase == SlotPhase::kSealing ? 1 : 0;
    statics += slot.kind == proto::STATIC ? slot.capacity_bytes : 0;
    parity += slot.parity ? slot.capacity_bytes : 0;
  });
  arena->set_static_bytes(statics);
  arena->set_parity_bytes(parity);
  arena->set_quarantined_bytes(quarantined);
  arena->set_free_slots(free);
  arena->set_sealed_slots(sealed);
  arena->set_filling_slots(filling);
}

void FillRank(Rank rank, const RankSession& state, proto::RankStatus* out) {
  out->set_rank(rank);
  out->set_pid(state.process.pid);
  out->set_connected(state.session != 0);
  out->set_image_bytes(state.image_bytes);
  out->set_static_image_bytes(state.static_bytes);
  out->set_last_begun_step(state.last_begun);
  out->set_snapshots_sealed(state.sealed);
  out->set_snapshots_missed(state.missed + state.skipped);
  out->set_last_missed_reason(state.last_missed_reason);
}

void FillTier(const JobUnit& unit, const proto::TierPolicy& tier, proto::TierStatus* out) {
  out->set_root(tier.root());
  out->set_scope(tier.scope());
  std::string error;
  if (const auto it = unit.member->tier_errors().find(tier.root());
      it != unit.member->tier_errors().end()) {
    error = it->second;
  }
  if (unit.coordinator != nullptr) {
    const auto it = unit.coordinator->tier_errors().find(tier.root());
    error = error.empty() && it != unit.coordinator->tier_errors().end() ? it->second : error;
  }
  out->set_healthy(error.empty());
  out->set_last_error(error);
  out->set_newest_durable_step(kNoStep);
  out->set_flushed_bytes(unit.member->flushed_bytes(tier.root()));
  if (const auto flush = unit.member->FlushTo(tier.root()); flush.has_value()) {
    *out->mutable_flushing() = unit.job.Id(flush->id);
    out->set_flushing_bytes(flush->bytes);
    out->set_flushing_done_bytes(flush->done_bytes);
  }
  if (const auto ids = unit.job.durables.find(tier.root()); ids != unit.job.durables.end()) {
    for (const auto& [id, durable] : ids->second) {
      if (unit.job.IsDurable(id, tier.root())) {
        out->set_newest_durable_step(id.step);
        out->set_newest_durable_incarnation(id.incarnation);
      }
    }
  }
}

void FillGroup(const GroupView& group, proto::GroupStatus* out) {
  out->mutable_node_uuids()->Assign(group.nodes.begin(), group.nodes.end());
  out->set_data(group.data);
  out->set_parity(group.parity);
  out->set_reduced(group.reduced);
  out->mutable_uncovered_domains()->Assign(group.uncovered_domains.begin(),
                                           group.uncovered_domains.end());
}

// As the coordinator last said it, with all groups where that is this node.
void FillProtection(const JobUnit& unit, std::uint32_t wished, proto::JobStatus* out) {
  const Command& command = unit.member->command();
  if (command.protected_id.has_value()) {
    *out->mutable_protected_id() = unit.job.Id(*command.protected_id);
    const auto margin = command.margins.find(*command.protected_id);
    out->set_margin(margin == command.margins.end() ? 0 : margin->second);
  }
  if (command.protect.has_value()) {
    *out->mutable_protecting() = unit.job.Id(command.protect->id);
  }
  if (unit.coordinator != nullptr) {
    for (const GroupView& group : unit.coordinator->groups()) {
      FillGroup(group, out->add_groups());
    }
  } else if (command.group.has_value()) {
    FillGroup(*command.group, out->add_groups());
  }
  const std::string silent = unit.member->live() ? unit.member->WhoIsSilent() : "";
  const std::string error = !silent.empty()               ? silent
                            : unit.coordinator != nullptr ? unit.coordinator->ParityError()
                                                          : unit.member->parity_error();
  const bool alone =
      wished > 0 && !command.coded && command.not_coded.empty() && unit.member->heard();
  out->set_not_protected(!command.not_coded.empty() ? command.not_coded
                         : alone                    ? "the job has one node: it has no peers"
                                                    : error);
}

void FillJob(const JobUnit& unit, std::uint32_t wished, proto::JobStatus* out) {
  const proto::JobRecord& record = unit.job.record;
  out->set_name(record.name());
  out->set_job_uid(record.job_uid());
  out->set_owner_uid(record.owner_uid());
  out->set_incarnation(record.epoch_number());
  out->set_world_size(record.world_size());
  out->set_arena_bytes(unit.member->ArenaBytes());
  out->set_live(unit.member->live());
  if (const auto newest = unit.job.NewestCompleteAnywhere(); newest.has_value()) {
    *out->mutable_newest_complete() = unit.job.Id(*newest);
  }
  for (const auto& [rank, state] : unit.member->ranks()) {
    FillRank(rank, state, out->add_ranks());
  }
  for (const proto::TierPolicy& tier : record.tiers()) {
    FillTier(unit, tier, out->add_tiers());
  }
  const auto present = unit.job.incarnations.find(record.epoch_number());
  if (present != unit.job.incarnations.end() && present->second.decision().has_choice()) {
    *out->mutable_restored() = present->second.decision().choice();
  }
  if (present != unit.job.incarnations.end()) {
    *out->mutable_members() = present->second.members();
  }
  FillProtection(unit, wished, out);
  out->set_phase("idle");
  if (unit.coordinator != nullptr) {
    out->set_phase(std::string(Name(unit.coordinator->phase())));
    out->set_restore_attempt(unit.coordinator->attempt());
    for (const std::string& line : unit.coordinator->log()) {
      out->add_restore_log(line);
    }
  }
}

// Every id of which this node knows anything worth listing.
std::set<SnapshotKey> KnownIds(const Job& job, const SlotTable& slots) {
  std::set<SnapshotKey> ids;
  for (const auto& [id, shards] : job.shards) {
    ids.insert(id);
  }
  for (const auto& [id, outcome] : job.outcomes) {
    ids.insert(id);
  }
  for (const auto& [id, rows] : job.rows) {
    ids.insert(id);
  }
  for (const auto& [root, durables] : job.durables) {
    for (const auto& [id, durable] : durables) {
      if (durable.published()) {
        ids.insert(id);
      }
    }
  }
  slots.ForEach([&](const Slot& slot) {
    if (slot.job == job.uid() && slot.phase == SlotPhase::kFilling) {
      ids.insert({slot.epoch_number, slot.step});
    }
  });
  return ids;
}

void FillSnapshot(const Job& job,
                  const SlotTable& slots,
                  const SnapshotKey& id,
                  proto::SnapshotInfo* out) {
  *out->mutable_id() = job.Id(id);
  out->set_job_name(job.record.name());
  out->set_world_size(job.record.world_size());
  out->set_discarded(job.IsDiscarded(id));
  for (const std::string& root : job.DurableOn(id)) {
    out->add_durable_on(root);
  }
  for (const auto& [root, ids] : job.durables) {
    const proto::DurableRecord* durable = job.FindDurable(root, id);
    if (durable != nullptr && durable->published() && durable->bad()) {
      out->add_damaged_on(root);
    }
  }
  std::string state = "filling";
  if (const auto shards = job.shards.find(id); shards != job.shards.end()) {
    state = "sealed";
    for (const auto& [rank, shard] : shards->second) {
      proto::ShardInfo* info = out->add_shards();
      info->set_rank(rank);
      info->set_state(shard.poisoned ? "poisoned" : "sealed");
      info->set_image_bytes(shard.sidecar.images(0).length_bytes());
      if (shard.sidecar.images_size() > 1) {
        info->set_static_image_bytes(shard.sidecar.images(1).length_bytes());
      }
      out->set_world_size(shard.sidecar.world_size());
    }
  }
  slots.ForEach([&](const Slot& slot) {
    if (slot.job == job.uid() && slot.phase == SlotPhase::kFilling &&
        SnapshotKey{slot.epoch_number, slot.step} == id) {
      proto::ShardInfo* info = out->add_shards();
      info->set_rank(slot.rank);
      info->set_state("filling");
      info->set_image_bytes(slot.image_bytes);
    }
  });
  if (const auto outcome = job.outcomes.find(id); outcome != job.outcomes.end()) {
    state = outcome->second.outcome() == proto::COMPLETE ? "complete" : "abandoned";
    out->set_reason(outcome->second.reason());
  }
  if (out->durable_on_size() > 0) {
    state = "durable";
  } else if (out->damaged_on_size() > 0 && out->shards_size() == 0) {
    state = "complete";  // it was published once
  }
  out->set_state(state);
  const auto present = job.incarnations.find(job.record.epoch_number());
  if (present != job.incarnations.end()) {
    const proto::RestoreDecision& decision = present->second.decision();
    out->set_restore_base(decision.has_choice() && KeyOf(decision.choice()) == id);
    out->set_fallback(decision.has_fallback() && KeyOf(decision.fallback()) == id);
  }
}

void FillParity(const JobUnit& unit, const SnapshotKey& id, proto::SnapshotInfo* out) {
  const auto rows = unit.job.rows.find(id);
  out->set_parity_rows(
      rows == unit.job.rows.end() ? 0 : static_cast<std::uint32_t>(rows->second.size()));
  const Command& command = unit.member->command();
  const auto margin = command.margins.find(id);
  out->set_margin(margin == command.margins.end() ? 0 : margin->second);
  out->set_is_protected(command.protected_id == id);
}

}  // namespace

proto::StatusReply NodeState::StatusView(const std::string& job_name, Asker asker) const {
  proto::StatusReply reply;
  reply.set_node_uuid(context.node_uuid);
  reply.set_boot_number(context.boot_number());
  FillArena(context.slots, reply.mutable_arena());
  for (const auto& [uid, unit] : jobs) {
    const bool wanted = job_name.empty() || unit->job.record.name() == job_name;
    if (wanted && (!asker.has_value() || MayUse(*asker, unit->job))) {
      FillJob(*unit, context.options.code_parity, reply.add_jobs());
    }
  }
  return reply;
}

proto::ListReply NodeState::ListView(const std::string& job_name, Asker asker) const {
  proto::ListReply reply;
  for (const auto& [uid, unit] : jobs) {
    const bool wanted = job_name.empty() || unit->job.record.name() == job_name;
    if (!wanted || (asker.has_value() && !MayUse(*asker, unit->job))) {
      continue;
    }
    const std::set<SnapshotKey> ids = KnownIds(unit->job, context.slots);
    for (auto it = ids.rbegin(); it != ids.rend(); ++it) {
      proto::SnapshotInfo* info = reply.add_snapshots();
      FillSnapshot(unit->job, context.slots, *it, info);
      FillParity(*unit, *it, info);
    }
  }
  return reply;
}

}  // namespace holdfast::daemon
