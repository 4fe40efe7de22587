// Has nodes of the cluster read again what they hold, for an operator; no data crosses the network.
//
// One request names parts of what several nodes hold; each is read where it lies, all at the same
// time, and found bad or good there (daemon/parity/scrubber.h).  Nothing of a scrub is kept between
// two requests: who asks sees how far it is, and ends it by asking no more.
//
// Threads:   the io thread only.
// Ownership: owns the tasks; what the hooks use outlives it.
// Errors:    as of ClusterView.
// Lifecycle: construct -> Ask at any time -> Stop -> Join -> destroy.
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <string>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>

#include "common/result.h"
#include "common/task_group.h"
#include "daemon/peers/node_call.h"
#include "proto/peer.pb.h"

namespace holdfast::daemon {

inline constexpr int kMaxScrubParts = 64;

class ClusterScrub {
 public:
  struct Hooks {
    // Of this node.
    std::function<boost::asio::awaitable<Result<proto::ScrubReply>>(proto::ScrubRequest)> own;
    NodeCall call;  // empty: this daemon has no peers
  };

  using Done = std::function<void(Result<proto::ScrubNodesReply>)>;

  ClusterScrub(const boost::asio::any_io_executor& executor, std::string node_uuid, Hooks hooks);

  ClusterScrub(const ClusterScrub&) = delete;
  ClusterScrub& operator=(const ClusterScrub&) = delete;

  // "done" is called exactly once, perhaps before this returns.
  void Ask(proto::ScrubNodesRequest request, proto::AskingUser user, Done done);

  void Stop() { tasks_.Stop(); }

  [[nodiscard]] boost::asio::awaitable<bool> Join(std::chrono::milliseconds limit) {
    return tasks_.Join(limit);
  }

 private:
  [[nodiscard]] boost::asio::awaitable<void> Run(proto::ScrubNodesRequest request,
                                                 proto::AskingUser user,
                                                 Done done);
  [[nodiscard]] boost::asio::awaitable<void> ScrubOne(const proto::ScrubPart& part,
                                                      const proto::AskingUser& user,
                                                      std::chrono::milliseconds limit,
                                                      proto::ScrubResult* result);
  [[nodiscard]] boost::asio::awaitable<Result<proto::ScrubReply>> Send(
      std::string node, proto::PeerRequest request, std::chrono::milliseconds limit);

  const boost::asio::any_io_executor executor_;
  const std::string node_uuid_;
  const Hooks hooks_;
  TaskGroup tasks_;
};

}  // namespace holdfast::daemon
