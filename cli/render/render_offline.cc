#include "cli/render/render_offline.h"

#include "cli/render/job_json.h"
#include "cli/render/restorable.h"
#include "cli/text.h"
#include "common/bytes.h"

namespace holdfast::cli {
namespace {

// A daemon that holds the state can say more, and truer.
std::string StillHeld(const OfflinePlace& place) {
  return place.status.daemon_pid() == 0
             ? ""
             : "process " + std::to_string(place.status.daemon_pid()) + " holds " +
                   place.status.state_dir() +
                   ": a daemon is running, and what is read past it may be old; ask it "
                   "(holdfast status)";
}

std::string HeadOfState(const OfflinePlace& place) {
  const proto::StatusReply& status = place.status;
  const proto::ArenaStatus& arena = status.arena();
  std::string text = status.daemon_pid() == 0 ? "holdfastd is not running; this is what it left\n"
                                              : "holdfastd is running; this was read past it\n";
  text += "node     " + ToHex(AsBytes(status.node_uuid())) + "\n";
  text += "state    " + SafeText(status.state_dir()) + ", boot " +
          std::to_string(status.boot_number()) + "\n";
  text += "arena    " + SafeText(arena.path()) + "\n";
  text += "         " + FormatBytes(arena.used_bytes()) +
          " used; slots: " + std::to_string(arena.sealed_slots()) + " sealed, " +
          std::to_string(arena.filling_slots()) + " handed out, " +
          std::to_string(arena.free_slots()) + " free";
  if (arena.quarantined_bytes() > 0) {
    text += "; quarantined: " + FormatBytes(arena.quarantined_bytes());
  }
  return text + "\n";
}

std::string JobLines(const OfflinePlace& place, const proto::JobStatus& job) {
  const Restorable found = FindRestorable(place.listing, job.name(), place.place);
  std::string text = "job " + SafeText(job.name()) + ": incarnation " +
                     std::to_string(job.incarnation()) + ", " + Count(job.world_size(), "rank") +
                     "\n";
  text += "  here: " + Count(found.snapshots, "snapshot") + ", " + Count(found.shards, "shard") +
          " that can be read, " + FormatBytes(found.bytes) + "\n";
  if (found.newest) {
    std::string from;
    for (const std::string& source : found.from) {
      from += (from.empty() ? "" : ", ") + SafeText(source);
    }
    text += "  restorable: " + IdText(*found.newest) + " from " + from + "\n";
  } else {
    text += "  restorable: none; " + SafeText(found.why_not) + "\n";
  }
  for (const proto::TierStatus& tier : job.tiers()) {
    proto::SnapshotId newest;
    newest.set_incarnation(tier.newest_durable_incarnation());
    newest.set_step(tier.newest_durable_step());
    text += "  durable on " + SafeText(tier.root()) + ": " +
            (tier.newest_durable_step() >= 0 ? IdText(newest) : std::string("none")) +
            (place.is_memory ? ", as the catalog says\n" : "\n");
    text += tier.last_error().empty() ? "" : "  problem: " + SafeText(tier.last_error()) + "\n";
  }
  return text;
}

std::string PlaceText(const OfflinePlace& place) {
  std::string text = place.is_memory
                         ? HeadOfState(place)
                         : "folder   " + SafeText(place.place) + ", read without a daemon\n";
  for (const proto::JobStatus& job : place.status.jobs()) {
    text += "\n" + JobLines(place, job);
  }
  if (place.status.jobs().empty()) {
    text += "\nno jobs\n";
  }
  const std::string held = StillHeld(place);
  text += held.empty() ? "" : "\nwarning: " + SafeText(held) + "\n";
  for (const Problem& problem : place.listing.problems) {
    text += "problem: " + SafeText(problem.what) + ": " + SafeText(problem.error.message) + "\n";
  }
  return text;
}

Json DaemonJson(const proto::StatusReply& status) {
  const bool running = status.daemon_pid() != 0;
  return {{"running", running},
          {"pid", running ? Json(status.daemon_pid()) : Json()},
          {"node_uuid", UidText(status.node_uuid())},
          {"boot_number", status.boot_number()},
          {"version", nullptr},
          {"uptime_seconds", nullptr},
          {"state_dir", status.state_dir()},
          {"metrics_address", nullptr}};
}

Json ArenaJson(const proto::ArenaStatus& arena) {
  return {{"path", arena.path()},
          {"budget_bytes", nullptr},
          {"used_bytes", arena.used_bytes()},
          {"quarantined_bytes", arena.quarantined_bytes()},
          {"free_slots", arena.free_slots()},
          {"sealed_slots", arena.sealed_slots()},
          {"filling_slots", arena.filling_slots()}};
}

Json OfflineJobJson(const OfflinePlace& place, const proto::JobStatus& job) {
  const Restorable found = FindRestorable(place.listing, job.name(), place.place);
  Json from = Json::array();
  for (const std::string& source : found.from) {
    from.push_back(source);
  }
  Json json = JobJson(job);
  if (!place.is_memory) {
    json["owner_uid"] = nullptr;  // a folder does not say
  }
  json["phase"] = "offline";
  json["place"] = place.place;
  json["snapshots"] = found.snapshots;
  json["readable_shards"] = found.shards;
  json["readable_bytes"] = found.bytes;
  json["restorable"] = found.newest ? IdJson(job.name(), *found.newest) : Json();
  json["restorable_from"] = from;
  json["not_restorable"] = found.why_not.empty() ? Json() : Json(found.why_not);
  return json;
}

}  // namespace

std::string OfflineText(const std::vector<OfflinePlace>& places) {
  std::string text;
  for (const OfflinePlace& place : places) {
    text += (text.empty() ? "" : "\n") + PlaceText(place);
  }
  return text;
}

std::string OfflineJson(const std::vector<OfflinePlace>& places) {
  Json daemon;
  Json arena;
  Json jobs = Json::array();
  Json warnings = Json::array();
  for (const OfflinePlace& place : places) {
    if (place.is_memory) {
      daemon = DaemonJson(place.status);
      arena = ArenaJson(place.status.arena());
    }
    for (const proto::JobStatus& job : place.status.jobs()) {
      jobs.push_back(OfflineJobJson(place, job));
    }
    if (const std::string held = StillHeld(place); !held.empty()) {
      warnings.push_back(held);
    }
    for (const Problem& problem : place.listing.problems) {
      warnings.push_back(problem.what + ": " + problem.error.message);
    }
  }
  return JsonText({{"daemon", daemon}, {"arena", arena}, {"jobs", jobs}, {"warnings", warnings}});
}

}  // namespace holdfast::cli
