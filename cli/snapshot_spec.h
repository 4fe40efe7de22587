// How a user names a snapshot on the command line: "1200", "1200@7" or "newest".
//
// A step alone is no name (two starts of a job can both have a step 1200), but it is what people
// type.  It is accepted where it can mean one snapshot only; otherwise the candidates are listed
// and nothing is done: guessing would be fine for `show` and fatal for `rm`.
//
// Threads: any thread; pure.
// Errors:  kInvalidArgument for text that is no name, or that names several; kNotFound with what
//          there is.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "common/result.h"
#include "proto/client.pb.h"

namespace holdfast::cli {

struct SnapshotSpec {
  bool newest = false;
  std::int64_t step = 0;
  std::optional<std::uint64_t> incarnation;
};

[[nodiscard]] Result<SnapshotSpec> ParseSnapshotSpec(std::string_view text);

// The one snapshot of "job" in "listing" (newest first) that "spec" means.  Abandoned ids count
// only where nothing else has the step.  "newest" is the greatest id that is complete or durable
// and not discarded.
[[nodiscard]] Result<proto::SnapshotInfo> FindSnapshot(const proto::ListReply& listing,
                                                       const std::string& job,
                                                       const SnapshotSpec& spec);

}  // namespace holdfast::cli
