// A slot file that a dead client may still write to, and the question whether anybody can.
//
// Copies that a killed trainer queued can land after its death, and a forked worker can keep its
// mapping (I7): such a file is never reused.  Its bytes stay in the budget until no
// process has it open or mapped; then it is removed.
//
// How it is told: the kernel grants a write lease (F_SETLEASE) on our descriptor only if no other
// open file description of the file exists, and every mapping holds one.  A lease sees all
// processes, also those of other users, containers and PID namespaces, and it is one system call.
// Where the file system has no leases, /proc is searched.
//
// Two limits, both on the side of the budget, not of correctness: pages that a device has pinned
// (cudaHostRegister) outlive the last mapping until the driver lets go of them, and a descriptor on
// its way in a socket counts as in use.
//
// Threads:   blocking, worker only; one thread at a time.
// Ownership: owns a descriptor of its own.
// Errors:    StillInUse: kUnavailable where it cannot be told; treat it as in use.
// Lifecycle: the daemon's own SlotFile of it counts as a user too: drop it first.
#pragma once

#include <string>

#include "common/result.h"
#include "common/units.h"
#include "storage_tiers/slot_file.h"
#include "storage_tiers/uring_descriptor.h"

namespace holdfast::storage_tiers {

class QuarantinedFile {
 public:
  // "file" is a writable descriptor whose open file description nobody shares.
  QuarantinedFile(Descriptor file, SlotName name, ByteCount size, FileIdentity identity);

  [[nodiscard]] SlotName name() const { return name_; }

  // As it was when the quarantine began; what the budget counts.
  [[nodiscard]] ByteCount size() const { return size_; }

  [[nodiscard]] FileIdentity identity() const { return identity_; }

  // Whether another process, or another description of this one, has the file open or mapped. False
  // is final for a file whose descriptors nobody hands out any more.
  [[nodiscard]] Result<bool> StillInUse() const;

 private:
  Descriptor file_;
  SlotName name_;
  ByteCount size_;
  FileIdentity identity_;
};

// The search of /proc that StillInUse falls back to.  "own_fd" is not counted.  Processes that we
// may not look into count as users if they are of our uid; if there are others of that kind, or if
// we live in a PID namespace and cannot see all processes, the answer is kUnavailable.
// "proc" is "/proc" but in tests.
[[nodiscard]] Result<bool> FindInProc(const std::string& proc, FileIdentity file, int own_fd);

}  // namespace holdfast::storage_tiers
