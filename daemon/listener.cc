#include "daemon/listener.h"

#include <cerrno>
#include <cstring>
#include <utility>

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "transport/owned_fd.h"

namespace holdfast::daemon {
namespace {

using boost::asio::local::stream_protocol;
using transport::OwnedFd;

constexpr int kBacklog = 256;

Result<sockaddr_un> AddressOf(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) {
    return Error(Errc::kInvalidArgument,
                 "the socket path " + path + " has " + std::to_string(path.size()) +
                     " bytes; the kernel takes " + std::to_string(sizeof address.sun_path - 1) +
                     ": set clients.socket to a shorter one");
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

// Ok: the name is free now.
Status ClearName(const std::string& path, const sockaddr_un& address) {
  struct stat info {};

  if (::lstat(path.c_str(), &info) != 0) {
    return errno == ENOENT ? Status(Ok()) : ErrnoError(errno, "look at the socket " + path);
  }
  if (!S_ISSOCK(info.st_mode)) {
    return Error(Errc::kAlreadyExists,
                 path + " exists and is no socket; remove it or set clients.socket");
  }
  const OwnedFd probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!probe.Valid()) {
    return ErrnoError(errno, "make a socket");
  }
  const auto* generic = reinterpret_cast<const sockaddr*>(&address);
  if (::connect(probe.Get(), generic, sizeof address) == 0 || errno == EAGAIN) {
    return Error(Errc::kAlreadyExists,
                 "another holdfastd answers on " + path + "; stop it or set clients.socket");
  }
  if (errno != ECONNREFUSED) {
    return ErrnoError(errno, "ask who listens on " + path);
  }
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) {
    return ErrnoError(errno, "remove the socket that a dead daemon left, " + path);
  }
  return Ok();
}

Result<OwnedFd> BindAndListen(const std::string& path, const sockaddr_un& address, bool for_all) {
  OwnedFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket.Valid()) {
    return ErrnoError(errno, "make a socket");
  }
  // The mode is given by the umask of bind: it is never wider than wanted, not even for a moment.
  const mode_t old_mask = ::umask(for_all ? 0111 : 0177);
  const int bound =
      ::bind(socket.Get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
  const int number = errno;
  ::umask(old_mask);
  if (bound != 0 && number == ENOENT) {
    const std::string folder = path.substr(0, path.rfind('/'));
    return Error(Errc::kNotFound,
                 "the socket " + path + " cannot be made, since there is no folder " + folder +
                     ": create that one, or name another socket (--socket, clients.socket)",
                 number);
  }
  if (bound != 0) {
    return ErrnoError(number, "listen on " + path);
  }
  if (::listen(socket.Get(), kBacklog) != 0) {
    return ErrnoError(errno, "listen on " + path);
  }
  return socket;
}

}  // namespace

Result<Listener> Listener::Open(boost::asio::io_context& io,
                                const std::string& path,
                                bool for_all) {
  HF_TRY(const sockaddr_un address, AddressOf(path));
  HF_TRYV(ClearName(path, address));
  HF_TRY(OwnedFd socket, BindAndListen(path, address, for_all));

  struct stat info {};

  if (::lstat(path.c_str(), &info) != 0) {
    return ErrnoError(errno, "look at the socket " + path);
  }
  boost::system::error_code error;
  Acceptor acceptor(io);
  acceptor.assign(stream_protocol(), socket.Get(), error);
  if (error) {
    return ErrnoError(error.value(), "listen on " + path);
  }
  (void)socket.Release();
  return Listener(std::move(acceptor), path, info.st_dev, info.st_ino);
}

Listener::Listener(Acceptor acceptor, std::string path, dev_t device, ino_t inode)
    : acceptor_(std::move(acceptor)), path_(std::move(path)), device_(device), inode_(inode) {}

Listener::Listener(Listener&& other) noexcept
    : acceptor_(std::move(other.acceptor_)),
      path_(std::exchange(other.path_, std::string())),
      device_(other.device_),
      inode_(other.inode_) {}

Listener::~Listener() {
  Close();
}

void Listener::Close() {
  if (path_.empty()) {
    return;
  }

  struct stat info {};

  if (::lstat(path_.c_str(), &info) == 0 && info.st_dev == device_ && info.st_ino == inode_) {
    ::unlink(path_.c_str());
  }
  boost::system::error_code ignored;
  (void)acceptor_.close(ignored);
  path_.clear();
}

}  // namespace holdfast::daemon
