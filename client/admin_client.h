// Requests and answers for the CLI: one connection, one request at a time, no threads.
//
// Unlike a trainer's session it does not come back by itself: a command that lost its daemon says
// so and ends.
//
// Threads:   one at a time.
// Ownership: owns the socket; a descriptor that came with an answer goes to the caller.
// Errors:    the daemon's error reply as it is; kUnavailable where no daemon answers, kTimeout,
//            kVersionMismatch.  After any error but the daemon's own, connect anew.
// Lifecycle: Connect -> Call ... -> destroy.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "client/connection.h"
#include "common/result.h"
#include "proto/client.pb.h"
#include "transport/unix_socket.h"

namespace holdfast::client {

class AdminClient {
 public:
  // Connects and says hello as "program"; the hello's answer is kept.
  [[nodiscard]] static Result<std::unique_ptr<AdminClient>> Connect(
      const std::string& socket_path,
      const std::string& program,
      std::chrono::milliseconds timeout);

  // Sends "request" (its request_id is set here) and waits for its answer; events on the way are
  // dropped.  An error reply becomes the error.
  [[nodiscard]] Result<Reply> Call(proto::ClientMessage request, std::chrono::milliseconds timeout);

  [[nodiscard]] const proto::HelloReply& Daemon() const { return daemon_; }

 private:
  explicit AdminClient(std::unique_ptr<transport::UnixSocket> socket);

  const std::unique_ptr<transport::UnixSocket> socket_;
  std::uint64_t next_id_ = 1;
  proto::HelloReply daemon_;
};

}  // namespace holdfast::client
