// Asks every node of the cluster, through the daemon of this one.
//
// Threads:   one thread.
// Errors:    what the daemon of this node says; kCancelled after Ctrl-C; kInternal for pages that
//            do not end.  A node that gives no view is no error here: its answer says why.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "cli/admin_channel.h"
#include "common/result.h"
#include "proto/client.pb.h"

namespace holdfast::cli {

// By uuid, rising.  "job": only what belongs to it; empty: all.  "timeout": for each node.  A view
// that cannot be believed is taken out, and its answer says so: names and numbers in those that
// stay may be used as they are.
[[nodiscard]] Result<std::vector<proto::NodeAnswer>> AskNodes(AdminChannel& channel,
                                                              const std::string& job,
                                                              std::chrono::milliseconds timeout);

// Whether every node gave a view.
[[nodiscard]] bool AllAnswered(const std::vector<proto::NodeAnswer>& nodes);

}  // namespace holdfast::cli
