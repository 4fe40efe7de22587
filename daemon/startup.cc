#include "daemon/startup.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/log.h"
#include "common/units.h"
#include "layout/image.h"

namespace holdfast::daemon {
namespace {

using storage_tiers::Arena;
using storage_tiers::ArenaListing;
using storage_tiers::Catalog;
using storage_tiers::CatalogContents;

Status MakeFolders(const std::string& path) {
  for (std::size_t at = path.find('/', 1);; at = path.find('/', at + 1)) {
    const std::string part = path.substr(0, at);
    if (::mkdir(part.c_str(), 0700) != 0 && errno != EEXIST) {
      return ErrnoError(errno, "make the state folder " + part);
    }
    if (at == std::string::npos) {
      return Ok();
    }
  }
}

void LogDamage(const CatalogContents& contents) {
  for (const storage_tiers::DamagedRecord& damaged : contents.damaged) {
    LogError("catalog.damaged", damaged.why.ToString());
  }
  if (contents.damaged_count > contents.damaged.size()) {
    LogError("catalog.damaged", std::to_string(contents.damaged_count) + " records in all");
  }
}

// A file that one client spoilt costs its own shard, never the start of the daemon.
void MapSlots(const Arena& arena, MatchResult* matched, std::vector<RecoveredSlot>* mapped) {
  std::vector<SlotRef> lost;
  for (const proto::SlotRecord& record : matched->slots) {
    const SlotRef ref{record.slot(), record.generation()};
    if (record.state() == proto::SLOT_QUARANTINED) {
      continue;
    }
    auto file = arena.OpenSlot({ref.slot, ref.generation}, record.capacity_bytes());
    if (file.has_value()) {
      mapped->push_back({ref, std::move(file).value()});
    } else {
      LogWarning("start.slot_lost", file.error().ToString());
      lost.push_back(ref);
    }
  }
  for (const SlotRef& ref : lost) {
    Distrust(ref, /*allocated_bytes=*/0, matched);
  }
}

void LogFound(const MatchResult& matched, const CatalogContents& contents) {
  LogInfo("start.found",
          std::to_string(matched.slots.size()) + " slots and " +
              std::to_string(matched.shards.size()) + " sealed shards in memory, " +
              std::to_string(contents.jobs.size()) + " jobs, " +
              std::to_string(contents.durables.size()) + " records of durable snapshots");
  if (matched.distrusted_slots > 0) {
    LogWarning("start.distrusted",
               std::to_string(matched.distrusted_slots) +
                   " slot files are not as recorded (a client cut or grew them, or they cannot be "
                   "mapped): quarantined until nobody uses them");
  }
  if (!matched.lost_slots.empty() || matched.lost_shards > 0) {
    LogWarning("start.lost",
               std::to_string(matched.lost_slots.size()) + " slots and " +
                   std::to_string(matched.lost_shards) +
                   " sealed shards are recorded but gone (another arena, a reboot, or files spoilt "
                   "by a client): forgotten");
  }
}

// Slots of an arena without any record look the same after a crash between file and record and
// under a catalog that is not theirs: what the catalog has never seen is not removed for that.
Status CheckArenaIsKnown(const Config& config,
                         const CatalogContents& contents,
                         const ArenaFacts& facts) {
  if (facts.files.empty() || config.discard_arena || KnowsArena(contents, facts.uuid)) {
    return Ok();
  }
  ByteCount bytes = 0;
  for (const storage_tiers::ArenaFile& file : facts.files) {
    bytes += file.allocated_bytes;
  }
  return Error(Errc::kInvalidArgument,
               "the arena " + config.arena_dir + " holds " + std::to_string(facts.files.size()) +
                   " slot files (" + FormatBytes(bytes) + ") that the catalog in " +
                   config.state_dir +
                   " has never seen: they may be the newest snapshots of another state folder. "
                   "Start with the --state-dir (daemon.state_dir) that this arena was used with; "
                   "if nothing in it is needed, start once with --discard-arena");
}

Result<bool> IsInUse(const Arena& arena, storage_tiers::SlotName name) {
  HF_TRY(const storage_tiers::QuarantinedFile file, arena.Quarantine(name));
  return file.StillInUse();
}

// The files that no record names: made just before a crash, or of a catalog that was lost.  One
// that a trainer still maps would leave the budget if its name went (I9).
void SettleOrphans(const Arena& arena, const ArenaFacts& facts, MatchResult* matched) {
  for (const storage_tiers::ArenaFile& file : matched->orphans) {
    const std::string what = "slot file " + file.name.ToString() + " has no record";
    const Result<bool> used = IsInUse(arena, file.name);
    if (!used.has_value() || used.value()) {
      LogWarning("start.orphan",
                 what + " and is quarantined: " +
                     (used.has_value() ? "a process still uses it" : used.error().ToString()));
      QuarantineOrphan(file, facts, matched);
      continue;
    }
    const Status removed = arena.Remove(file.name);
    if (removed.has_value()) {
      LogInfo("start.orphan", what + " and was removed");
    } else {
      LogWarning("start.orphan", removed.error().ToString());
    }
  }
}

void CheckLimits(std::vector<std::string>* warnings) {
  rlimit files{};
  // Each slot and each client costs descriptors.
  if (::getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < 4'096) {
    files.rlim_cur = std::min<rlim_t>(files.rlim_max, 65'536);
    if (::setrlimit(RLIMIT_NOFILE, &files) != 0 || files.rlim_cur < 4'096) {
      warnings->push_back("only " + std::to_string(files.rlim_cur) +
                          " open files are allowed; raise LimitNOFILE or ulimit -n to 65536");
    }
  }
}

}  // namespace

Status PrepareStateFolder(const std::string& path) {
  HF_TRYV(MakeFolders(path));

  struct stat info {};

  if (::lstat(path.c_str(), &info) != 0) {
    return ErrnoError(errno, "look at the state folder " + path);
  }
  if (!S_ISDIR(info.st_mode)) {
    return Error(Errc::kInvalidArgument,
                 path + " is no folder (a link?); set daemon.state_dir to a real one");
  }
  if (info.st_uid != ::geteuid()) {
    return Error(Errc::kPermission,
                 "the state folder " + path + " belongs to uid " + std::to_string(info.st_uid) +
                     ", the daemon runs as uid " + std::to_string(::geteuid()) +
                     "; change its owner or set daemon.state_dir");
  }
  if ((info.st_mode & 0077) != 0 && ::chmod(path.c_str(), 0700) != 0) {
    return ErrnoError(errno, "close the state folder " + path + " to others (chmod 0700)");
  }
  return Ok();
}

Result<StartState> StartUp(const Config& config) {
  StartState state;
  CheckLimits(&state.warnings);
  HF_TRYV(PrepareStateFolder(config.state_dir));
  HF_TRY(state.catalog,
         Catalog::Open(config.state_dir + "/catalog", storage_tiers::CatalogOptions()));
  HF_TRY(const proto::CatalogHeader header, state.catalog->StartBoot());
  storage_tiers::ArenaOptions options;
  options.folder = config.arena_dir;
  options.budget_bytes = config.budget_bytes;
  options.prefault_threads = static_cast<unsigned>(config.prefault_threads);
  HF_TRY(state.arena, Arena::Open(options));
  for (const std::string& warning : state.arena->warnings()) {
    state.warnings.push_back(warning);
  }
  HF_TRY(CatalogContents contents, state.catalog->Load());
  HF_TRY(ArenaListing listing, state.arena->ListFiles());
  for (const std::string& stranger : listing.strangers) {
    state.warnings.push_back("the arena holds \"" + stranger + "\", which is not ours");
  }
  ArenaFacts facts;
  facts.uuid = state.arena->uuid();
  facts.boot_id = state.arena->boot_id();
  facts.page_bytes = state.arena->page_bytes();
  facts.files = std::move(listing.files);
  HF_TRYV(CheckArenaIsKnown(config, contents, facts));
  HF_TRYV(state.catalog->RememberArena(facts.uuid));
  LogDamage(contents);
  MatchResult matched = MatchRecords(contents, facts);
  MapSlots(*state.arena, &matched, &state.slots);
  LogFound(matched, contents);
  if (!matched.changes.empty()) {
    HF_TRYV(state.catalog->Apply(matched.changes));
  }
  SettleOrphans(*state.arena, facts, &matched);
  RecoveredState& recovered = state.recovered;
  recovered.node_uuid = header.node_uuid();
  recovered.arena_uuid = facts.uuid;
  recovered.boot_id = facts.boot_id;
  recovered.boot_number = header.boot_number();
  recovered.jobs = std::move(contents.jobs);
  recovered.slots = std::move(matched.slots);
  recovered.shards = std::move(matched.shards);
  recovered.rows = std::move(matched.rows);
  recovered.sidecars = std::move(contents.sidecars);
  recovered.incarnations = std::move(contents.incarnations);
  recovered.outcomes = std::move(contents.outcomes);
  recovered.durables = std::move(contents.durables);
  recovered.lost_slots = std::move(matched.lost_slots);
  for (const auto& [hash, known] : contents.layouts) {
    recovered.layouts[hash] = {
        hash, known.dynamic_image_bytes(), layout::StaticHash(known), known.static_image_bytes()};
  }
  state.layouts = std::move(contents.layouts);
  return state;
}

}  // namespace holdfast::daemon
