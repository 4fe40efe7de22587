#include <algorithm>

#include "cli/render/cluster_json.h"
#include "cli/render/render_cluster.h"
#include "cli/table.h"
#include "cli/text.h"

namespace holdfast::cli {
namespace {

constexpr std::size_t kMaxReason = 60;

std::string NodeTable(const Cluster& cluster) {
  Table table({"NODE", "ADDRESS", "STATE", "BOOT", "MEMORY USED", "OF", "JOBS", "BECAUSE"},
              {Align::kLeft,
               Align::kLeft,
               Align::kLeft,
               Align::kRight,
               Align::kRight,
               Align::kRight,
               Align::kRight});
  for (const proto::NodeAnswer& answer : cluster.nodes) {
    const proto::StatusReply& status = answer.view().status();
    const std::string where = answer.endpoints().empty() ? "-" : answer.endpoints(0);
    if (!answer.has_view()) {
      table.AddRow({NodeName(answer.node_uuid()),
                    where,
                    SilenceWord(answer),
                    "",
                    "",
                    "",
                    "",
                    ShortText(answer.error(), 2 * kMaxReason)});
      continue;
    }
    table.AddRow({NodeName(answer.node_uuid()),
                  where,
                  "answers",
                  std::to_string(status.boot_number()),
                  FormatBytes(status.arena().used_bytes()),
                  FormatBytes(status.arena().budget_bytes()),
                  std::to_string(status.jobs_size()),
                  status.warnings().empty() ? "" : ShortText(status.warnings(0), kMaxReason)});
  }
  return table.Render();
}

std::string RankTable(const ClusterJob& job) {
  Table table(
      {"RANK", "NODE", "PID", "CONNECTED", "LAST BEGUN", "SEALED", "MISSED", "LAST MISSED BECAUSE"},
      {Align::kRight,
       Align::kLeft,
       Align::kRight,
       Align::kLeft,
       Align::kRight,
       Align::kRight,
       Align::kRight});
  for (const proto::RankStatus& rank : job.status.ranks()) {
    table.AddRow({std::to_string(rank.rank()),
                  NodeName(job.ServerOf(rank.rank())),
                  rank.pid() > 0 ? std::to_string(rank.pid()) : "-",
                  rank.connected() ? "yes" : "no",
                  rank.last_begun_step() >= 0 ? std::to_string(rank.last_begun_step()) : "-",
                  std::to_string(rank.snapshots_sealed()),
                  std::to_string(rank.snapshots_missed()),
                  ShortText(rank.last_missed_reason(), kMaxReason)});
  }
  return table.empty() ? "" : table.Render("  ");
}

std::string TierTable(const ClusterJob& job) {
  Table table({"TIER", "SCOPE", "HEALTH", "NEWEST DURABLE", "FLUSHED", "LAST ERROR"},
              {Align::kLeft, Align::kLeft, Align::kLeft, Align::kRight, Align::kRight});
  for (const proto::TierStatus& tier : job.status.tiers()) {
    proto::SnapshotId newest;
    newest.set_incarnation(tier.newest_durable_incarnation());
    newest.set_step(tier.newest_durable_step());
    table.AddRow({tier.root(),
                  tier.scope() == proto::NODE ? "node" : "shared",
                  tier.healthy() ? "ok" : "failing",
                  tier.newest_durable_step() >= 0 ? IdText(newest) : "none",
                  FormatBytes(tier.flushed_bytes()),
                  ShortText(tier.last_error(), kMaxReason)});
  }
  return table.empty() ? "" : table.Render("  ");
}

bool Answered(const Cluster& cluster, const std::string& node) {
  return std::any_of(cluster.nodes.begin(), cluster.nodes.end(), [&](const auto& answer) {
    return answer.node_uuid() == node && answer.has_view();
  });
}

std::string GroupLines(const Cluster& cluster, const ClusterJob& job) {
  std::string text;
  for (const proto::GroupStatus& group : job.status.groups()) {
    text += "  group " + std::to_string(group.data()) + "+" + std::to_string(group.parity()) + ":";
    std::size_t silent = 0;
    for (const std::string& uuid : group.node_uuids()) {
      const bool answered = Answered(cluster, uuid);
      silent += answered ? 0 : 1;
      text += " " + NodeName(uuid) + (answered ? "" : "(!)");
    }
    text += silent > 0 ? "; " + Count(silent, "node") + " of it gave no answer" : "";
    text += group.reduced() ? " (less parity than configured: too few nodes)" : "";
    for (const std::string& domain : group.uncovered_domains()) {
      text += "; the loss of " + SafeText(domain) + " is not covered";
    }
    text += "\n";
  }
  return text;
}

std::string MissingLines(const Cluster& cluster, const ClusterJob& job) {
  std::map<std::string, std::vector<std::uint32_t>> by_node;
  for (const std::uint32_t rank : job.missing_ranks) {
    by_node[job.ServerOf(rank)].push_back(rank);
  }
  std::string text;
  for (auto& [node, ranks] : by_node) {
    text += "  missing: rank " + RankRanges(std::move(ranks)) + " of " + WhereText(cluster, node) +
            "\n";
  }
  return text;
}

// What the nodes that answered hold now; what the decider says may be older than the last loss.
std::string MarginText(const Cluster& cluster, const ClusterJob& job) {
  for (const ClusterSnapshot& snapshot : cluster.snapshots) {
    const proto::SnapshotId& id = snapshot.info.id();
    if (id.job_uid() == job.status.job_uid() &&
        id.incarnation() == job.status.protected_id().incarnation() &&
        id.step() == job.status.protected_id().step()) {
      return Count(snapshot.margin_seen, "node") + " more of each group may be lost";
    }
  }
  return "no node that answered holds any of it";
}

std::string JobLines(const Cluster& cluster, const ClusterJob& job) {
  const proto::JobStatus& status = job.status;
  std::string text =
      "job " + SafeText(status.name()) + ": incarnation " + std::to_string(status.incarnation()) +
      ", " + Count(status.world_size(), "rank") + " on " + Count(job.nodes.size(), "node") + ", " +
      SafeText(status.phase()) + (status.live() ? ", live" : ", no rank connected") + ", " +
      FormatBytes(status.arena_bytes()) + " of memory\n";
  text +=
      "  decided by: " +
      (job.decider.empty() ? std::string("nobody who answered") : "node " + NodeName(job.decider)) +
      "\n";
  text += "  newest complete: " +
          (status.has_newest_complete() ? IdText(status.newest_complete()) : "none") + "\n";
  text += status.has_protected_id() ? "  protected: " + IdText(status.protected_id()) + ", " +
                                          MarginText(cluster, job) + "\n"
                                    : std::string();
  text += status.has_protecting() ? "  protecting: " + IdText(status.protecting()) + "\n" : "";
  text += GroupLines(cluster, job);
  if (!status.not_protected().empty()) {
    text += "  not protected: " + SafeText(status.not_protected()) + "\n";
  }
  return text + MissingLines(cluster, job) + RankTable(job) + TierTable(job);
}

}  // namespace

std::string SilentNodesText(const Cluster& cluster) {
  std::string text;
  for (const proto::NodeAnswer& answer : cluster.nodes) {
    if (!answer.has_view()) {
      text += "no view of node " + NodeName(answer.node_uuid()) + " (" + SilenceWord(answer) +
              "): " + SafeText(answer.error()) + "\n";
    }
  }
  return text;
}

std::string ClusterStatusText(const Cluster& cluster) {
  const auto answered = static_cast<std::size_t>(
      std::count_if(cluster.nodes.begin(), cluster.nodes.end(), [](const auto& answer) {
        return answer.has_view();
      }));
  std::string text = "cluster of " + Count(cluster.nodes.size(), "node") + ": " +
                     std::to_string(answered) + " answered\n" + NodeTable(cluster);
  for (const ClusterJob& job : cluster.jobs) {
    text += "\n" + JobLines(cluster, job);
  }
  return text + (cluster.jobs.empty() ? "\nno jobs\n" : "");
}

}  // namespace holdfast::cli
