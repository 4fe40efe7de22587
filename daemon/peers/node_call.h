// Asks the daemon of another node: what daemon/peers/ does and tests replace.
//
// Threads: the io thread only.
// Errors:  of the call: kUnavailable (no connection, and why), kTimeout, what the node answered.
#pragma once

#include <chrono>
#include <functional>
#include <string>

#include <boost/asio/awaitable.hpp>

#include "common/result.h"
#include "proto/peer.pb.h"

namespace holdfast::daemon {

using NodeCall = std::function<boost::asio::awaitable<Result<proto::PeerReply>>(
    std::string node, proto::PeerRequest request, std::chrono::milliseconds limit)>;

}  // namespace holdfast::daemon
