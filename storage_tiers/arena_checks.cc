#include "storage_tiers/arena_checks.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <fstream>
#include <iterator>
#include <limits>
#include <string_view>

#include <linux/magic.h>
#include <sys/vfs.h>

namespace holdfast::storage_tiers {
namespace {

constexpr ByteCount kSmallPage = 4 * kKiB;

std::optional<std::string> ReadSmallFile(const std::string& path) {
  std::ifstream file(path);
  if (!file) {
    return std::nullopt;
  }
  return std::string(std::istreambuf_iterator<char>(file), {});
}

// The number at the start of "text", after blanks.
std::optional<ByteCount> LeadingNumber(std::string_view text) {
  text.remove_prefix(std::min(text.find_first_not_of(" \t"), text.size()));
  ByteCount value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end == text.data()) {
    return std::nullopt;
  }
  return value;
}

void Lower(std::optional<ByteCount>* lowest, std::optional<ByteCount> value) {
  if (value && (!*lowest || *value < **lowest)) {
    *lowest = value;
  }
}

// The limit in "file" of the group "path" ("/a/b") and of every group above it.  The hierarchy seen
// here may be cut (a container sees its own group as the root), so missing files are passed over.
std::optional<ByteCount> LowestLimit(const std::string& hierarchy,
                                     std::string_view path,
                                     const std::string& file) {
  std::optional<ByteCount> lowest;
  while (true) {
    const std::string_view group = path == "/" ? "" : path;
    std::string whole = hierarchy;
    whole.append(group).append("/").append(file);
    if (const auto text = ReadSmallFile(whole)) {
      Lower(&lowest, LeadingNumber(*text));  // "max" is no number: no limit
    }
    if (group.empty()) {
      return lowest;
    }
    path = path.substr(0, path.rfind('/'));
  }
}

}  // namespace

Result<ArenaSpace> ReadArenaSpace(int folder_fd) {
  struct statfs status = {};
  while (::fstatfs(folder_fd, &status) != 0) {
    if (errno != EINTR) {
      return ErrnoError(errno, "statfs of the arena's folder");
    }
  }
  ArenaSpace space;
  const auto block = static_cast<ByteCount>(status.f_bsize);
  space.page_bytes = kSmallPage;
  switch (static_cast<unsigned long>(status.f_type)) {
    case TMPFS_MAGIC:
      space.type = ArenaFileSystem::kTmpfs;
      break;
    case HUGETLBFS_MAGIC:
      space.type = ArenaFileSystem::kHugetlbfs;
      space.page_bytes = std::max(block, kSmallPage);
      break;
    default:
      break;
  }
  // Both show no blocks when mounted without a size.  Statistics of a foreign file system are not
  // multiplied unchecked.
  const auto bytes = [&](ByteCount blocks) {
    return blocks > std::numeric_limits<ByteCount>::max() / std::max<ByteCount>(block, 1)
               ? std::numeric_limits<ByteCount>::max()
               : blocks * block;
  };
  if (status.f_blocks != 0) {
    space.total = bytes(status.f_blocks);
    space.free = bytes(status.f_bavail);
  }
  return space;
}

Result<std::vector<std::string>> CheckArenaSpace(const std::string& folder,
                                                 const ArenaSpace& space,
                                                 ByteCount budget_bytes,
                                                 ByteCount used_bytes) {
  std::vector<std::string> warnings;
  if (space.type == ArenaFileSystem::kOther) {
    warnings.push_back("the arena " + folder +
                       " is on neither tmpfs nor hugetlbfs: snapshots go to a disk, at its speed");
  }
  if (!space.total) {
    warnings.push_back("the file system of the arena " + folder +
                       " has no size limit to compare with the budget of " +
                       FormatBytes(budget_bytes) + ": mount it with size=");
    return warnings;
  }
  if (*space.total < budget_bytes) {
    return Error(Errc::kNoSpace,
                 "the file system of the arena " + folder + " has " + FormatBytes(*space.total) +
                     " (" + std::to_string(*space.total) + " B), the budget is " +
                     FormatBytes(budget_bytes) + " (" + std::to_string(budget_bytes) +
                     " B): mount it again with size=" + std::to_string(budget_bytes) +
                     " or more, or lower the budget");
  }
  // Only a warning: what takes the space may be files that we unlinked before a restart and that a
  // dying trainer still maps; refusing to start would lose the snapshots that are there.
  if (space.free < budget_bytes - std::min(budget_bytes, used_bytes)) {
    warnings.push_back("the file system of the arena " + folder + " has only " +
                       FormatBytes(space.free) + " free beside the " + FormatBytes(used_bytes) +
                       " of our slots, the budget is " + FormatBytes(budget_bytes) +
                       ": registrations may be refused before it is used up");
  }
  return warnings;
}

std::optional<ByteCount> CgroupMemoryLimit(const std::string& root) {
  const auto groups = ReadSmallFile(root + "/proc/self/cgroup");
  if (!groups) {
    return std::nullopt;
  }
  std::optional<ByteCount> lowest;
  std::string_view rest = *groups;
  while (!rest.empty()) {
    // "<id>:<controllers>:<path>"; version 2 has id 0 and no controllers.
    const std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(line.size() + 1, rest.size()));
    const std::size_t first = line.find(':');
    const std::size_t second = line.find(':', first == line.npos ? first : first + 1);
    if (second == line.npos || second + 1 >= line.size() || line[second + 1] != '/') {
      continue;
    }
    const std::string_view controllers = line.substr(first + 1, second - first - 1);
    const std::string_view path = line.substr(second + 1);
    if (controllers.empty()) {
      Lower(&lowest, LowestLimit(root + "/sys/fs/cgroup", path, "memory.max"));
    } else if (("," + std::string(controllers) + ",").find(",memory,") != std::string::npos) {
      Lower(&lowest, LowestLimit(root + "/sys/fs/cgroup/memory", path, "memory.limit_in_bytes"));
    }
  }
  return lowest;
}

std::optional<ByteCount> NodeMemory(const std::string& root) {
  constexpr std::string_view kLabel = "MemTotal:";
  const auto text = ReadSmallFile(root + "/proc/meminfo");
  const std::size_t at = text ? text->find(kLabel) : std::string::npos;
  if (at == std::string::npos) {
    return std::nullopt;
  }
  const auto kib = LeadingNumber(std::string_view(*text).substr(at + kLabel.size()));
  if (!kib || *kib > std::numeric_limits<ByteCount>::max() / kKiB) {
    return std::nullopt;
  }
  return *kib * kKiB;
}

std::vector<std::string> CheckMemory(const std::string& root, ByteCount budget_bytes) {
  std::vector<std::string> warnings;
  if (const auto limit = CgroupMemoryLimit(root); limit && *limit < budget_bytes) {
    warnings.push_back("the daemon's cgroup may have " + FormatBytes(*limit) +
                       " of memory, the arena's budget is " + FormatBytes(budget_bytes) +
                       ": the kernel will kill the daemon before the budget is used up; raise "
                       "MemoryMax (or the pod's limit) or lower the budget");
  }
  if (const auto memory = NodeMemory(root); memory && *memory < budget_bytes) {
    warnings.push_back("the node has " + FormatBytes(*memory) +
                       " of memory, the arena's budget is " + FormatBytes(budget_bytes) +
                       ": lower the budget");
  }
  return warnings;
}

}  // namespace holdfast::storage_tiers
