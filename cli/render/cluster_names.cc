#include "cli/render/cluster_json.h"
#include "cli/text.h"

namespace holdfast::cli {

std::string SilenceWord(const proto::NodeAnswer& answer) {
  switch (static_cast<Errc>(answer.error_code())) {
    case Errc::kUnavailable:
      return "unreachable";
    case Errc::kTimeout:
      return "timed out";
    case Errc::kVersionMismatch:
      return "other version";
    case Errc::kCorruption:
    case Errc::kNoSpace:
      return "bad answer";
    default:
      return "refused";
  }
}

std::string WhereText(const Cluster& cluster, const std::string& uuid) {
  if (uuid.empty()) {
    return "a node that is not known";
  }
  for (const proto::NodeAnswer& answer : cluster.nodes) {
    if (answer.node_uuid() == uuid) {
      return "node " + NodeName(uuid) + (answer.has_view() ? "" : " (" + SilenceWord(answer) + ")");
    }
  }
  return "node " + NodeName(uuid) + " (not known to this node)";
}

}  // namespace holdfast::cli
