// `status`, `ls` and `show` with --cluster: the whole cluster for people and for scripts.
//
// Threads: any thread; pure.
#pragma once

#include <string>

#include "cli/cluster/cluster_model.h"

namespace holdfast::cli {

[[nodiscard]] std::string ClusterStatusText(const Cluster& cluster);
[[nodiscard]] std::string ClusterStatusJson(const Cluster& cluster);

// Each snapshot once, with who holds what of it.
[[nodiscard]] std::string ClusterListText(const Cluster& cluster);
[[nodiscard]] std::string ClusterListJson(const Cluster& cluster);

// One of its snapshots, down to stripes and rows.
[[nodiscard]] std::string ClusterSnapshotText(const Cluster& cluster,
                                              const ClusterSnapshot& snapshot);
[[nodiscard]] std::string ClusterSnapshotJson(const Cluster& cluster,
                                              const ClusterSnapshot& snapshot);

// A line for each node that gave no view, with the reason; nothing where all did.
[[nodiscard]] std::string SilentNodesText(const Cluster& cluster);

}  // namespace holdfast::cli
