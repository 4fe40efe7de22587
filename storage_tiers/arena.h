// The arena: the daemon's snapshot memory, files in a tmpfs or hugetlbfs folder of its own.
//
// Files, because memory of a process dies with it: an arena outlives the trainer, the daemon and
// its upgrades, and a daemon that starts again finds every slot under its name.  It does not
// outlive the kernel: records about it count only together with uuid() and boot_id().
//
//   <folder>/lock                        held by the one daemon that uses the folder
//   <folder>/arena.uuid.<hex>            an empty file: a name appears whole or not at all, and
//                                        hugetlbfs has no write(2)
//   <folder>/slots/<slot>.<generation>   one file a slot, mode 0600
//
// What must never happen: a file that somebody else may still write to is given to a new snapshot
// (I7).  So a file is never reused under another name; it is quarantined (kept by its name, so that
// it also survives a restart of the daemon) until nobody holds it, then removed.  And nothing is
// deleted that the caller did not name.
//
// Threads:   blocking calls, worker threads only; any number of them at a time, on different slots.
// Ownership: owns the lock and the folders' descriptors; SlotFiles and QuarantinedFiles are the
//            caller's and may outlive the Arena.
// Errors:    of Open: kAlreadyExists (another daemon), kPermission (owner or mode of the folder),
//            kNoSpace (file system smaller than the budget), kCorruption (identity), kNotFound.
//            After an error of any call the folder is as it was before it.
// Durability: memory; names and bytes live until the folder's file system is unmounted.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "common/result.h"
#include "common/units.h"
#include "storage_tiers/arena_checks.h"
#include "storage_tiers/arena_folder_lock.h"
#include "storage_tiers/memory_policy.h"
#include "storage_tiers/slot_file.h"
#include "storage_tiers/slot_file_quarantine.h"
#include "storage_tiers/uring_descriptor.h"

namespace holdfast::storage_tiers {

struct ArenaOptions {
  std::string folder;          // absolute; created with mode 0700 if its parent exists
  ByteCount budget_bytes = 0;  // what the core will use at most (I9); compared with what there is
  unsigned prefault_threads = 4;
  std::shared_ptr<const MemoryPolicy> memory_policy = SystemMemoryPolicy();
};

// A file under slots/ with a name of ours.
struct ArenaFile {
  SlotName name;
  ByteCount size = 0;             // its length
  ByteCount allocated_bytes = 0;  // the memory that it takes
};

struct ArenaListing {
  std::vector<ArenaFile> files;        // by name
  std::vector<std::string> strangers;  // other entries, at most kMaxStrangers; left alone
};

class Arena {
 public:
  static constexpr std::size_t kMaxStrangers = 256;

  [[nodiscard]] static Result<std::unique_ptr<Arena>> Open(const ArenaOptions& options);

  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  // 16 bytes.  A folder that was emptied, or mounted anew, has another.
  [[nodiscard]] const std::string& uuid() const { return uuid_; }

  // Of the running kernel.
  [[nodiscard]] const std::string& boot_id() const { return boot_id_; }

  // Slot files have multiples of it: a page of the file system.
  [[nodiscard]] ByteCount page_bytes() const { return space_.page_bytes; }

  // What Open found that the operator should know, one line each, for the log.
  [[nodiscard]] const std::vector<std::string>& warnings() const { return warnings_; }

  // Creates the file with "capacity" rounded up (RoundedCapacity), maps it, and makes all its
  // pages, on NUMA node "node" if it can be.  kAlreadyExists: the name is taken.  kNoSpace: not
  // enough memory.  kCancelled. kInvalidArgument: no capacity, or one over the budget.  The file is
  // removed again after every error.
  [[nodiscard]] Result<std::shared_ptr<SlotFile>> CreateSlot(SlotName name,
                                                             ByteCount capacity,
                                                             const std::atomic<bool>& cancel,
                                                             std::int32_t node = kAnyNode) const;

  // Maps a file that an earlier daemon made.  kNotFound; kCorruption: its size is not "capacity",
  // the rounded one that CreateSlot's result had.
  [[nodiscard]] Result<std::shared_ptr<SlotFile>> OpenSlot(SlotName name, ByteCount capacity) const;

  // Watches a file that may still be written to, without a mapping; its name stays, so that a
  // daemon that restarts finds it again.  Remove it when it is no longer in use.
  [[nodiscard]] Result<QuarantinedFile> Quarantine(SlotName name) const;

  // The same, and removes the name: the memory comes back with the last user, whether we live or
  // not, but a daemon that restarts does not know of it.
  [[nodiscard]] Result<QuarantinedFile> Unlink(SlotName name) const;

  // Removes a file that nobody can write to any more, or one that no catalog record names (an
  // orphan: a crash between file and record).  Mappings keep the memory until they end.  kNotFound
  // if it is not there; kPermission for an entry that is not a slot file of ours.
  [[nodiscard]] Status Remove(SlotName name) const;

  // All entries under slots/.
  [[nodiscard]] Result<ArenaListing> ListFiles() const;

  // Memory that the files under slots/ take, as the file system says.  Unlinked files are not in
  // it.
  [[nodiscard]] Result<ByteCount> UsedBytes() const;

  // The size of a slot file that can hold "capacity": whole pages of the file system.
  [[nodiscard]] Result<ByteCount> RoundedCapacity(ByteCount capacity) const;

 private:
  Arena(const ArenaOptions& options, Descriptor folder, FolderLock lock, Descriptor slots);

  [[nodiscard]] Status ReadOrMakeUuid();
  [[nodiscard]] Status ReadBootId();
  [[nodiscard]] Status CheckSpace();

  // Opens a file for writing, checks that it is a private regular file of ours.
  struct OpenedFile {
    Descriptor file;
    ByteCount size = 0;
    FileIdentity identity;
  };

  [[nodiscard]] Result<OpenedFile> OpenChecked(SlotName name) const;
  [[nodiscard]] Result<std::shared_ptr<SlotFile>> FillNewFile(Descriptor file,
                                                              SlotName name,
                                                              ByteCount capacity,
                                                              const std::atomic<bool>& cancel,
                                                              std::int32_t node) const;
  [[nodiscard]] Status UnlinkName(SlotName name) const;
  [[nodiscard]] std::string PathOf(SlotName name) const;

  // Constant after Open.
  const ArenaOptions options_;
  const NodePlacement placement_;
  Descriptor folder_;
  FolderLock lock_;
  Descriptor slots_;
  std::string uuid_;
  std::string boot_id_;
  ArenaSpace space_;
  std::vector<std::string> warnings_;
};

}  // namespace holdfast::storage_tiers
