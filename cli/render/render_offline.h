// `holdfast status` without a daemon: what lies in a folder, or in what a dead daemon left, and
// what of it can be restored.
//
// Threads: any thread; pure: the same places give the same text.
#pragma once

#include <string>
#include <vector>

#include "cli/source.h"
#include "proto/client.pb.h"

namespace holdfast::cli {

struct OfflinePlace {
  std::string place;
  bool is_memory = false;     // a dead daemon's state and arena; else a persistent folder
  proto::StatusReply status;  // daemon_pid: who holds the state all the same; 0: nobody
  Listing listing;            // of all jobs
};

[[nodiscard]] std::string OfflineText(const std::vector<OfflinePlace>& places);
[[nodiscard]] std::string OfflineJson(const std::vector<OfflinePlace>& places);

}  // namespace holdfast::cli
