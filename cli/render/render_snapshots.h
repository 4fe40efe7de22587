// `holdfast ls`: snapshots, newest first, for people and for scripts.
//
// Threads: any thread; pure.
#pragma once

#include <string>

#include "cli/source.h"

namespace holdfast::cli {

// Problems stand behind the table, one line each.
[[nodiscard]] std::string SnapshotsText(const Listing& listing);
[[nodiscard]] std::string SnapshotsJson(const Listing& listing);

}  // namespace holdfast::cli
