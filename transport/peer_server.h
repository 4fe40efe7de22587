// Listens for other daemons and serves their connections.
//
//   HF_TRYV(server.Listen("10.0.0.7", 7400, false));   // with certificates, or on loopback
//   server.Start();
//   ...
//   server.Stop();  co_await server.Join(std::chrono::seconds(5));
//
// Threads:   the io thread only; Listen also on the main thread before it runs.
// Ownership: owns the listening socket and the connections' tasks; borrows the context.
// Errors:    a peer that is refused was counted and told; the server goes on.
// Lifecycle: construct -> Listen -> Start -> Stop -> Join -> destroy.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <string>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/ip/tcp.hpp>

#include "common/result.h"
#include "common/task_group.h"
#include "transport/peer_channel.h"
#include "transport/peer_context.h"

namespace holdfast::transport {

struct PeerServerLimits {
  std::size_t max_connections = 1'024;
  // Of one node: a newer one ends the oldest, which a node that restarted may have left behind.
  std::size_t max_of_one_node = 4;
  // Connections that have not said who they are yet; further ones are closed.
  std::size_t max_strangers = 64;
};

class PeerServer {
 public:
  PeerServer(const boost::asio::any_io_executor& executor,
             PeerContext* context,
             PeerServerLimits limits = {});

  PeerServer(const PeerServer&) = delete;
  PeerServer& operator=(const PeerServer&) = delete;

  // "address": an IP address; "port" 0: any free one.  kPermission: CheckPeerSecurity, or the
  // certificate is another node's.  kAlreadyExists: somebody listens there.
  [[nodiscard]] Status Listen(const std::string& address, std::uint16_t port, bool allow_insecure);

  // Where it listens, "10.0.0.7:7400"; empty before.
  [[nodiscard]] const std::string& address() const { return address_; }

  void Start();

  // No new connections, and the end of those there are.
  void Stop();

  // True: nothing of it runs any more.
  [[nodiscard]] boost::asio::awaitable<bool> Join(std::chrono::milliseconds limit);

  [[nodiscard]] std::size_t connections() const { return channels_.size(); }

  [[nodiscard]] std::size_t strangers() const { return strangers_; }

 private:
  [[nodiscard]] boost::asio::awaitable<void> Accept();
  void Admit(boost::asio::ip::tcp::socket socket);
  [[nodiscard]] boost::asio::awaitable<void> Serve(boost::asio::ip::tcp::socket socket);
  [[nodiscard]] Status MakeRoom(const PeerFacts& facts);

  PeerContext* const context_;
  const PeerServerLimits limits_;
  boost::asio::ip::tcp::acceptor acceptor_;
  std::string address_;
  std::size_t strangers_ = 0;
  std::list<std::shared_ptr<PeerChannel>> channels_;  // oldest first
  TaskGroup tasks_;
};

}  // namespace holdfast::transport
