// Recovery after a start, jobs by name, and the exchange between members and coordinators.

#include "daemon/core/node_state.h"

#include <algorithm>
#include <utility>

namespace holdfast::daemon {

NodeState::NodeState(CoreOptions options,
                     RecoveredState recovered,
                     MonotonicTime now,
                     WallTime wall_now)
    : context{options,
              recovered.node_uuid,
              SlotTable({recovered.arena_uuid, recovered.boot_id, recovered.boot_number},
                        options.budget_bytes),
              now,
              wall_now,
              {},
              1,
              1},
      started(now) {
  RecoverJobs(recovered);
  RecoverSlots(recovered);
  std::set<SlotRef> named = RecoverShards(recovered);
  named.merge(RecoverRows(recovered));
  FreeUnnamed(named);
  DropSlotsOfNobody();
  for (auto& [uid, unit] : jobs) {
    const auto present = unit->job.incarnations.find(unit->job.record.epoch_number());
    unit->member->StartEpochAfterRestart();
    if (present != unit->job.incarnations.end() && present->second.coordinator()) {
      unit->coordinator = std::make_unique<Coordinator>(&context, &unit->job);
    }
    Exchange(unit.get());
  }
}

void NodeState::RecoverJobs(const RecoveredState& recovered) {
  for (proto::JobRecord record : recovered.jobs) {
    // The record is as old as the last registration: a job may have trained until this daemon's
    // predecessor died, so it is an orphan at the earliest from now on.
    record.set_last_active_unix_ms(std::max(record.last_active_unix_ms(), context.WallMs()));
    AddJob(std::move(record));
  }
  for (const proto::IncarnationRecord& record : recovered.incarnations) {
    if (JobUnit* unit = FindByUid(record.job_uid()); unit != nullptr) {
      unit->job.incarnations[record.number()] = record;
    }
  }
  for (const proto::OutcomeRecord& record : recovered.outcomes) {
    if (JobUnit* unit = FindByUid(record.id().job_uid()); unit != nullptr) {
      unit->job.outcomes[KeyOf(record.id())] = record;
    }
  }
  for (const proto::DurableRecord& record : recovered.durables) {
    if (JobUnit* unit = FindByUid(record.id().job_uid()); unit != nullptr) {
      unit->job.durables[record.root()][KeyOf(record.id())] = record;
    }
  }
}

void NodeState::RecoverSlots(const RecoveredState& recovered) {
  for (const proto::SlotRecord& record : recovered.slots) {
    const auto layout = recovered.layouts.find(record.layout_hash());
    Slot* slot = context.slots.Recover(
        record, layout == recovered.layouts.end() ? nullptr : &layout->second);
    if (slot->phase == SlotPhase::kQuarantined) {
      context.Do(QuarantineSlot{slot->ref});
    }
  }
  for (const SlotNumber slot : recovered.lost_slots) {
    context.batch()->DeleteSlot(slot);
  }
}

std::set<SlotRef> NodeState::RecoverShards(const RecoveredState& recovered) {
  std::set<SlotRef> named;
  for (const proto::ShardRecord& record : recovered.shards) {
    const proto::Sidecar& sidecar = record.sidecar();
    JobUnit* unit = FindByUid(sidecar.id().job_uid());
    const SlotRef ref{record.slot(), record.generation()};
    const Slot* slot = context.slots.Find(ref);
    std::optional<SlotRef> shared;
    if (record.static_slot() != 0) {
      shared = SlotRef{record.static_slot(), record.static_generation()};
    }
    const Slot* image = shared.has_value() ? context.slots.Find(*shared) : slot;
    image = sidecar.images_size() > 1 && !shared.has_value() ? nullptr : image;
    // A record whose bytes are gone must not be believed by a later start either.
    if (unit == nullptr || slot == nullptr || slot->phase != SlotPhase::kSealed ||
        image == nullptr || image->phase != SlotPhase::kSealed) {
      context.batch()->DeleteShard(sidecar.id(), sidecar.rank());
      continue;
    }
    Shard shard;
    shard.slot = ref;
    shard.static_slot = shared;
    shard.sidecar = sidecar;
    shard.poisoned = record.poisoned();
    shard.poison_reason = record.poisoned() ? "found bad before the daemon's restart" : "";
    shard.restored = record.restored();
    shard.start_token = record.start_token();
    unit->job.shards[KeyOf(sidecar.id())][sidecar.rank()] = std::move(shard);
    named.insert(ref);
  }
  return named;
}

std::set<SlotRef> NodeState::RecoverRows(const RecoveredState& recovered) {
  std::set<SlotRef> named;
  for (const proto::RowRecord& record : recovered.rows) {
    JobUnit* unit = FindByUid(record.id().job_uid());
    Result<CodeSet> set = FromProto(record.set());
    Row row;
    row.record = record;
    if (record.slot() != 0) {
      row.slot = SlotRef{record.slot(), record.generation()};
    }
    const Slot* slot = row.slot.has_value() ? context.slots.Find(*row.slot) : nullptr;
    const bool lies_here = !row.slot.has_value() ||
                           (slot != nullptr && slot->parity && slot->phase == SlotPhase::kSealed);
    if (unit == nullptr || !set.has_value() || !lies_here) {
      context.batch()->DeleteRow(record);
      continue;
    }
    row.set = std::move(set).value();
    if (row.slot.has_value()) {
      named.insert(*row.slot);
    }
    const RowName name = NameOf(row.set, record.row());
    unit->job.rows[KeyOf(record.id())].insert_or_assign(name, std::move(row));
  }
  for (const proto::SidecarRecord& record : recovered.sidecars) {
    const proto::Sidecar& sidecar = record.sidecar();
    if (JobUnit* unit = FindByUid(sidecar.id().job_uid()); unit != nullptr) {
      unit->job.sidecars[KeyOf(sidecar.id())].insert_or_assign(sidecar.rank(), record);
    }
  }
  return named;
}

void NodeState::FreeUnnamed(const std::set<SlotRef>& named) {
  context.slots.ForEach([&](Slot* slot) {
    // A static image may be of a live layout whose shards are gone.
    const bool image = slot->kind == proto::STATIC && jobs.contains(slot->job);
    if (slot->phase == SlotPhase::kSealed && !named.contains(slot->ref) && !image) {
      context.slots.Apply(slot, SlotEvent::kRetire, context.batch());
    }
  });
}

// Slots of a job whose record is lost serve nobody: they would take from the budget for ever.
void NodeState::DropSlotsOfNobody() {
  std::vector<SlotRef> idle;
  context.slots.ForEach([&](Slot* slot) {
    if (jobs.contains(slot->job)) {
      return;
    }
    if (slot->phase == SlotPhase::kFree) {
      idle.push_back(slot->ref);
    } else if (SlotTable::Allows(*slot, SlotEvent::kOwnerGone)) {
      context.slots.Apply(slot, SlotEvent::kOwnerGone, context.batch());
      context.Do(QuarantineSlot{slot->ref});
    }
  });
  for (const SlotRef& ref : idle) {
    context.slots.Remove(ref, context.batch());
    context.Do(RemoveSlot{ref});
  }
}

JobUnit* NodeState::AddJob(proto::JobRecord record) {
  auto unit = std::make_unique<JobUnit>();
  unit->job.record = std::move(record);
  unit->member = std::make_unique<Member>(&context, &unit->job);
  NodeHooks hooks;
  hooks.reserved_by_others = [this](const Member* but) { return ReservedByOthers(but); };
  hooks.reclaim_orphans = [this](const Member* but, std::uint64_t bytes) {
    return ReclaimOrphans(but, bytes);
  };
  unit->member->SetNodeHooks(std::move(hooks));
  JobUnit* kept = unit.get();
  jobs[kept->job.uid()] = std::move(unit);
  return kept;
}

JobUnit* NodeState::FindByUid(const JobUid& uid) {
  const auto it = jobs.find(uid);
  return it == jobs.end() ? nullptr : it->second.get();
}

JobUnit* NodeState::FindByName(const std::string& name) {
  for (const auto& [uid, unit] : jobs) {
    if (unit->job.record.name() == name) {
      return unit.get();
    }
  }
  return nullptr;
}

JobUnit* NodeState::FindBySlot(SlotRef ref) {
  const Slot* slot = context.slots.Find(ref);
  return slot == nullptr ? nullptr : FindByUid(slot->job);
}

// Within a node messages pass in memory; what other nodes are to hear follows.  Each round either
// changes something that the next report shows, or ends; the bound only guards against a bug.
void NodeState::Exchange(JobUnit* unit) {
  constexpr int kRounds = 16;
  bool changed = true;
  for (int round = 0; round < kRounds && changed; ++round) {
    changed = false;
    if (unit->coordinator != nullptr) {
      unit->coordinator->OnReport(unit->member->MakeReport(/*introduces=*/false));
      Command command = unit->coordinator->MakeCommand();
      unit->coordinator->Tailor(context.node_uuid, &command);
      const Result<bool> obeyed = unit->member->OnCommand(command);
      changed = obeyed.has_value() && obeyed.value();
    } else {
      unit->member->Obey();
    }
    unit->member->Settle();
  }
  SendToPeers(unit);
}

void NodeState::ExchangeHeard() {
  for (auto& [uid, unit] : jobs) {
    if (unit->coordinator != nullptr && unit->coordinator->IsDue()) {
      Exchange(unit.get());
    }
  }
}

void NodeState::ExchangeAll() {
  for (auto& [uid, unit] : jobs) {
    Exchange(unit.get());
  }
}

std::uint64_t NodeState::ReservedByOthers(const Member* but) const {
  std::uint64_t bytes = 0;
  for (const auto& [uid, unit] : jobs) {
    bytes += unit->member.get() == but ? 0 : unit->member->ReservedBytes();
  }
  return bytes;
}

// All or nothing: what would be refused all the same must cost no other job its memory.
bool NodeState::ReclaimOrphans(const Member* but, std::uint64_t bytes) {
  if (!limbo_over) {
    return false;  // clients of the last daemon may be about to resume: they are not orphans
  }
  std::vector<JobUnit*> orphans;
  std::uint64_t freeable = 0;
  for (auto& [uid, unit] : jobs) {
    const std::uint64_t of_job = unit->member->FreeableBytes();
    if (unit->member.get() == but || unit->member->live() || of_job == 0) {
      continue;
    }
    const auto newest = unit->job.NewestComplete();
    const bool loses_nothing =
        unit->job.record.finished() || !newest.has_value() || !unit->job.DurableOn(*newest).empty();
    if (loses_nothing) {
      orphans.push_back(unit.get());
      freeable += of_job;
    }
  }
  if (freeable < bytes) {
    return false;
  }
  std::stable_sort(orphans.begin(), orphans.end(), [](const JobUnit* a, const JobUnit* b) {
    return a->job.record.last_active_unix_ms() < b->job.record.last_active_unix_ms();
  });
  std::uint64_t freed = 0;
  for (auto it = orphans.begin(); it != orphans.end() && freed < bytes; ++it) {
    freed += (*it)->member->FreeAll();
  }
  return freed > 0;
}

std::uint64_t NodeState::FreeJob(JobUnit* unit) {
  const std::uint64_t freed = unit->member->FreeAll();
  unit->job.record.set_finished(true);
  unit->job.Save(&context);
  return freed;
}

bool NodeState::IsInUse(const JobUnit& unit) const {
  const JobUid& uid = unit.job.uid();
  bool held = unit.member->live() || !unit.job.shards.empty() || clients.contains(unit.opener);
  held = held || std::any_of(clients.begin(), clients.end(), [&](const auto& client) {
           return client.second.job == uid;
         });
  context.slots.ForEach([&](const Slot& slot) {
    held = held || (slot.job == uid && slot.phase != SlotPhase::kQuarantined);
  });
  return held;
}

void NodeState::FreeOrphans() {
  const std::uint64_t now_ms = context.WallMs();
  const auto ttl_ms =
      static_cast<std::uint64_t>(std::chrono::milliseconds(context.options.orphan_ttl).count());
  for (auto& [uid, unit] : jobs) {
    const std::uint64_t last = unit->job.record.last_active_unix_ms();
    const bool idle = limbo_over && !unit->member->live() && last != 0 && now_ms > last + ttl_ms;
    if (idle && unit->member->ArenaBytes() > 0) {
      FreeJob(unit.get());
    }
  }
}

// A client that has not spoken since the last daemon died may be hung, or gone with its pid reused:
// what it held cannot be proven idle, so it is never reused (I7).
void NodeState::GiveUpLimbo() {
  if (limbo_over || context.now - started < context.options.resume_wait) {
    return;
  }
  limbo_over = true;
  std::set<std::uint64_t> tokens;
  context.slots.ForEach([&](Slot* slot) {
    if (slot->phase == SlotPhase::kLimbo) {
      tokens.insert(slot->session_token);
    }
  });
  for (auto& [uid, unit] : jobs) {
    for (const std::uint64_t token : tokens) {
      unit->member->OnLimboOver(token);
    }
  }
}

void NodeState::Unpin(SlotRef ref) {
  if (Slot* slot = context.slots.Find(ref); slot != nullptr && slot->pins > 0) {
    --slot->pins;
  }
}

void NodeState::Disconnect(SessionId session) {
  const auto it = clients.find(session);
  if (it == clients.end()) {
    return;
  }
  for (const SlotRef& opened : it->second.opened) {
    Unpin(opened);
  }
  JobUnit* unit = FindByUid(it->second.job);
  clients.erase(it);
  if (unit != nullptr) {
    unit->member->OnDisconnected(session);
    Exchange(unit);
  }
  TryOpens();
}

void NodeState::PoisonSlot(SlotRef ref, const std::string& reason) {
  JobUnit* unit = FindBySlot(ref);
  if (unit == nullptr) {
    return;
  }
  if (context.slots.Find(ref)->parity) {
    unit->member->DropRow(ref, reason);
    Exchange(unit);
    return;
  }
  if (context.slots.Find(ref)->kind == proto::STATIC) {
    unit->member->PoisonStatic(ref, reason);
    Exchange(unit);
    return;
  }
  for (const auto& [id, by_rank] : unit->job.shards) {
    for (const auto& [rank, shard] : by_rank) {
      if (shard.slot == ref) {
        unit->member->Poison(id, rank, reason);
        Exchange(unit);
        return;
      }
    }
  }
}

}  // namespace holdfast::daemon
