// Private to the renderers of the cluster: what several of its documents have.
//
// Threads: any thread; pure.
#pragma once

#include <string>

#include "cli/cluster/cluster_model.h"
#include "cli/json_value.h"

namespace holdfast::cli {

// "unreachable", "timed out", "refused", ...: why a node gave no view, in a word.
[[nodiscard]] std::string SilenceWord(const proto::NodeAnswer& answer);
// "node 0123456789ab (unreachable)"; "a node that is not known" where "uuid" is empty.
[[nodiscard]] std::string WhereText(const Cluster& cluster, const std::string& uuid);

// {"node_uuid", "endpoints", "answered", "error": {code, message} or null}
[[nodiscard]] Json NodeJson(const proto::NodeAnswer& answer);
[[nodiscard]] Json NodesJson(const Cluster& cluster);
[[nodiscard]] Json ClusterSnapshotValue(const ClusterSnapshot& snapshot);

}  // namespace holdfast::cli
