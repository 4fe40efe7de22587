// Asks the daemon of another node: what daemon/peers/ does and tests replace.
//
// Threads: the io thread only.
// Errors:  of the call: kUnavailable (no connection, and why), kTimeout, what the node answered.
#pragma once

#include <algorithm>
#include <chrono>
#include <functional>
#include <string>

#include <boost/asio/awaitable.hpp>

#include "common/result.h"
#include "proto/peer.pb.h"

namespace holdfast::daemon {

using NodeCall = std::function<boost::asio::awaitable<Result<proto::PeerReply>>(
    std::string node, proto::PeerRequest request, std::chrono::milliseconds limit)>;

// For a call that must end by then: what is left, at least a millisecond.
inline std::chrono::milliseconds TimeLeft(std::chrono::steady_clock::time_point deadline) {
  const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
      deadline - std::chrono::steady_clock::now());
  return std::max(left, std::chrono::milliseconds(1));
}

}  // namespace holdfast::daemon
