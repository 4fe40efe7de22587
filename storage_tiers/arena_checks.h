// Whether a node can keep an arena's promise: how much memory there is behind the folder.
//
// A budget that the memory cannot hold is found here, at start, and not by the kernel's OOM killer
// in the middle of a training.
//
// Threads: any thread; blocking (statfs and reads of small files under /proc and /sys).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "common/result.h"
#include "common/units.h"

namespace holdfast::storage_tiers {

enum class ArenaFileSystem : std::uint8_t { kTmpfs, kHugetlbfs, kOther };

struct ArenaSpace {
  ArenaFileSystem type = ArenaFileSystem::kOther;
  ByteCount page_bytes = 0;        // files have multiples of it
  std::optional<ByteCount> total;  // absent: the mount has no limit of its own
  ByteCount free = 0;              // of total
};

// What the file system of an open folder is and has.
[[nodiscard]] Result<ArenaSpace> ReadArenaSpace(int folder_fd);

// kNoSpace: the file system is smaller than the budget, so the budget can never be used.  Warnings,
// one line each, for what may still work: another type of file system, no limit to compare with,
// space that something else has taken ("used_bytes" is what our files have).
[[nodiscard]] Result<std::vector<std::string>> CheckArenaSpace(const std::string& folder,
                                                               const ArenaSpace& space,
                                                               ByteCount budget_bytes,
                                                               ByteCount used_bytes);

// The lowest memory limit of this process's cgroup and its parents (v2 or v1); absent: none is set
// or none can be read.  "root" is "" but in tests, where it stands before /proc and /sys.
[[nodiscard]] std::optional<ByteCount> CgroupMemoryLimit(const std::string& root);

// Of the node, from /proc/meminfo.
[[nodiscard]] std::optional<ByteCount> NodeMemory(const std::string& root);

// Warnings where the budget is more than the memory that the kernel will let us have.
[[nodiscard]] std::vector<std::string> CheckMemory(const std::string& root, ByteCount budget_bytes);

}  // namespace holdfast::storage_tiers
