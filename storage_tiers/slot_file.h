// One file of the arena, mapped: a slot's bytes, and the descriptors that clients get of it.
//
// Descriptors to hand out are always opened anew, never dup'ed: a duplicate shares our open file
// description, and whether somebody else still holds the file (QuarantinedFile::StillInUse) is told
// by the descriptions that are not ours.  For the same reason the ones opened here must be closed
// in the daemon as soon as they are sent.
//
// Threads:   any thread for the calls; what is in view() is synchronised by who owns the slot
//            (the core's states), not here.
// Ownership: owns the mapping and a descriptor.  Held by shared_ptr: a pipeline that reads the slot
//            keeps it mapped, also when the core lets go of it meanwhile.
// Errors:    a client can truncate the file at any time: reading then gives zeros and poisoned()
//            (mapping_guard.h).  Opening a descriptor: kIoError, kNoSpace (too many open files).
// Lifecycle: made by Arena only.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include <sys/types.h>

#include "common/bytes.h"
#include "common/result.h"
#include "common/units.h"
#include "storage_tiers/mapping_guard.h"
#include "storage_tiers/uring_descriptor.h"

namespace holdfast::storage_tiers {

// The file's name in the arena: "<slot>.<generation>", both decimal.
struct SlotName {
  std::uint32_t slot = 0;
  std::uint64_t generation = 0;

  [[nodiscard]] std::string ToString() const;

  // kInvalidArgument for everything that ToString does not write (signs, leading zeros, ...): each
  // file has one name, each name one file.
  [[nodiscard]] static Result<SlotName> Parse(std::string_view text);

  friend auto operator<=>(const SlotName&, const SlotName&) = default;
};

// Tells two files apart even if a name was used twice.
struct FileIdentity {
  dev_t device = 0;
  ino_t inode = 0;

  friend bool operator==(const FileIdentity&, const FileIdentity&) = default;
};

class SlotFile {
 public:
  // Maps all of "file", which has "capacity" bytes (checked by the caller), shared and writable.
  // The mapping is left out of core dumps (it is the user's model) and of forked children.
  [[nodiscard]] static Result<std::shared_ptr<SlotFile>> Map(Descriptor file,
                                                             SlotName name,
                                                             ByteCount capacity);

  SlotFile(const SlotFile&) = delete;
  SlotFile& operator=(const SlotFile&) = delete;
  ~SlotFile();

  [[nodiscard]] SlotName name() const { return name_; }

  [[nodiscard]] ByteCount capacity() const { return mapping_.size(); }

  // Whole capacity.  Valid as long as this object.
  [[nodiscard]] ByteView view() const { return mapping_; }

  [[nodiscard]] MutableByteView mutable_view() { return mapping_; }

  // A page was lost under us: all of view() is zeros now.  Ask after reading, beside the digest.
  [[nodiscard]] bool poisoned() const { return guard_.poisoned(); }

  // The file still has the length that it was made with, and no page of it was ever lost.  Asks the
  // file system for a fact in memory: does not block.
  [[nodiscard]] bool Intact() const;

  [[nodiscard]] FileIdentity identity() const { return identity_; }

  // For the client that fills the slot.
  [[nodiscard]] Result<Descriptor> OpenReadWriteFd() const;

  // For restore: neither write nor a writable mapping nor ftruncate works through it.  (A process
  // of the daemon's own uid, or root, can still open the file anew through /proc; another cannot.)
  [[nodiscard]] Result<Descriptor> OpenReadOnlyFd() const;

  // Ours; for fallocate and the like.  Never to be sent.
  [[nodiscard]] int fd() const { return file_.get(); }

 private:
  SlotFile(Descriptor file, SlotName name, FileIdentity identity, MutableByteView mapping);

  [[nodiscard]] Result<Descriptor> Reopen(int flags) const;

  // Constant after construction.
  Descriptor file_;
  SlotName name_;
  FileIdentity identity_;
  MutableByteView mapping_;
  GuardedRange guard_;  // ends before the mapping does
};

}  // namespace holdfast::storage_tiers
