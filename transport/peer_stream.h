// A connection between two daemons as bytes: TCP, or TLS over TCP.  A seam: the channel above does
// not know which, and tests and the fuzzer give it streams of their own.
//
// Threads:   the io thread.  One ReadSome and one Write may be under way at the same time, two of
//            the same kind not.
// Ownership: owns the socket.  Bytes passed to Write, and room passed to ReadSome, stay the
//            caller's and live until it returns.
// Errors:    kUnavailable when the peer is gone, kCancelled after Close or when cancelled,
//            kPermission for what TLS refuses.  After any error the only sensible call is Close.
// Lifecycle: construct -> Handshake -> ReadSome/Write -> Close -> destroy when both have returned.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/ip/tcp.hpp>

#include "common/bytes.h"
#include "common/result.h"
#include "transport/tls.h"

namespace holdfast::transport {

enum class Side : std::uint8_t { kConnects, kAccepts };

class PeerStream {
 public:
  virtual ~PeerStream() = default;

  // The node uuid (16 bytes) that the peer's certificate names; empty without TLS.
  [[nodiscard]] virtual boost::asio::awaitable<Result<std::string>> Handshake() = 0;

  // At least one byte; the end of the stream is kUnavailable.
  [[nodiscard]] virtual boost::asio::awaitable<Result<std::size_t>> ReadSome(
      MutableByteView room) = 0;

  // All of it.
  [[nodiscard]] virtual boost::asio::awaitable<Status> Write(ByteView bytes) = 0;

  // Before Close, where the peer is to read the last words: says that nothing follows, and throws
  // away what still comes, so that the kernel does not reset the connection under them.  With no
  // other call under way.
  [[nodiscard]] virtual boost::asio::awaitable<void> Linger(std::chrono::milliseconds limit) = 0;

  // Ends both directions; what waits returns.  May be called again.
  virtual void Close() = 0;

  [[nodiscard]] virtual boost::asio::any_io_executor Executor() = 0;

  // "10.0.0.7:41235", "[fd00::7]:41235": for logs.
  [[nodiscard]] virtual std::string Remote() const = 0;
  [[nodiscard]] virtual std::string Local() const = 0;
};

[[nodiscard]] std::unique_ptr<PeerStream> MakePlainStream(boost::asio::ip::tcp::socket socket);

[[nodiscard]] std::unique_ptr<PeerStream> MakeTlsStream(boost::asio::ip::tcp::socket socket,
                                                        std::shared_ptr<const TlsContext> tls,
                                                        Side side);

[[nodiscard]] std::string EndpointText(const boost::asio::ip::tcp::endpoint& endpoint);

// "10.0.0.7:7400" or "[fd00::7]:7400".  Names are not looked up here: that blocks for as long as a
// name server likes.  kInvalidArgument.
[[nodiscard]] Result<boost::asio::ip::tcp::endpoint> ParseEndpoint(const std::string& text);

}  // namespace holdfast::transport
