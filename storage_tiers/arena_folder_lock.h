// Exclusive use of a folder by one process: an flock on a file "lock" in it that names the holder.
//
// Two daemons on one arena would each hand out the other's slots, and two on one catalog would each
// undo the other's transitions.  The lock ends with the process, however it ends.
//
// Threads:   any thread.
// Ownership: the object holds the lock until it is destroyed.  The descriptor is closed on exec; a
//            child that is forked without exec would go on holding the lock.
// Errors:    kAlreadyExists: another process holds it, with its pid.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "common/result.h"
#include "storage_tiers/uring_descriptor.h"

namespace holdfast::storage_tiers {

class FolderLock {
 public:
  // "folder_fd" is borrowed; "folder" is its name for messages and "what" says what it holds, as in
  // "the arena".
  [[nodiscard]] static Result<FolderLock> Take(int folder_fd,
                                               const std::string& folder,
                                               const std::string& what);

  // The process that holds the lock of "folder", found without taking it, which could make a daemon
  // fail that starts just then.  nullopt: none that this process can see (one in another container
  // is not seen).
  [[nodiscard]] static std::optional<std::int32_t> HolderOf(const std::string& folder);

 private:
  explicit FolderLock(Descriptor file) : file_(std::move(file)) {}

  Descriptor file_;
};

// Opens a private folder, which it creates (in an existing parent) if "create" and it is not there.
// A folder that is a link, of another owner, or open to others is refused: kPermission.
[[nodiscard]] Result<Descriptor> OpenPrivateFolder(int parent_fd,
                                                   const std::string& path,
                                                   bool create);

}  // namespace holdfast::storage_tiers
