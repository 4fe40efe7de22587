// The two halves of MergeAnswers; private to cli/cluster/.
//
// Threads: any thread; pure.
#pragma once

#include <vector>

#include "cli/cluster/cluster_model.h"

namespace holdfast::cli {

[[nodiscard]] std::vector<ClusterJob> MergeJobs(const std::vector<proto::NodeAnswer>& nodes);

// "jobs": who is believed about each.
[[nodiscard]] std::vector<ClusterSnapshot> MergeSnapshots(
    const std::vector<proto::NodeAnswer>& nodes, const std::vector<ClusterJob>& jobs);

}  // namespace holdfast::cli
