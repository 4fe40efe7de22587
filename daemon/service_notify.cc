#include "daemon/service_notify.h"

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "daemon/config.h"
#include "transport/owned_fd.h"

namespace holdfast::daemon {
namespace {

std::optional<std::uint64_t> NumberVariable(const char* name) {
  const std::string text = EnvironmentVariable(name);
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || error != std::errc() || end != text.data() + text.size()) {
    return std::nullopt;
  }
  return value;
}

}  // namespace

void NotifyService(std::string_view state) {
  const std::string path = EnvironmentVariable("NOTIFY_SOCKET");
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path) {
    return;
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  if (path.front() == '@') {
    address.sun_path[0] = '\0';  // an abstract socket
  }
  const transport::OwnedFd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket.Valid()) {
    return;
  }
  const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size());
  (void)::sendto(socket.Get(),
                 state.data(),
                 state.size(),
                 MSG_NOSIGNAL,
                 reinterpret_cast<const sockaddr*>(&address),
                 length);
}

std::optional<std::chrono::milliseconds> WatchdogInterval() {
  const auto microseconds = NumberVariable("WATCHDOG_USEC");
  const auto pid = NumberVariable("WATCHDOG_PID");
  if (!microseconds.has_value() || *microseconds == 0 ||
      (pid.has_value() && *pid != static_cast<std::uint64_t>(::getpid()))) {
    return std::nullopt;
  }
  return std::chrono::milliseconds(*microseconds / 2'000 + 1);
}

}  // namespace holdfast::daemon
