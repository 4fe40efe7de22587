#include "transport/unix_socket.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

namespace holdfast::transport {
namespace {

Result<sockaddr_un> AddressOf(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path) {
    return Error(Errc::kInvalidArgument,
                 "socket path \"" + path + "\" must have 1 to " +
                     std::to_string(sizeof address.sun_path - 1) + " bytes");
  }
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  return address;
}

Error ConnectError(int error, const std::string& path) {
  switch (error) {
    case ENOENT:
    case ECONNREFUSED:
      return Error(Errc::kUnavailable,
                   "no holdfastd listens at " + path + ": start one, or name its socket",
                   error);
    case EAGAIN:
      return Error(Errc::kTimeout, "holdfastd at " + path + " does not accept connections", error);
    default:
      return ErrnoError(error, "connect to " + path);
  }
}

// A blocking connect waits for room in the listener's queue for as long as SO_SNDTIMEO says.
Status ConnectBefore(int fd, const sockaddr_un& address, MonotonicTime deadline) {
  while (true) {
    const auto left =
        std::chrono::duration_cast<std::chrono::microseconds>(deadline - SystemClock().Now());
    const auto wait = std::max(left, std::chrono::microseconds(1000)).count();  // 0 is for ever
    const timeval timeout{wait / 1'000'000, wait % 1'000'000};
    if (::setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout) != 0) {
      return ErrnoError(errno, "SO_SNDTIMEO");
    }
    if (::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) {
      return Ok();
    }
    const int error = errno;
    if (error != EINTR) {
      return ConnectError(error, address.sun_path);
    }
    if (SystemClock().Now() >= deadline) {
      return ConnectError(EAGAIN, address.sun_path);
    }
  }
}

int PollMilliseconds(MonotonicTime deadline) {
  const auto left =
      std::chrono::ceil<std::chrono::milliseconds>(deadline - SystemClock().Now()).count();
  return static_cast<int>(std::clamp<std::int64_t>(left, 0, 3'600'000));
}

}  // namespace

UnixSocket::UnixSocket(OwnedFd socket) : socket_(std::move(socket)) {}

Result<std::unique_ptr<UnixSocket>> UnixSocket::Create() {
  OwnedFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd.Valid()) {
    return ErrnoError(errno, "socket for holdfastd");
  }
  return std::make_unique<UnixSocket>(std::move(fd));
}

Status UnixSocket::ConnectTo(const std::string& path, std::chrono::milliseconds timeout) {
  HF_TRY(const sockaddr_un address, AddressOf(path));
  return ConnectBefore(socket_.Get(), address, SystemClock().Now() + timeout);
}

Result<std::unique_ptr<UnixSocket>> UnixSocket::Connect(const std::string& path,
                                                        std::chrono::milliseconds timeout) {
  HF_TRY(auto socket, Create());
  HF_TRYV(socket->ConnectTo(path, timeout));
  return socket;
}

Status UnixSocket::WaitFor(short events, MonotonicTime deadline, const char* what) {
  while (true) {
    pollfd entry{socket_.Get(), events, 0};
    const int ready = ::poll(&entry, 1, PollMilliseconds(deadline));
    if (ready > 0) {
      return Ok();  // also for an error or a hang-up: the call that follows tells which
    }
    if (ready < 0 && errno != EINTR) {
      return ErrnoError(errno, "poll of the daemon's socket");
    }
    if (SystemClock().Now() >= deadline) {
      return Error(Errc::kTimeout, std::string("holdfastd does not ") + what);
    }
  }
}

Status UnixSocket::Send(ByteView frame, int fd, std::chrono::milliseconds timeout) {
  if (send_broken_.load(std::memory_order_relaxed)) {
    return Error(Errc::kUnavailable, "an earlier message to holdfastd was cut");
  }
  const MonotonicTime deadline = SystemClock().Now() + timeout;
  std::size_t sent = 0;
  while (sent < frame.size()) {
    iovec part{const_cast<std::byte*>(frame.data()) + sent, frame.size() - sent};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
    if (fd >= 0 && sent == 0) {
      message.msg_control = control;
      message.msg_controllen = sizeof control;
      cmsghdr* rights = CMSG_FIRSTHDR(&message);
      rights->cmsg_level = SOL_SOCKET;
      rights->cmsg_type = SCM_RIGHTS;
      rights->cmsg_len = CMSG_LEN(sizeof(int));
      std::memcpy(CMSG_DATA(rights), &fd, sizeof fd);
    }
    const ssize_t count = ::sendmsg(socket_.Get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (count >= 0) {
      sent += static_cast<std::size_t>(count);
      continue;
    }
    const int error = errno;
    if (error == EINTR) {
      continue;
    }
    Status wait = error == EAGAIN ? WaitFor(POLLOUT, deadline, "read what is sent to it")
                                  : Status(ErrnoError(error, "send to holdfastd"));
    if (wait.has_error()) {
      send_broken_.store(true, std::memory_order_relaxed);
      if (error == EPIPE || error == ECONNRESET) {
        return Error(Errc::kUnavailable, "holdfastd closed the connection", error);
      }
      return wait;
    }
  }
  return Ok();
}

Result<ByteView> UnixSocket::Receive(std::chrono::milliseconds timeout) {
  const MonotonicTime deadline = SystemClock().Now() + timeout;
  while (true) {
    const std::uint64_t begin = decoder_.ConsumedBytes();
    if (!arrived_.empty() && arrived_.front().end <= begin) {
      arrived_.clear();
      return Error(Errc::kCorruption, "holdfastd sent a descriptor that no message announced");
    }
    HF_TRY(const auto payload, decoder_.Next());
    if (payload.has_value()) {
      frame_begin_ = begin;
      return *payload;
    }
    HF_TRYV(WaitFor(POLLIN, deadline, "answer"));
    HF_TRYV(ReadSome());
  }
}

Status UnixSocket::ReadSome() {
  const MutableByteView space = decoder_.Space();
  iovec part{space.data(), space.size()};
  // Room for two, so that a second descriptor is seen and not silently dropped.
  alignas(cmsghdr) char control[CMSG_SPACE(2 * sizeof(int))];
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  const ssize_t count = ::recvmsg(socket_.Get(), &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  if (count < 0) {
    const int error = errno;
    if (error == EAGAIN || error == EINTR) {
      return Ok();  // a false alarm of poll; the caller's deadline still holds
    }
    if (error == ECONNRESET) {
      return Error(Errc::kUnavailable, "holdfastd closed the connection", error);
    }
    return ErrnoError(error, "receive from holdfastd");
  }
  const std::uint64_t begin = decoder_.ReceivedBytes();
  decoder_.Commit(static_cast<std::size_t>(count));
  HF_TRYV(KeepArrived(&message, begin, decoder_.ReceivedBytes()));
  if (count == 0) {
    return Error(Errc::kUnavailable,
                 decoder_.InsideFrame() ? "holdfastd went away in the middle of a message"
                                        : "holdfastd closed the connection");
  }
  return Ok();
}

Status UnixSocket::KeepArrived(msghdr* message, std::uint64_t begin, std::uint64_t end) {
  std::size_t count = 0;
  for (cmsghdr* part = CMSG_FIRSTHDR(message); part != nullptr; part = CMSG_NXTHDR(message, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) {
      continue;
    }
    for (std::size_t at = 0; at + sizeof(int) <= part->cmsg_len - CMSG_LEN(0); at += sizeof(int)) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(part) + at, sizeof fd);
      arrived_.push_back(ArrivedFd{OwnedFd(fd), begin, end});
      ++count;
    }
  }
  if (count > 1 || (message->msg_flags & MSG_CTRUNC) != 0 || arrived_.size() > kMaxArrived) {
    arrived_.clear();
    return Error(Errc::kCorruption, "holdfastd sent more descriptors than messages announce");
  }
  return Ok();
}

Result<OwnedFd> UnixSocket::TakeFd() {
  if (arrived_.empty() || arrived_.front().begin > frame_begin_ ||
      arrived_.front().end <= frame_begin_) {
    return Error(Errc::kCorruption,
                 "holdfastd announced a descriptor that did not arrive (out of descriptors? see "
                 "ulimit -n)");
  }
  OwnedFd fd = std::move(arrived_.front().fd);
  arrived_.pop_front();
  return fd;
}

std::vector<int> UnixSocket::Arrived() const {
  std::vector<int> fds;
  for (const ArrivedFd& arrived : arrived_) {
    fds.push_back(arrived.fd.Get());
  }
  return fds;
}

Status UnixSocket::WaitReadable(std::chrono::milliseconds timeout) {
  return WaitFor(POLLIN, SystemClock().Now() + timeout, "answer");
}

void UnixSocket::Shutdown() {
  // shutdown and not close: the number must not be reused while another thread polls it.
  ::shutdown(socket_.Get(), SHUT_RDWR);
}

}  // namespace holdfast::transport
