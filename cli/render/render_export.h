// What `export` and `restore` say when they are done.
//
// Threads: any thread; pure.
#pragma once

#include <string>
#include <vector>

#include "cli/export_shard.h"
#include "cli/source.h"

namespace holdfast::cli {

struct ExportReport {
  proto::SnapshotInfo snapshot;
  std::string folder;
  std::vector<ExportedFile> files;
  std::vector<std::uint32_t> missing_ranks;  // with --partial
};

[[nodiscard]] std::string ExportText(const ExportReport& report);
[[nodiscard]] std::string ExportJson(const ExportReport& report);

struct RestoreReport {
  proto::SnapshotInfo snapshot;
  std::string from_root;
  std::string to_root;
  std::vector<std::uint64_t> incarnations;  // whose records were copied
};

[[nodiscard]] std::string RestoreText(const RestoreReport& report);
[[nodiscard]] std::string RestoreJson(const RestoreReport& report);

// {"removed": id, "place": …}
[[nodiscard]] std::string RemovedJson(const proto::SnapshotInfo& snapshot,
                                      const std::string& place);

}  // namespace holdfast::cli
