#include "cli/cluster/cluster_model.h"

#include <utility>

#include "cli/cluster/cluster_merge.h"

namespace holdfast::cli {

Cluster MergeAnswers(std::vector<proto::NodeAnswer> nodes) {
  Cluster cluster;
  cluster.jobs = MergeJobs(nodes);
  cluster.snapshots = MergeSnapshots(nodes, cluster.jobs);
  cluster.nodes = std::move(nodes);
  return cluster;
}

}  // namespace holdfast::cli
