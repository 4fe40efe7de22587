// What of a job could be restored from one place, as far as a listing shows.
//
// Threads: any thread; pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cli/source.h"

namespace holdfast::cli {

struct Restorable {
  std::uint64_t snapshots = 0;  // that are known
  std::uint64_t shards = 0;     // that can be read here
  ByteCount bytes = 0;          // of these
  // The newest that every rank can be had of, and where: this place, or roots that it names.
  std::optional<proto::SnapshotId> newest;
  std::vector<std::string> from;
  std::string why_not;  // where there is none
};

// Of "job" in a listing of "place", which is newest first.
[[nodiscard]] Restorable FindRestorable(const Listing& listing,
                                        const std::string& job,
                                        const std::string& place);

}  // namespace holdfast::cli
