#include "cli/render/render_status.h"

#include <algorithm>
#include <chrono>
#include <cstdint>

#include "cli/table.h"
#include "cli/text.h"
#include "common/bytes.h"

namespace holdfast::cli {
namespace {

constexpr std::size_t kBarWidth = 30;
constexpr std::size_t kMaxReason = 60;

std::string DaemonLines(const proto::StatusReply& status) {
  std::string text = "holdfastd " + SafeText(status.software_version()) + ", pid " +
                     std::to_string(status.daemon_pid()) + ", up " +
                     FormatDuration(std::chrono::seconds(status.uptime_seconds())) + ", boot " +
                     std::to_string(status.boot_number()) + "\n";
  text += "node     " + ToHex(AsBytes(status.node_uuid())) + "\n";
  if (!status.state_dir().empty()) {
    text += "state    " + SafeText(status.state_dir()) + "\n";
  }
  text += "metrics  " +
          (status.metrics_address().empty() ? "off" : SafeText(status.metrics_address())) + "\n";
  return text;
}

std::string ArenaLines(const proto::ArenaStatus& arena) {
  const double share = arena.budget_bytes() == 0 ? 0
                                                 : 100.0 * static_cast<double>(arena.used_bytes()) /
                                                       static_cast<double>(arena.budget_bytes());
  std::string text = "arena    " + SafeText(arena.path()) + "\n";
  text += "         " + Bar(arena.used_bytes(), arena.budget_bytes(), kBarWidth) + " " +
          FormatBytes(arena.used_bytes()) + " of " + FormatBytes(arena.budget_bytes()) + " used, " +
          std::to_string(static_cast<std::uint64_t>(share)) + " %\n";
  text += "         slots: " + std::to_string(arena.sealed_slots()) + " sealed, " +
          std::to_string(arena.filling_slots()) + " filling, " +
          std::to_string(arena.free_slots()) + " free";
  if (arena.static_bytes() > 0) {
    text += "; frozen tensors: " + FormatBytes(arena.static_bytes());
  }
  if (arena.quarantined_bytes() > 0) {
    text += "; quarantined: " + FormatBytes(arena.quarantined_bytes());
  }
  return text + "\n";
}

std::string PeerLines(const proto::StatusReply& status) {
  std::string text = "peers    ";
  if (status.peer_endpoints().empty()) {
    return text + "off\n";
  }
  for (int i = 0; i < status.peer_endpoints_size(); ++i) {
    text += (i == 0 ? "at " : ", ") + SafeText(status.peer_endpoints(i));
  }
  text += "; bytes over " + SafeText(status.data_plane()) + "\n";
  Table table({"NODE", "ADDRESS", "CONNECTED", "ROUND TRIP", "BECAUSE"},
              {Align::kLeft, Align::kLeft, Align::kLeft, Align::kRight});
  for (const proto::PeerStatus& peer : status.peers()) {
    const std::string where = peer.endpoints().empty() ? peer.address() : peer.endpoints(0);
    table.AddRow({NodeName(peer.node_uuid()),
                  where.empty() ? "-" : where,
                  !peer.connected()      ? "no"
                  : peer.authenticated() ? "yes"
                                         : "yes, in clear",
                  peer.round_trip_us() == 0 ? "-" : std::to_string(peer.round_trip_us()) + " us",
                  ShortText(peer.last_error(), kMaxReason)});
  }
  return text + (table.empty() ? "" : table.Render("         "));
}

std::string RankTable(const proto::JobStatus& job) {
  Table table(
      {"RANK", "PID", "CONNECTED", "LAST BEGUN", "SEALED", "MISSED", "LAST MISSED BECAUSE"},
      {Align::kRight, Align::kRight, Align::kLeft, Align::kRight, Align::kRight, Align::kRight});
  for (const proto::RankStatus& rank : job.ranks()) {
    table.AddRow({std::to_string(rank.rank()),
                  rank.pid() > 0 ? std::to_string(rank.pid()) : "-",
                  rank.connected() ? "yes" : "no",
                  rank.last_begun_step() >= 0 ? std::to_string(rank.last_begun_step()) : "-",
                  std::to_string(rank.snapshots_sealed()),
                  std::to_string(rank.snapshots_missed()),
                  ShortText(rank.last_missed_reason(), kMaxReason)});
  }
  return table.empty() ? "" : table.Render("  ");
}

// "1200@7 13 %", empty where nothing is on its way.
std::string FlushingCell(const proto::TierStatus& tier) {
  if (!tier.has_flushing()) {
    return "";
  }
  const ByteCount all = tier.flushing_bytes();
  const ByteCount done = std::min(tier.flushing_done_bytes(), all);
  const double share = all == 0 ? 0 : 100.0 * static_cast<double>(done) / static_cast<double>(all);
  return IdText(tier.flushing()) + " " + std::to_string(static_cast<int>(share)) + " %";
}

std::string TierTable(const proto::JobStatus& job) {
  Table table(
      {"TIER", "SCOPE", "HEALTH", "NEWEST DURABLE", "FLUSHED", "FLUSHING", "LAST ERROR"},
      {Align::kLeft, Align::kLeft, Align::kLeft, Align::kRight, Align::kRight, Align::kRight});
  for (const proto::TierStatus& tier : job.tiers()) {
    proto::SnapshotId newest;
    newest.set_incarnation(tier.newest_durable_incarnation());
    newest.set_step(tier.newest_durable_step());
    table.AddRow({tier.root(),
                  tier.scope() == proto::NODE ? "node" : "shared",
                  tier.healthy() ? "ok" : "failing",
                  tier.newest_durable_step() >= 0 ? IdText(newest) : "none",
                  FormatBytes(tier.flushed_bytes()),
                  FlushingCell(tier),
                  ShortText(tier.last_error(), kMaxReason)});
  }
  return table.empty() ? "  no persistent tier: a loss of this node's memory loses the job\n"
                       : table.Render("  ");
}

std::string BringingLines(const proto::JobStatus& job) {
  std::string text;
  for (const proto::ShardOnItsWay& shard : job.bringing()) {
    text += "  bringing rank " + std::to_string(shard.rank()) + " of " + IdText(shard.id()) + ": " +
            FormatBytes(shard.done_bytes()) + " of " + FormatBytes(shard.total_bytes()) + " from " +
            SafeText(shard.from()) + "\n";
  }
  return text;
}

std::string ProtectionLines(const proto::JobStatus& job) {
  std::string text = BringingLines(job);
  if (job.has_protected_id()) {
    text += "  protected: " + IdText(job.protected_id()) + ", " + Count(job.margin(), "node") +
            " of each group may be lost\n";
  }
  if (job.has_protecting()) {
    text += "  protecting: " + IdText(job.protecting()) + "\n";
  }
  for (const proto::GroupStatus& group : job.groups()) {
    text += "  group " + std::to_string(group.data()) + "+" + std::to_string(group.parity()) + ":";
    for (const std::string& uuid : group.node_uuids()) {
      text += " " + NodeName(uuid);
    }
    text += group.reduced() ? " (less parity than configured: too few nodes)" : "";
    for (const std::string& domain : group.uncovered_domains()) {
      text += "; the loss of " + SafeText(domain) + " is not covered";
    }
    text += "\n";
  }
  if (!job.not_protected().empty()) {
    text += "  not protected: " + SafeText(job.not_protected()) + "\n";
  }
  return text;
}

std::string JobLines(const proto::JobStatus& job) {
  std::string text = "job " + SafeText(job.name()) + ": incarnation " +
                     std::to_string(job.incarnation()) + ", " + Count(job.world_size(), "rank") +
                     ", " + SafeText(job.phase()) +
                     (job.live() ? ", live" : ", no rank connected") + ", " +
                     FormatBytes(job.arena_bytes()) + " of memory\n";
  text +=
      "  newest complete: " + (job.has_newest_complete() ? IdText(job.newest_complete()) : "none") +
      "\n";
  text += "  restored: " +
          (job.has_restored() ? IdText(job.restored()) : std::string("nothing, started afresh"));
  text += job.restore_attempt() > 1 ? " (attempt " + std::to_string(job.restore_attempt()) + ")\n"
                                    : "\n";
  for (const std::string& line : job.restore_log()) {
    text += "  passed over: " + SafeText(line) + "\n";
  }
  return text + ProtectionLines(job) + RankTable(job) + TierTable(job);
}

}  // namespace

std::string StatusText(const proto::StatusReply& status) {
  std::string text = DaemonLines(status) + ArenaLines(status.arena()) + PeerLines(status);
  for (const proto::JobStatus& job : status.jobs()) {
    text += "\n" + JobLines(job);
  }
  if (status.jobs().empty()) {
    text += "\nno jobs\n";
  }
  for (int i = 0; i < status.warnings_size(); ++i) {
    text += (i == 0 ? "\nwarning: " : "warning: ") + SafeText(status.warnings(i)) + "\n";
  }
  return text;
}

}  // namespace holdfast::cli
