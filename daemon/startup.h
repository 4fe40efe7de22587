// The start of a daemon: from a checked configuration to everything that the core needs, or to one
// clear line that says what to do.
//
// In this order, each step before the next may leave something behind: state folder (owner, mode)
// -> catalog (its lock: the second daemon of a state folder ends here) -> boot number -> arena (its
// lock: the second daemon of an arena ends here) -> records matched with files.  A later error
// undoes what the earlier steps hold (locks, mappings); what they made on disk is empty or true.
//
// Threads:   the main thread, before the io thread runs; blocking.
// Ownership: the result owns catalog, arena and mapped slots.
// Errors:    as the step's; the caller ends with kExitEnvironment.
// Durability: what is forgotten (records of a lost arena) is deleted from the catalog before this
//            returns, so that no later start believes it.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "common/result.h"
#include "common/units.h"
#include "daemon/config.h"
#include "daemon/core/node_core.h"
#include "daemon/layout_store.h"
#include "daemon/slot_store.h"
#include "storage_tiers/arena.h"
#include "storage_tiers/catalog.h"

namespace holdfast::daemon {

// A slot file that start-up found, mapped.
struct RecoveredSlot {
  SlotRef slot;
  SharedSlot file;
};

struct StartState {
  std::unique_ptr<storage_tiers::Catalog> catalog;
  std::unique_ptr<storage_tiers::Arena> arena;
  RecoveredState recovered;
  std::vector<RecoveredSlot> slots;  // all but the quarantined ones
  std::map<std::string, proto::Layout> layouts;
  std::vector<std::string> warnings;  // for log and status
};

[[nodiscard]] Result<StartState> StartUp(const Config& config);

// The folder exists afterwards, belongs to this user, and nobody else may enter.
[[nodiscard]] Status PrepareStateFolder(const std::string& path);

// Which records count, given the files of the arena: pure, the heart of a restart.
struct ArenaFacts {
  std::string uuid;
  std::string boot_id;
  ByteCount page_bytes = 4 * kKiB;  // files have multiples of it
  std::vector<storage_tiers::ArenaFile> files;
};

struct MatchResult {
  // Whose file is there, with the file's size; quarantined where the file has another size.
  std::vector<proto::SlotRecord> slots;
  std::vector<proto::ShardRecord> shards;  // whose slot is among these, and not quarantined
  std::vector<proto::RowRecord> rows;      // the same; of an empty row only the arena counts
  std::vector<SlotNumber> lost_slots;
  std::vector<storage_tiers::ArenaFile> orphans;  // files of our naming that no record names
  storage_tiers::CatalogBatch changes;  // deletes what is not above, records what was distrusted
  std::size_t lost_shards = 0;
  std::size_t distrusted_slots = 0;
};

[[nodiscard]] MatchResult MatchRecords(const storage_tiers::CatalogContents& contents,
                                       const ArenaFacts& facts);

// Snapshots whose flush to "tier" was cut short and that are no target any more, since nothing of
// them is in memory: what lies there of them is for nobody.  None where other nodes may have part
// in it.
[[nodiscard]] std::vector<SnapshotKey> GivenUpFlushes(const RecoveredState& recovered,
                                                      const JobUid& job,
                                                      const proto::TierPolicy& tier);

// Whether the catalog has ever had slots in that arena.
[[nodiscard]] bool KnowsArena(const storage_tiers::CatalogContents& contents,
                              const std::string& arena_uuid);

// A file that no record names and that somebody still uses: counted and watched like a recorded
// one. Not recorded: the next start finds it the same way.
void QuarantineOrphan(const storage_tiers::ArenaFile& file,
                      const ArenaFacts& facts,
                      MatchResult* result);

// The file of a recorded slot is not what was recorded (a client cut or grew it), or cannot be
// mapped: its shard is lost, and nobody gets the file any more.  It is quarantined, not forgotten:
// somebody may still have it mapped, and its memory counts until nobody does (I7, I9).
void Distrust(SlotRef slot, ByteCount allocated_bytes, MatchResult* result);

}  // namespace holdfast::daemon
