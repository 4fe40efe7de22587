#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "common/units.h"
#include "daemon/startup.h"
#include "layout/image.h"

namespace holdfast::daemon {
namespace {

using storage_tiers::SlotName;

constexpr ByteCount kRecordedUnit = 4 * kKiB;

// A client can make a file of any length: what a record may hold bounds it.
ByteCount CountedBytes(ByteCount allocated_bytes) {
  return AlignUp(std::clamp<ByteCount>(allocated_bytes, kRecordedUnit, layout::kMaxImageBytes),
                 kRecordedUnit);
}

}  // namespace

void Distrust(SlotRef slot, ByteCount allocated_bytes, MatchResult* result) {
  for (proto::SlotRecord& record : result->slots) {
    if (SlotRef{record.slot(), record.generation()} == slot) {
      record.set_capacity_bytes(
          std::max<ByteCount>(record.capacity_bytes(), CountedBytes(allocated_bytes)));
      record.set_state(proto::SLOT_QUARANTINED);
      result->changes.PutSlot(record);
      ++result->distrusted_slots;
    }
  }
  std::erase_if(result->rows, [&](const proto::RowRecord& row) {
    const bool lost = SlotRef{row.slot(), row.generation()} == slot;
    if (lost) {
      result->changes.DeleteRow(row);
    }
    return lost;
  });
  std::erase_if(result->shards, [&](const proto::ShardRecord& shard) {
    const bool lost = SlotRef{shard.slot(), shard.generation()} == slot;
    if (lost) {
      ++result->lost_shards;
      result->changes.DeleteShard(shard.sidecar().id(), shard.sidecar().rank());
    }
    return lost;
  });
}

bool KnowsArena(const storage_tiers::CatalogContents& contents, const std::string& arena_uuid) {
  const auto is_of_arena = [&](const auto& record) { return record.arena_uuid() == arena_uuid; };
  const auto header = contents.header.value_or(proto::CatalogHeader());
  const auto& listed = header.arena_uuids();
  return std::find(listed.begin(), listed.end(), arena_uuid) != listed.end() ||
         std::any_of(contents.slots.begin(), contents.slots.end(), is_of_arena) ||
         std::any_of(contents.shards.begin(), contents.shards.end(), is_of_arena);
}

void QuarantineOrphan(const storage_tiers::ArenaFile& file,
                      const ArenaFacts& facts,
                      MatchResult* result) {
  proto::SlotRecord record;
  record.set_slot(file.name.slot);
  record.set_generation(file.name.generation);
  record.set_capacity_bytes(CountedBytes(file.allocated_bytes));
  record.set_state(proto::SLOT_QUARANTINED);
  record.set_arena_uuid(facts.uuid);
  record.set_boot_id(facts.boot_id);
  result->slots.push_back(std::move(record));
}

MatchResult MatchRecords(const storage_tiers::CatalogContents& contents, const ArenaFacts& facts) {
  MatchResult result;
  std::map<SlotName, const storage_tiers::ArenaFile*> files;
  for (const storage_tiers::ArenaFile& file : facts.files) {
    files[file.name] = &file;
  }
  std::set<SlotRef> kept;
  std::set<SlotName> named;
  std::vector<const storage_tiers::ArenaFile*> cut;
  for (const proto::SlotRecord& record : contents.slots) {
    const SlotName name{record.slot(), record.generation()};
    const auto file = files.find(name);
    const bool counts = record.arena_uuid() == facts.uuid && record.boot_id() == facts.boot_id;
    if (!counts || file == files.end()) {
      result.lost_slots.push_back(record.slot());
      result.changes.DeleteSlot(record.slot());
      continue;
    }
    named.insert(name);
    kept.insert({record.slot(), record.generation()});
    result.slots.push_back(record);
    result.slots.back().set_capacity_bytes(AlignUp(record.capacity_bytes(), facts.page_bytes));
    const bool whole = file->second->size == result.slots.back().capacity_bytes();
    if (!whole && record.state() != proto::SLOT_QUARANTINED) {
      cut.push_back(file->second);
    }
  }
  for (const proto::ShardRecord& record : contents.shards) {
    const bool counts = record.arena_uuid() == facts.uuid && record.boot_id() == facts.boot_id;
    if (counts && kept.contains({record.slot(), record.generation()})) {
      result.shards.push_back(record);
      continue;
    }
    ++result.lost_shards;
    result.changes.DeleteShard(record.sidecar().id(), record.sidecar().rank());
  }
  for (const proto::RowRecord& record : contents.rows) {
    const bool counts = record.arena_uuid() == facts.uuid && record.boot_id() == facts.boot_id;
    const bool there = record.slot() == 0 || kept.contains({record.slot(), record.generation()});
    if (counts && there) {
      result.rows.push_back(record);
    } else {
      result.changes.DeleteRow(record);
    }
  }
  for (const storage_tiers::ArenaFile* file : cut) {
    Distrust({file->name.slot, file->name.generation}, file->allocated_bytes, &result);
  }
  for (const auto& [name, file] : files) {
    if (!named.contains(name)) {
      result.orphans.push_back(*file);
    }
  }
  return result;
}

namespace {

bool SpansNodes(const RecoveredState& recovered, const JobUid& job) {
  return std::any_of(recovered.incarnations.begin(),
                     recovered.incarnations.end(),
                     [&job](const proto::IncarnationRecord& incarnation) {
                       return incarnation.job_uid() == job && incarnation.members_size() > 0;
                     });
}

}  // namespace

std::vector<SnapshotKey> GivenUpFlushes(const RecoveredState& recovered,
                                        const JobUid& job,
                                        const proto::TierPolicy& tier) {
  // Others may be flushing it, or have flushed their part: their coordinator knows who has what,
  // and removes what is nothing.
  if (tier.scope() == proto::SHARED && SpansNodes(recovered, job)) {
    return {};
  }
  std::set<SnapshotKey> held;
  for (const proto::ShardRecord& shard : recovered.shards) {
    if (shard.sidecar().id().job_uid() == job) {
      held.insert(KeyOf(shard.sidecar().id()));
    }
  }
  std::vector<SnapshotKey> given_up;
  for (const proto::DurableRecord& durable : recovered.durables) {
    const bool here = durable.id().job_uid() == job && durable.root() == tier.root();
    if (here && !durable.published() && !held.contains(KeyOf(durable.id()))) {
      given_up.push_back(KeyOf(durable.id()));
    }
  }
  return given_up;
}

}  // namespace holdfast::daemon
