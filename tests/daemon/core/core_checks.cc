// The invariants, checked on what a crash at this moment would leave.

#include <algorithm>

#include "tests/daemon/core/core_harness.h"
#include "tests/daemon/core/fake_code.h"

namespace holdfast::daemon {
namespace {

const proto::JobRecord* FindJob(const storage_tiers::CatalogContents& records, const JobUid& uid) {
  for (const proto::JobRecord& job : records.jobs) {
    if (job.job_uid() == uid) {
      return &job;
    }
  }
  return nullptr;
}

// A shard never names a static image whose slot is not sealed: its bytes would be anybody's.
bool StaticIsSealed(CoreHarness* harness, const proto::ShardRecord& shard) {
  const auto& slots = harness->Records().slots;
  return shard.static_slot() == 0 ||
         std::any_of(slots.begin(), slots.end(), [&](const proto::SlotRecord& slot) {
           return slot.slot() == shard.static_slot() && slot.kind() == proto::STATIC &&
                  slot.generation() == shard.static_generation() &&
                  slot.state() == proto::SLOT_SEALED;
         });
}

// I2, I7: a sealed slot has the bytes that its sealer declared, whatever lands late.
void CheckSealedBytes(CoreHarness* harness) {
  std::set<SlotRef> seen;
  std::set<SlotRef> statics;  // with rows that several ids share
  for (const proto::ShardRecord& shard : harness->Records().shards) {
    const SlotRef ref{shard.slot(), shard.generation()};
    const SnapshotKey id = KeyOf(shard.sidecar().id());
    if (!seen.insert(ref).second) {
      harness->Violation("I8: two shards lie in slot " + ToText(ref));
    }
    if (!StaticIsSealed(harness, shard)) {
      harness->Violation("I2: the static image of " + ShortText(id) + " is not sealed any more");
    }
    const bool spared = harness->history().given_up.contains(shard.sidecar().id().job_uid());
    if (!shard.poisoned() && !spared && !IsIntact(*harness, shard)) {
      harness->Violation("I2: slot " + ToText(ref) + ", sealed as " + ShortText(id) +
                         ", holds other bytes: " + harness->arena().Content(ref));
    }
  }
  for (const proto::RowRecord& row : harness->Records().rows) {
    const SlotRef ref{row.slot(), row.generation()};
    const bool shared = row.set().kind() == proto::STATIC && !statics.insert(ref).second;
    if (row.slot() != 0 && !shared && !seen.insert(ref).second) {
      harness->Violation("I8: a row lies in slot " + ToText(ref) + ", which has another use");
    }
    if (!IsIntact(*harness, row)) {
      harness->Violation("I2: row slot " + ToText(ref) + " of " + ShortText(KeyOf(row.id())) +
                         " holds other bytes: " + harness->arena().Content(ref));
    }
  }
}

// I1: complete only with a sealed shard of every rank, all of this id (or a manifest that names
// it).
void CheckComplete(CoreHarness* harness) {
  for (const proto::OutcomeRecord& outcome : harness->Records().outcomes) {
    if (outcome.outcome() != proto::COMPLETE) {
      continue;
    }
    const SnapshotKey id = KeyOf(outcome.id());
    const JobUid& uid = outcome.id().job_uid();
    const std::size_t sealed = harness->history().sealed[{uid, id}].size();
    if (sealed != outcome.world_size()) {
      harness->Violation("I1: " + ShortText(id) + " is called complete, but " +
                         std::to_string(sealed) + " of " + std::to_string(outcome.world_size()) +
                         " ranks ever sealed it");
    }
    const auto lost = harness->history().lost_up_to.find(uid);
    if (lost == harness->history().lost_up_to.end() || lost->second < id) {
      SnapshotKey& newest = harness->history().newest_complete[uid];
      newest = std::max(newest, id);
    }
  }
}

// Of any node: a rank may be served there again.
bool RestorableFromMemory(const CoreHarness& harness, const JobUid& uid, const SnapshotKey& id) {
  return LeftOver(harness.world().nodes, uid, id).IsRestorable();
}

bool Restorable(CoreHarness* harness, const JobUid& uid, const std::string& job_name) {
  for (const proto::ShardRecord& shard : harness->Records().shards) {
    if (shard.sidecar().id().job_uid() == uid &&
        RestorableFromMemory(*harness, uid, KeyOf(shard.sidecar().id()))) {
      return true;
    }
  }
  return std::any_of(harness->tiers().begin(), harness->tiers().end(), [&](auto& tier) {
    return tier.second.AnyRestorable(job_name);
  });
}

bool RestorableAnywhere(CoreHarness* harness, const JobUid& uid, const std::string& job_name) {
  const auto& nodes = harness->world().nodes;
  return std::any_of(nodes.begin(), nodes.end(), [&](CoreHarness* node) {
    return Restorable(node, uid, job_name);
  });
}

// I3, I4: once a job had a complete snapshot, one can be restored at every later moment.
void CheckRestorable(CoreHarness* harness) {
  for (const auto& [uid, newest] : harness->history().newest_complete) {
    const proto::JobRecord* job = FindJob(harness->Records(), uid);
    if (job == nullptr || harness->history().given_up.contains(uid)) {
      continue;
    }
    if (!RestorableAnywhere(harness, uid, job->name())) {
      harness->Violation("I3: nothing of job " + job->name() + " can be restored any more, but " +
                         ShortText(newest) + " was complete");
    }
  }
}

// I9: files, quarantined ones too, are within the budget, and none is outside the books.
void CheckBudget(CoreHarness* harness) {
  std::uint64_t used = 0;
  for (const proto::SlotRecord& slot : harness->Records().slots) {
    used += slot.capacity_bytes();
  }
  if (used > harness->options().budget_bytes) {
    harness->Violation("I9: " + std::to_string(used / kMiB) + " MiB of slots, the budget is " +
                       std::to_string(harness->options().budget_bytes / kMiB));
  }
  if (!harness->up()) {
    return;
  }
  const proto::StatusReply status = harness->core()->StatusNow();
  if (status.arena().used_bytes() != used) {
    harness->Violation("I9: the core counts " + std::to_string(status.arena().used_bytes()) +
                       " bytes, the catalog has " + std::to_string(used));
  }
}

// I11: a restore() that has returned had every rank loaded, and all the same.
void CheckReturned(CoreHarness* harness) {
  for (const proto::IncarnationRecord& incarnation : harness->Records().incarnations) {
    for (const auto& [name, client] : harness->clients()) {
      const auto job = harness->jobs().find(client.job);
      const bool of_this = client.alive && !client.fenced && job != harness->jobs().end() &&
                           job->second.uid == incarnation.job_uid() &&
                           client.epoch.number == incarnation.number() &&
                           client.epoch.token == incarnation.token();
      if (!of_this || !client.returned || !client.told.has_value()) {
        continue;
      }
      const proto::RestoreDecision& decision = incarnation.decision();
      if (!decision.committed() || KeyOf(decision.choice()) != *client.told) {
        harness->Violation("I11: " + name + " has returned from restore with " +
                           ShortText(*client.told) + ", which is not the recorded commit");
      }
    }
  }
}

// A node that no later start asked knows of none; what it restored is not the present base.
bool IsNewestStart(CoreHarness* harness, const proto::JobRecord& job) {
  const auto& nodes = harness->world().nodes;
  return std::none_of(nodes.begin(), nodes.end(), [&](CoreHarness* node) {
    const proto::JobRecord* other = FindJob(node->Records(), job.job_uid());
    return other != nullptr && other->epoch_number() > job.epoch_number();
  });
}

// The base and the fallback of the present incarnation are not to be lost by retention.
void CheckParentOnTier(CoreHarness* harness) {
  for (const proto::IncarnationRecord& incarnation : harness->Records().incarnations) {
    const proto::JobRecord* job = FindJob(harness->Records(), incarnation.job_uid());
    if (job == nullptr || job->epoch_number() != incarnation.number() ||
        !incarnation.decision().has_choice() || !IsNewestStart(harness, *job)) {
      continue;
    }
    const SnapshotKey base = KeyOf(incarnation.decision().choice());
    for (const proto::DurableRecord& durable : harness->Records().durables) {
      const bool is_base = durable.id().job_uid() == job->job_uid() && KeyOf(durable.id()) == base;
      if (is_base && durable.published() &&
          !harness->Tier(durable.root()).Published(job->name(), base)) {
        harness->Violation("I4: the parent " + ShortText(base) + " was removed from " +
                           durable.root());
      }
    }
  }
}

// I12: what a flush began is known to the next start, so that it is finished or removed.
void CheckHalfFlushed(CoreHarness* harness) {
  if (harness->history().catalog_lost) {
    return;
  }
  std::set<std::tuple<JobUid, std::string, SnapshotKey>> recorded;
  for (CoreHarness* node : harness->world().nodes) {
    for (const proto::DurableRecord& durable : node->Records().durables) {
      recorded.emplace(durable.id().job_uid(), durable.root(), KeyOf(durable.id()));
    }
  }
  for (const proto::JobRecord& job : harness->Records().jobs) {
    for (const auto& [root, tier] : harness->tiers()) {
      for (const SnapshotKey& id : tier.Unfinished(job.name())) {
        if (!recorded.contains({job.job_uid(), root, id})) {
          harness->Violation("I12: " + root + " has files of " + ShortText(id) +
                             " that nobody will ever finish or remove");
        }
      }
    }
  }
}

}  // namespace

bool IsIntact(const CoreHarness& harness, const proto::ShardRecord& shard) {
  const FakeArena& arena = harness.arena();
  const SlotRef shared{shard.static_slot(), shard.static_generation()};
  const bool own = FakeArena::Matches(arena.Content({shard.slot(), shard.generation()}),
                                      shard.sidecar().images(0));
  return own && (shard.sidecar().images_size() == 1 ||
                 FakeArena::Matches(arena.Content(shared), shard.sidecar().images(1)));
}

bool IsIntact(const CoreHarness& harness, const proto::RowRecord& row) {
  const std::string content = harness.arena().Content({row.slot(), row.generation()});
  const auto digests = FakeArena::Digests(content, row.length_bytes());
  return std::equal(
      digests.begin(), digests.end(), row.chunk_crc32c().begin(), row.chunk_crc32c().end());
}

// Where one node is the world, losing all is what a test wants to see the daemon survive.
void ForgetLost(CoreHarness* harness) {
  std::erase_if(harness->history().newest_complete, [&](const auto& entry) {
    const auto& jobs = harness->jobs();
    const auto job = std::find_if(jobs.begin(), jobs.end(), [&](const auto& known) {
      return known.second.uid == entry.first;
    });
    const bool lost = harness->world().nodes.size() > 1 && job != jobs.end() &&
                      !RestorableAnywhere(harness, entry.first, job->first);
    // I3 with parity: what was protected outlives as many losses as its margin said.
    int& margin = harness->history().margin_left[entry.first];
    if (margin-- > 0 && lost) {
      harness->Violation("I3: " + ShortText(entry.second) +
                         " was complete and something was protected, but one loss took all");
    }
    if (lost) {
      harness->history().lost_up_to[entry.first] = entry.second;
    }
    return lost;
  });
}

// I4: before a restore is committed nothing that could be chosen is freed.
void CheckErased(CoreHarness* harness, const storage_tiers::CatalogContents& erased) {
  std::vector<std::pair<proto::SnapshotId, std::string>> gone;
  for (const proto::ShardRecord& shard : erased.shards) {
    gone.emplace_back(shard.sidecar().id(), " of r" + std::to_string(shard.sidecar().rank()));
  }
  for (const proto::RowRecord& row : erased.rows) {
    gone.emplace_back(row.id(), ", row " + std::to_string(row.row()) + ",");
  }
  for (const auto& [snapshot, what] : gone) {
    const SnapshotKey id = KeyOf(snapshot);
    const JobUid& uid = snapshot.job_uid();
    const proto::JobRecord* job = FindJob(harness->Records(), uid);
    if (job == nullptr || harness->history().given_up.contains(uid)) {
      continue;
    }
    bool committed = false;
    for (const proto::IncarnationRecord& incarnation : harness->Records().incarnations) {
      committed = committed ||
                  (incarnation.job_uid() == uid && incarnation.number() == job->epoch_number() &&
                   incarnation.decision().committed());
    }
    if (!committed) {
      harness->Violation("I4: " + ShortText(id) + what +
                         " is freed while the restore is not committed");
    }
  }
}

void CheckInvariants(CoreHarness* harness) {
  if (harness->Records().damaged_count > 0) {
    harness->Violation("a record cannot be read back: " +
                       harness->Records().damaged.front().why.message);
  }
  CheckSealedBytes(harness);
  CheckComplete(harness);
  CheckRestorable(harness);
  CheckBudget(harness);
  CheckReturned(harness);
  CheckParentOnTier(harness);
  CheckHalfFlushed(harness);
}

}  // namespace holdfast::daemon
