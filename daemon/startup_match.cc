#include <map>
#include <set>
#include <utility>

#include "common/units.h"
#include "daemon/startup.h"

namespace holdfast::daemon {
namespace {

using storage_tiers::SlotName;

// A file may be larger than its record by the rounding to pages, of which 2 MiB are the largest.
constexpr ByteCount kLargestPage = 2 * kMiB;

bool HasSizeOf(const storage_tiers::ArenaFile& file, const proto::SlotRecord& record) {
  return file.size >= record.capacity_bytes() && file.size - record.capacity_bytes() < kLargestPage;
}

}  // namespace

MatchResult MatchRecords(const storage_tiers::CatalogContents& contents, const ArenaFacts& facts) {
  MatchResult result;
  std::map<SlotName, const storage_tiers::ArenaFile*> files;
  for (const storage_tiers::ArenaFile& file : facts.files) {
    files[file.name] = &file;
  }
  std::set<SlotRef> kept;
  std::set<SlotName> named;
  for (const proto::SlotRecord& record : contents.slots) {
    const SlotRef ref{record.slot(), record.generation()};
    const SlotName name{record.slot(), record.generation()};
    const auto file = files.find(name);
    const bool counts = record.arena_uuid() == facts.uuid && record.boot_id() == facts.boot_id;
    if (counts && file != files.end()) {
      named.insert(name);
    }
    if (counts && file != files.end() && HasSizeOf(*file->second, record)) {
      kept.insert(ref);
      result.slots.push_back(record);
      continue;
    }
    if (counts && file != files.end()) {
      result.cut_files.push_back(ref);
    }
    result.lost_slots.push_back(record.slot());
    result.forget.DeleteSlot(record.slot());
  }
  for (const proto::ShardRecord& record : contents.shards) {
    const bool counts = record.arena_uuid() == facts.uuid && record.boot_id() == facts.boot_id;
    if (counts && kept.contains({record.slot(), record.generation()})) {
      result.shards.push_back(record);
      continue;
    }
    ++result.lost_shards;
    result.forget.DeleteShard(record.sidecar().id(), record.sidecar().rank());
  }
  for (const auto& [name, file] : files) {
    if (!named.contains(name)) {
      result.orphans.push_back(name);
    }
  }
  return result;
}

std::vector<SnapshotKey> GivenUpFlushes(const RecoveredState& recovered,
                                        const JobUid& job,
                                        const std::string& root) {
  std::set<SnapshotKey> held;
  for (const proto::ShardRecord& shard : recovered.shards) {
    if (shard.sidecar().id().job_uid() == job) {
      held.insert(KeyOf(shard.sidecar().id()));
    }
  }
  std::vector<SnapshotKey> given_up;
  for (const proto::DurableRecord& durable : recovered.durables) {
    const bool here = durable.id().job_uid() == job && durable.root() == root;
    if (here && !durable.published() && !held.contains(KeyOf(durable.id()))) {
      given_up.push_back(KeyOf(durable.id()));
    }
  }
  return given_up;
}

}  // namespace holdfast::daemon
