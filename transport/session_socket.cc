#include "transport/session_socket.h"

#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <sys/socket.h>

#include "transport/messages.h"

namespace holdfast::transport {
namespace {

namespace asio = boost::asio;

constexpr auto kAwaitTuple = asio::as_tuple(asio::use_awaitable);

Error SocketError(const boost::system::error_code& error, const char* what) {
  if (error == asio::error::operation_aborted || error == asio::error::bad_descriptor) {
    return Error(Errc::kCancelled, std::string(what) + ": the session was closed", error.value());
  }
  if (error == asio::error::eof || error == asio::error::connection_reset ||
      error == asio::error::broken_pipe) {
    return Error(Errc::kUnavailable, "the client closed the connection", error.value());
  }
  return ErrnoError(error.value(), what);
}

// One sendmsg that does not block, the descriptor (-1: none) with its first byte.
ssize_t SendOnce(int socket_fd, ByteView bytes, int fd) {
  iovec part{const_cast<std::byte*>(bytes.data()), bytes.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  if (fd >= 0) {
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    cmsghdr* rights = CMSG_FIRSTHDR(&message);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(rights), &fd, sizeof fd);
  }
  return ::sendmsg(socket_fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

}  // namespace

SessionSocket::SessionSocket(Socket socket) : socket_(std::move(socket)) {}

Result<PeerIdentity> SessionSocket::Peer() {
  return ReadPeerIdentity(socket_.native_handle());
}

asio::awaitable<Result<proto::ClientMessage>> SessionSocket::Receive() {
  while (true) {
    HF_CO_TRY(const auto payload, decoder_.Next());
    if (payload.has_value()) {
      auto message = ParseClientMessage(*payload);
      decoder_.Trim();
      co_return message;
    }
    const MutableByteView space = decoder_.Space();
    const auto buffer = asio::buffer(space.data(), space.size());
    const auto [error, count] = co_await socket_.async_read_some(buffer, kAwaitTuple);
    if (error) {
      co_return SocketError(error, "receive from a client");
    }
    decoder_.Commit(count);
  }
}

asio::awaitable<Status> SessionSocket::Send(const proto::ServerMessage& message, int fd) {
  if (CarriesFd(message) != (fd >= 0)) {
    co_return Error(Errc::kInvalidArgument, "has_fd of a message and its descriptor disagree");
  }
  HF_CO_TRY(const std::string frame, EncodeFrame(message));
  co_return co_await SendBytes(AsBytes(frame), fd);
}

asio::awaitable<Status> SessionSocket::SendBytes(ByteView frame, int fd) {
  std::size_t sent = 0;
  while (sent < frame.size()) {
    if (!socket_.is_open()) {
      co_return Error(Errc::kCancelled, "send to a client: the session was closed");
    }
    const ssize_t count =
        SendOnce(socket_.native_handle(), frame.subspan(sent), sent == 0 ? fd : -1);
    if (count >= 0) {
      sent += static_cast<std::size_t>(count);
      continue;
    }
    const int number = errno;
    if (number == EINTR) {
      continue;
    }
    if (number != EAGAIN) {
      const boost::system::error_code failed(number, boost::system::system_category());
      co_return SocketError(failed, "send to a client");
    }
    const auto [error] = co_await socket_.async_wait(Socket::wait_write, kAwaitTuple);
    if (error) {
      co_return SocketError(error, "send to a client");
    }
  }
  co_return Ok();
}

void SessionSocket::Close() {
  boost::system::error_code ignored;
  // Shutdown first: a process that inherited the descriptor must not keep the client waiting.
  (void)socket_.shutdown(Socket::shutdown_both, ignored);
  (void)socket_.close(ignored);
}

}  // namespace holdfast::transport
