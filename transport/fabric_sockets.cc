#include "transport/fabric_sockets.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include <dirent.h>
#include <netinet/in.h>
#include <sys/socket.h>

namespace holdfast::transport {

namespace {

// Family, port and IP: the other fields of a sockaddr_in6 differ between ends.
bool Same(const sockaddr_storage& a, const sockaddr_storage& b) {
  if (a.ss_family != b.ss_family) {
    return false;
  }
  if (a.ss_family == AF_INET) {
    const auto& left = reinterpret_cast<const sockaddr_in&>(a);
    const auto& right = reinterpret_cast<const sockaddr_in&>(b);
    return left.sin_port == right.sin_port && left.sin_addr.s_addr == right.sin_addr.s_addr;
  }
  const auto& left = reinterpret_cast<const sockaddr_in6&>(a);
  const auto& right = reinterpret_cast<const sockaddr_in6&>(b);
  return left.sin6_port == right.sin6_port &&
         std::memcmp(&left.sin6_addr, &right.sin6_addr, sizeof left.sin6_addr) == 0;
}

}  // namespace

std::size_t EndConnections(const std::string& address) {
  sockaddr_storage wanted{};
  std::memcpy(&wanted, address.data(), std::min(address.size(), sizeof wanted));
  if (wanted.ss_family != AF_INET && wanted.ss_family != AF_INET6) {
    return 0;
  }
  DIR* folder = opendir("/proc/self/fd");
  if (folder == nullptr) {
    return 0;
  }
  std::size_t ended = 0;
  // NOLINTNEXTLINE(concurrency-mt-unsafe): the stream is this function's own
  while (const dirent* entry = readdir(folder)) {
    const int descriptor = std::atoi(entry->d_name);
    sockaddr_storage peer{};
    socklen_t size = sizeof peer;
    // Another thread may close and reuse a number meanwhile, but not one that has this peer.
    if (entry->d_name[0] != '.' &&
        getpeername(descriptor, reinterpret_cast<sockaddr*>(&peer), &size) == 0 &&
        Same(peer, wanted) && shutdown(descriptor, SHUT_RDWR) == 0) {
      ++ended;
    }
  }
  closedir(folder);
  return ended;
}

}  // namespace holdfast::transport
