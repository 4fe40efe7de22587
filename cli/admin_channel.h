// The CLI's side of the daemon's socket, reduced to one call, so that commands can be tested with
// fixed answers.
//
// Threads:   one thread.
// Ownership: a reply owns the descriptor that came with it.
// Errors:    kUnavailable, kTimeout: nobody answers; what ErrorReply says, as the daemon said it.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "common/result.h"
#include "proto/client.pb.h"
#include "storage_tiers/uring_descriptor.h"

namespace holdfast::cli {

struct AdminReply {
  proto::ServerMessage message;
  storage_tiers::Descriptor descriptor;  // valid where the message says has_fd
};

class AdminChannel {
 public:
  AdminChannel() = default;
  AdminChannel(const AdminChannel&) = delete;
  AdminChannel& operator=(const AdminChannel&) = delete;
  virtual ~AdminChannel() = default;

  // Sends one request (its request_id is set here) and waits for its answer, which has the body
  // "expected".  An ErrorReply becomes an Error with the daemon's code.
  [[nodiscard]] virtual Result<AdminReply> Call(proto::ClientMessage request,
                                                proto::ServerMessage::BodyCase expected,
                                                std::chrono::milliseconds timeout) = 0;
};

// Connects to the first of "sockets" behind which a daemon answers.  The error, if none does, says
// which were tried, what each said and what to do.
[[nodiscard]] Result<std::unique_ptr<AdminChannel>> ConnectToDaemon(
    const std::vector<std::string>& sockets);

}  // namespace holdfast::cli
