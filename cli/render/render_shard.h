// `holdfast show`: one shard of a snapshot as its sidecar describes it.
//
// Threads: any thread; pure.
#pragma once

#include <string>

#include "cli/source.h"

namespace holdfast::cli {

struct ShownShard {
  proto::SnapshotInfo snapshot;
  proto::Sidecar sidecar;
  std::string place;  // where the sidecar was read
};

struct ShowOptions {
  bool tensors = false;  // list them
  bool state = false;    // print the values of JSON items; pickles are never opened
};

[[nodiscard]] std::string ShardText(const ShownShard& shown, const ShowOptions& options);
[[nodiscard]] std::string ShardJson(const ShownShard& shown, const ShowOptions& options);

}  // namespace holdfast::cli
