// The daemon's end of a client's connection: typed messages over an Asio Unix socket.
//
// The client is not trusted.  Garbage costs it the connection; half a frame, or a reader that stops
// reading, costs the daemon the bytes that really arrived and one suspended coroutine, until
// Close().  Descriptors that a client sends are never installed: it has no message that carries
// one, and a plain read lets the kernel drop them.
//
// Threads:   the io thread only.  One Receive and one Send may be under way at the same time, two
// of
//            the same kind not: the session writes through one queue.
// Ownership: owns the socket.  Messages and descriptors passed to Send stay the caller's and must
//            live until it returns.
// Errors:    kUnavailable when the client is gone, kCancelled after Close(), kCorruption for bytes
//            that are no message.  After any error the only sensible call is Close().
// Lifecycle: construct from an accepted socket -> Receive/Send -> Close() -> destroy only when both
//            coroutines have returned.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/local/stream_protocol.hpp>

#include "common/bytes.h"
#include "common/result.h"
#include "proto/client.pb.h"
#include "transport/frame.h"
#include "transport/peer_identity.h"

namespace holdfast::transport {

class SessionSocket {
 public:
  using Socket = boost::asio::local::stream_protocol::socket;

  explicit SessionSocket(Socket socket);

  SessionSocket(const SessionSocket&) = delete;
  SessionSocket& operator=(const SessionSocket&) = delete;

  // Credentials and pidfd of the process that connected.
  [[nodiscard]] Result<PeerIdentity> Peer();

  // The next request.
  [[nodiscard]] boost::asio::awaitable<Result<proto::ClientMessage>> Receive();

  // Sends one message, with the descriptor "fd" if CarriesFd(message): the two must agree, else
  // kInvalidArgument and nothing is sent.
  [[nodiscard]] boost::asio::awaitable<Status> Send(const proto::ServerMessage& message, int fd);

  // Ends both directions; Receive and Send that wait return.  May be called again.
  void Close();

  [[nodiscard]] boost::asio::any_io_executor Executor() { return socket_.get_executor(); }

  // Memory that the client's unfinished message holds, for limits and metrics.
  [[nodiscard]] std::size_t BufferedBytes() const { return decoder_.CapacityBytes(); }

 private:
  [[nodiscard]] boost::asio::awaitable<Status> SendBytes(ByteView frame, int fd);

  Socket socket_;
  FrameDecoder decoder_;
};

}  // namespace holdfast::transport
