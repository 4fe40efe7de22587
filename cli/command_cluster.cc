// status, ls and show with --cluster.

#include <algorithm>
#include <utility>

#include "cli/cluster/ask_nodes.h"
#include "cli/cluster/cluster_model.h"
#include "cli/commands.h"
#include "cli/render/render_cluster.h"
#include "cli/snapshot_spec.h"
#include "cli/text.h"

namespace holdfast::cli {
namespace {

// What can be said is said, but a script must not take it for the whole.
ExitCode ExitOf(const Cluster& cluster) {
  return AllAnswered(cluster.nodes) ? ExitCode::kOk : ExitCode::kIncomplete;
}

// A job without snapshots is not the same as a name that was misspelt.
Status CheckKnown(const Cluster& cluster, const std::string& job) {
  std::vector<std::string> names;
  for (const ClusterJob& known : cluster.jobs) {
    if (known.status.name() == job) {
      return Ok();
    }
    names.push_back(known.status.name());
  }
  return Error(
      Errc::kNotFound,
      std::string(AllAnswered(cluster.nodes) ? "no node of the cluster" : "no node that answered") +
          " knows a job " + job + InsteadText(names));
}

// "job" empty: all.
Result<Cluster> Look(AdminChannel& channel, const ClusterOptions& options, const std::string& job) {
  HF_TRY(auto nodes, AskNodes(channel, job, options.timeout()));
  Cluster cluster = MergeAnswers(std::move(nodes));
  if (!job.empty()) {
    HF_TRYV(CheckKnown(cluster, job));
  }
  return cluster;
}

Result<const ClusterSnapshot*> Find(const Cluster& cluster,
                                    const std::string& job,
                                    const std::string& spec) {
  HF_TRY(const SnapshotSpec parsed, ParseSnapshotSpec(spec));
  proto::ListReply listing;
  for (const ClusterSnapshot& snapshot : cluster.snapshots) {
    *listing.add_snapshots() = snapshot.info;
  }
  HF_TRY(const proto::SnapshotInfo found, FindSnapshot(listing, job, parsed));
  const auto same = std::find_if(
      cluster.snapshots.begin(), cluster.snapshots.end(), [&](const ClusterSnapshot& snapshot) {
        return snapshot.info.job_name() == job &&
               snapshot.info.id().SerializeAsString() == found.id().SerializeAsString();
      });
  return &*same;
}

// Looks, and prints what "text" (of the cluster: Result<std::string>) makes of it.
template <typename Text>
ExitCode ShowCluster(const Context& context,
                     const ClusterOptions& options,
                     const std::string& job,
                     Text text) {
  const auto channel = Connect(context);
  if (!channel.value) {
    return channel.exit;
  }
  const auto cluster = Look(**channel.value, options, job);
  if (!cluster) {
    return context.console.Fail(cluster.error());
  }
  const Result<std::string> shown = text(cluster.value());
  if (!shown) {
    return context.console.Fail(shown.error());
  }
  context.console.out << shown.value();
  return ExitOf(cluster.value());
}

}  // namespace

ExitCode RunClusterStatus(const Context& context, const ClusterOptions& options) {
  return ShowCluster(context, options, "", [&](const Cluster& cluster) -> Result<std::string> {
    return context.console.json ? ClusterStatusJson(cluster) : ClusterStatusText(cluster);
  });
}

ExitCode RunClusterLs(const Context& context, const LsOptions& options) {
  return ShowCluster(
      context, options.cluster, options.job, [&](const Cluster& cluster) -> Result<std::string> {
        return context.console.json ? ClusterListJson(cluster) : ClusterListText(cluster);
      });
}

ExitCode RunClusterShow(const Context& context, const ShowCommandOptions& options) {
  return ShowCluster(
      context, options.cluster, options.job, [&](const Cluster& cluster) -> Result<std::string> {
        HF_TRY(const ClusterSnapshot* found, Find(cluster, options.job, options.snapshot));
        return context.console.json ? ClusterSnapshotJson(cluster, *found)
                                    : ClusterSnapshotText(cluster, *found);
      });
}

}  // namespace holdfast::cli
