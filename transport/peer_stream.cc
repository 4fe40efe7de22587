#include "transport/peer_stream.h"

#include <optional>
#include <utility>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/ssl/error.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/ssl/verify_context.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <fcntl.h>
#include <openssl/ssl.h>

#include "common/units.h"
#include "common/with_timeout.h"
#include "transport/openssl_types.h"
#include "transport/tls_impl.h"

namespace holdfast::transport {
namespace {

namespace asio = boost::asio;
using Socket = asio::ip::tcp::socket;

constexpr auto kAwaitTuple = asio::as_tuple(asio::use_awaitable);
constexpr std::size_t kMaxLingerBytes = kMiB;

void CloseSocket(Socket* socket) {
  boost::system::error_code ignored;
  // Shutdown first: a process that inherited the descriptor must not keep the peer waiting.
  (void)socket->shutdown(Socket::shutdown_both, ignored);
  (void)socket->close(ignored);
}

asio::awaitable<Status> ReadToEnd(Socket* socket) {
  char thrown_away[4 * kKiB];
  for (std::size_t bytes = 0; bytes < kMaxLingerBytes;) {
    const auto room = asio::buffer(thrown_away);
    const auto [error, count] = co_await socket->async_read_some(room, kAwaitTuple);
    if (error) {
      break;
    }
    bytes += count;
  }
  co_return Ok();
}

asio::awaitable<void> LingerOn(Socket* socket, std::chrono::milliseconds limit) {
  boost::system::error_code failed;
  (void)socket->shutdown(Socket::shutdown_send, failed);
  if (!failed) {
    (void)co_await WithTimeout(limit, ReadToEnd(socket));
  }
}

// What plain and TLS streams have in common: the socket and its names.
struct NamedSocket {
  explicit NamedSocket(Socket* socket) {
    boost::system::error_code ignored;
    remote = EndpointText(socket->remote_endpoint(ignored));
    local = EndpointText(socket->local_endpoint(ignored));
    (void)socket->set_option(asio::ip::tcp::no_delay(true), ignored);
    ::fcntl(socket->native_handle(), F_SETFD, FD_CLOEXEC);
  }

  std::string remote;
  std::string local;
};

class PlainStream final : public PeerStream {
 public:
  explicit PlainStream(Socket socket) : socket_(std::move(socket)), names_(&socket_) {}

  asio::awaitable<Result<std::string>> Handshake() override { co_return std::string(); }

  asio::awaitable<Result<std::size_t>> ReadSome(MutableByteView room) override {
    const auto buffer = asio::buffer(room.data(), room.size());
    const auto [error, count] = co_await socket_.async_read_some(buffer, kAwaitTuple);
    if (error) {
      co_return TlsError(error, names_.remote);
    }
    co_return count;
  }

  asio::awaitable<Status> Write(ByteView bytes) override {
    const auto buffer = asio::buffer(bytes.data(), bytes.size());
    const auto [error, count] = co_await asio::async_write(socket_, buffer, kAwaitTuple);
    if (error) {
      co_return TlsError(error, names_.remote);
    }
    co_return Ok();
  }

  asio::awaitable<void> Linger(std::chrono::milliseconds limit) override {
    return LingerOn(&socket_, limit);
  }

  void Close() override { CloseSocket(&socket_); }

  asio::any_io_executor Executor() override { return socket_.get_executor(); }

  std::string Remote() const override { return names_.remote; }

  std::string Local() const override { return names_.local; }

 private:
  Socket socket_;
  const NamedSocket names_;
};

class TlsStream final : public PeerStream {
 public:
  TlsStream(Socket socket, std::shared_ptr<const TlsContext> tls, Side side)
      : tls_(std::move(tls)),
        side_(side),
        names_(&socket),
        stream_(std::move(socket), tls_->impl().context) {
    boost::system::error_code ignored;
    auto verify = [this](bool accepted, asio::ssl::verify_context& context) {
      return Verify(accepted, context.native_handle());
    };
    (void)stream_.set_verify_callback(verify, ignored);
  }

  asio::awaitable<Result<std::string>> Handshake() override {
    const auto type =
        side_ == Side::kConnects ? asio::ssl::stream_base::client : asio::ssl::stream_base::server;
    const auto [error] = co_await stream_.async_handshake(type, kAwaitTuple);
    if (error) {
      co_return Failure(error);
    }
    const CertificatePtr certificate(SSL_get1_peer_certificate(stream_.native_handle()));
    std::string uuid = NodeUuidOf(certificate.get());
    if (uuid.empty()) {
      co_return Error(Errc::kPermission,
                      "the certificate of " + names_.remote + " (" +
                          SubjectText(certificate.get()) +
                          ") names no node; issue one with `holdfast certs issue`");
    }
    co_return uuid;
  }

  asio::awaitable<Result<std::size_t>> ReadSome(MutableByteView room) override {
    const auto buffer = asio::buffer(room.data(), room.size());
    const auto [error, count] = co_await stream_.async_read_some(buffer, kAwaitTuple);
    if (error) {
      co_return Failure(error);
    }
    co_return count;
  }

  asio::awaitable<Status> Write(ByteView bytes) override {
    const auto buffer = asio::buffer(bytes.data(), bytes.size());
    const auto [error, count] = co_await asio::async_write(stream_, buffer, kAwaitTuple);
    if (error) {
      co_return Failure(error);
    }
    co_return Ok();
  }

  asio::awaitable<void> Linger(std::chrono::milliseconds limit) override {
    return LingerOn(&stream_.next_layer(), limit);
  }

  void Close() override { CloseSocket(&stream_.next_layer()); }

  asio::any_io_executor Executor() override { return stream_.get_executor(); }

  std::string Remote() const override { return names_.remote; }

  std::string Local() const override { return names_.local; }

 private:
  bool Verify(bool accepted, X509_STORE_CTX* context) {
    if (!accepted && refused_.empty()) {
      const int why = X509_STORE_CTX_get_error(context);
      // Of another cluster: its authority is what is not known, but the node is who came.
      const X509* certificate = why == X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN
                                    ? X509_STORE_CTX_get0_cert(context)
                                    : X509_STORE_CTX_get_current_cert(context);
      refused_ = names_.remote + ": " + VerifyText(why, certificate, tls_->impl().authority);
    }
    return accepted;
  }

  Error Failure(const boost::system::error_code& error) const {
    if (!refused_.empty() && error.category() == asio::error::get_ssl_category()) {
      return Error(Errc::kPermission, refused_);
    }
    return TlsError(error, names_.remote);
  }

  const std::shared_ptr<const TlsContext> tls_;
  const Side side_;
  const NamedSocket names_;
  asio::ssl::stream<Socket> stream_;
  std::string refused_;  // why the peer's certificate was not accepted
};

}  // namespace

std::unique_ptr<PeerStream> MakePlainStream(Socket socket) {
  return std::make_unique<PlainStream>(std::move(socket));
}

std::unique_ptr<PeerStream> MakeTlsStream(Socket socket,
                                          std::shared_ptr<const TlsContext> tls,
                                          Side side) {
  return std::make_unique<TlsStream>(std::move(socket), std::move(tls), side);
}

std::string EndpointText(const asio::ip::tcp::endpoint& endpoint) {
  const std::string address = endpoint.address().to_string();
  const bool brackets = endpoint.address().is_v6();
  return (brackets ? "[" + address + "]" : address) + ":" + std::to_string(endpoint.port());
}

Result<asio::ip::tcp::endpoint> ParseEndpoint(const std::string& text) {
  const std::size_t colon = text.rfind(':');
  std::string host = text.substr(0, colon);
  const std::string port = colon == std::string::npos ? "" : text.substr(colon + 1);
  const bool brackets = host.size() > 2 && host.front() == '[' && host.back() == ']';
  if (brackets) {
    host = host.substr(1, host.size() - 2);
  }
  boost::system::error_code error;
  const auto address = asio::ip::make_address(host, error);
  const bool digits = !port.empty() && port.size() <= 5 &&
                      port.find_first_not_of("0123456789") == std::string::npos;
  const int number = digits ? std::stoi(port) : -1;
  if (error || number < 0 || number > 65'535 || address.is_v6() != brackets) {
    return Error(Errc::kInvalidArgument,
                 "\"" + text.substr(0, 100) +
                     "\" is no IP address with port; one looks like 10.0.0.7:7400 or "
                     "[fd00::7]:7400");
  }
  return asio::ip::tcp::endpoint(address, static_cast<std::uint16_t>(number));
}

}  // namespace holdfast::transport
