// Who is at the other end of a Unix socket, from the kernel's word alone.
//
// A job belongs to a uid, and the death of a trainer is what its pidfd says: end of stream alone
// proves neither life nor death (a forked worker keeps a socket open).
//
// Threads:   any thread.
// Ownership: owns the pidfd; the socket is borrowed for the call.
#pragma once

#include <cstdint>

#include <sys/types.h>

#include "common/result.h"
#include "transport/owned_fd.h"

namespace holdfast::transport {

struct PeerIdentity {
  uid_t uid = 0;
  gid_t gid = 0;
  pid_t pid = 0;  // as this process's pid namespace sees it
  OwnedFd pidfd;  // readable once the process is dead
  // When the process started, in clock ticks since the boot: with the pid, which process it is.  0
  // where /proc does not tell.
  std::uint64_t start_ticks = 0;
};

// Credentials are those of the moment of connect().  kPermission where the peer is in a pid
// namespace that this process cannot see (its death could not be told); kUnavailable where it is
// dead already.  On kernels before 6.5 the pidfd is opened by number: a process that connected,
// died and had its number taken within this call would be mistaken; the caller gains nothing by it
// since uid and gid are of the connection itself.
[[nodiscard]] Result<PeerIdentity> ReadPeerIdentity(int socket_fd);

}  // namespace holdfast::transport
