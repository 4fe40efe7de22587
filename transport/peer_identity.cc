#include "transport/peer_identity.h"

#include <cerrno>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>
#include <utility>

#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace holdfast::transport {
namespace {

// <sys/socket.h> of Debian 12 does not know it yet.
constexpr int kSoPeerPidfd = 77;

Result<OwnedFd> OpenPeerPidfd(int socket_fd, pid_t pid) {
  int pidfd = -1;
  socklen_t length = sizeof pidfd;
  if (::getsockopt(socket_fd, SOL_SOCKET, kSoPeerPidfd, &pidfd, &length) == 0 && pidfd >= 0) {
    return OwnedFd(pidfd);
  }
  // ENOPROTOOPT: an older kernel.  ESRCH and EINVAL: dead and reaped; the call below says it too.
  pidfd = static_cast<int>(::syscall(SYS_pidfd_open, pid, 0));
  if (pidfd >= 0) {
    return OwnedFd(pidfd);
  }
  const int error = errno;
  if (error == ESRCH) {
    return Error(Errc::kUnavailable, "process " + std::to_string(pid) + " is dead already", error);
  }
  return ErrnoError(error, "pidfd_open of process " + std::to_string(pid));
}

// Field 22 of /proc/<pid>/stat; the second one is a name in parentheses that can hold anything.
std::uint64_t StartTicks(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  const std::size_t name_end = text.rfind(')');
  if (name_end == std::string::npos) {
    return 0;
  }
  constexpr int kFieldsBetween = 19;
  std::istringstream fields(text.substr(name_end + 1));
  std::string skipped;
  for (int i = 0; i < kFieldsBetween; ++i) {
    fields >> skipped;
  }
  std::uint64_t ticks = 0;
  return fields >> ticks ? ticks : 0;
}

}  // namespace

Result<PeerIdentity> ReadPeerIdentity(int socket_fd) {
  ucred credentials{};
  socklen_t length = sizeof credentials;
  if (::getsockopt(socket_fd, SOL_SOCKET, SO_PEERCRED, &credentials, &length) != 0) {
    return ErrnoError(errno, "SO_PEERCRED of a client's socket");
  }
  if (credentials.pid <= 0) {
    return Error(Errc::kPermission,
                 "the client is in a pid namespace that holdfastd cannot see: run holdfastd in the "
                 "host's pid namespace, or both in one");
  }
  PeerIdentity peer;
  peer.uid = credentials.uid;
  peer.gid = credentials.gid;
  peer.pid = credentials.pid;
  HF_TRY(peer.pidfd, OpenPeerPidfd(socket_fd, credentials.pid));
  peer.start_ticks = StartTicks(credentials.pid);
  return peer;
}

}  // namespace holdfast::transport
