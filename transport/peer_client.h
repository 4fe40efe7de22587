// This node's way to one other node: connects, and connects again for as long as it lives.
//
// Several addresses may be given; they are tried in turn, and the node uuid decides whether the
// right node answers.  Pauses between tries grow from 10 ms to 1 s, with some chance in them, so
// that a cluster that comes back does not knock in step.
//
// Threads:   the io thread only.
// Ownership: owns its task; borrows the context.
// Errors:    of Call: kUnavailable at once where there is no connection, with the last reason; else
//            PeerChannel's.
// Lifecycle: construct -> Start -> Call at any time -> Stop -> Join -> destroy.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/ip/tcp.hpp>

#include "common/result.h"
#include "common/task_group.h"
#include "transport/peer_channel.h"
#include "transport/peer_context.h"

namespace holdfast::transport {

struct PeerAddress {
  std::string node_uuid;               // 16 bytes; empty: whoever answers (tests, discovery)
  std::vector<std::string> endpoints;  // "10.0.0.7:7400", one or more
  std::string bind;                    // an IP address of this machine; empty: the kernel chooses
};

class PeerClient {
 public:
  PeerClient(const boost::asio::any_io_executor& executor,
             PeerContext* context,
             PeerAddress address);

  PeerClient(const PeerClient&) = delete;
  PeerClient& operator=(const PeerClient&) = delete;

  // kInvalidArgument: an address that is none.  kPermission: the certificate is another node's.
  [[nodiscard]] Status Start();

  [[nodiscard]] boost::asio::awaitable<Result<proto::PeerReply>> Call(
      proto::PeerRequest request, std::chrono::milliseconds limit);

  // kTimeout, with the reason why there is no connection yet.
  [[nodiscard]] boost::asio::awaitable<Status> WaitConnected(std::chrono::milliseconds limit);

  // Null while there is none.
  [[nodiscard]] const std::shared_ptr<PeerChannel>& channel() const { return channel_; }

  // "10.0.0.9:41235 -> 10.0.0.7:7400"; empty while there is no connection.
  [[nodiscard]] std::string InUse() const;

  // Why there is no connection, or why the last one ended.
  [[nodiscard]] const Error& last_error() const { return last_error_; }

  // Connections that said hello, since Start.
  [[nodiscard]] std::uint64_t connects() const { return connects_; }

  void Stop();
  [[nodiscard]] boost::asio::awaitable<bool> Join(std::chrono::milliseconds limit);

 private:
  [[nodiscard]] boost::asio::awaitable<void> Run();
  [[nodiscard]] boost::asio::awaitable<Result<std::shared_ptr<PeerChannel>>> Connect(
      boost::asio::ip::tcp::endpoint to);
  [[nodiscard]] boost::asio::awaitable<void> Use(std::shared_ptr<PeerChannel> channel);
  void NoteFailure(const Error& error);

  const boost::asio::any_io_executor executor_;
  PeerContext* const context_;
  const PeerAddress address_;
  std::vector<boost::asio::ip::tcp::endpoint> endpoints_;
  std::shared_ptr<PeerChannel> channel_;
  Error last_error_;
  std::string last_logged_;
  std::uint64_t connects_ = 0;
  TaskGroup tasks_;
};

}  // namespace holdfast::transport
