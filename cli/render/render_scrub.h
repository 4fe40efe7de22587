// `holdfast verify --peers`: what the nodes of the cluster found of what they hold.
//
// Threads: any thread; pure.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "cli/cluster/scrub_plan.h"
#include "cli/exit_code.h"

namespace holdfast::cli {

// Borrows all of it.
struct ScrubReport {
  const std::vector<proto::NodeAnswer>& nodes;
  const std::vector<ScrubItem>& items;
  const std::map<std::string, Error>& gone;  // nodes that fell silent on the way
};

// kDataBad where anything is bad, else kIncomplete where a node did not answer for all it holds,
// else kRefused or kFailed where something could not be read, else kOk.
[[nodiscard]] ExitCode ScrubExit(const ScrubReport& report);

// A line for each node, then one for each bad image or row.
[[nodiscard]] std::string ScrubText(const ScrubReport& report);
[[nodiscard]] std::string ScrubJson(const ScrubReport& report);

}  // namespace holdfast::cli
