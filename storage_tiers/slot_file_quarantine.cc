#include "storage_tiers/slot_file_quarantine.h"

#include <cerrno>
#include <csignal>
#include <utility>

#include <fcntl.h>
#include <unistd.h>

namespace holdfast::storage_tiers {
namespace {

enum class Lease { kGranted, kRefused, kUnsupported };

Result<Lease> TryLease(int fd) {
  // Whoever opens the file while we hold the lease makes the kernel send a signal: SIGIO, which
  // ends the process, unless another is chosen.  SIGURG is ignored by default.
  if (::fcntl(fd, F_SETSIG, SIGURG) != 0) {
    return Lease::kUnsupported;
  }
  if (::fcntl(fd, F_SETLEASE, F_WRLCK) == 0) {
    if (::fcntl(fd, F_SETLEASE, F_UNLCK) != 0) {
      return ErrnoError(errno, "give back a lease");
    }
    return Lease::kGranted;
  }
  if (errno == EAGAIN) {
    return Lease::kRefused;
  }
  // Not ENOMEM: that says nothing about the file system.
  if (errno == EINVAL || errno == EOPNOTSUPP || errno == ENOLCK || errno == EACCES ||
      errno == EPERM) {
    return Lease::kUnsupported;
  }
  return ErrnoError(errno, "ask for a lease");
}

}  // namespace

QuarantinedFile::QuarantinedFile(Descriptor file,
                                 SlotName name,
                                 ByteCount size,
                                 FileIdentity identity)
    : file_(std::move(file)), name_(name), size_(size), identity_(identity) {}

Result<bool> QuarantinedFile::StillInUse() const {
  Result<Lease> lease = TryLease(file_.get());
  if (!lease) {
    return std::move(lease).error().WithContext("slot file " + name_.ToString());
  }
  if (lease.value() != Lease::kUnsupported) {
    return lease.value() == Lease::kRefused;
  }
  return FindInProc("/proc", identity_, file_.get());
}

}  // namespace holdfast::storage_tiers
