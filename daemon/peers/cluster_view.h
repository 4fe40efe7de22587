// What every node of the cluster says of itself, asked by this one for an operator.
//
//   view.Ask(request, user, [=](Result<proto::AskNodesReply> reply) { ... });
//
// Each node has the same time, a few are asked at once, and the answer names every node: with its
// view, or with the reason why there is none.  A node is asked for what the user may see there; its
// answer is believed only as far as it can be: it must be of that node, of bounded size, and name
// nothing that cannot be.
//
// Answers of many nodes do not fit into one message: they come in pages, by uuid.
//
// Threads:   the io thread only.
// Ownership: owns the tasks; what the hooks use outlives it.
// Errors:    of the whole: kInvalidArgument (the request), kUnavailable (too many ask at one time),
//            kCancelled (shutdown).  Of one node: in its answer.
// Lifecycle: construct -> Ask at any time -> Stop -> Join -> destroy.
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <string>
#include <vector>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>

#include "common/result.h"
#include "common/task_group.h"
#include "common/units.h"
#include "daemon/core/messages.h"
#include "daemon/peers/node_call.h"
#include "proto/peer.pb.h"

namespace holdfast::daemon {

inline constexpr std::chrono::milliseconds kMaxNodeTimeout{600'000};
// Of one node; more is no answer.
inline constexpr ByteCount kMaxViewBytes = kMiB;

class ClusterView {
 public:
  struct Hooks {
    // Every node that this one knows, with where it may be; this one may be among them.
    std::function<NodeHints()> nodes;
    // Of this node.
    std::function<proto::NodeView(const std::string& job_name, const proto::AskingUser& user)> own;
    NodeCall call;  // empty: this daemon has no peers
  };

  struct Limits {
    std::size_t asks = 4;             // at one time
    std::size_t nodes_at_once = 16;   // of one ask
    std::size_t nodes_of_page = 32;   // asked for one answer
    ByteCount page_bytes = 3 * kMiB;  // of an answer with more than one node
  };

  using Done = std::function<void(Result<proto::AskNodesReply>)>;

  ClusterView(const boost::asio::any_io_executor& executor,
              std::string node_uuid,
              Hooks hooks,
              Limits limits);

  ClusterView(const boost::asio::any_io_executor& executor, std::string node_uuid, Hooks hooks)
      : ClusterView(executor, std::move(node_uuid), std::move(hooks), Limits()) {}

  ClusterView(const ClusterView&) = delete;
  ClusterView& operator=(const ClusterView&) = delete;

  // "done" is called exactly once, perhaps before this returns.
  void Ask(proto::AskNodesRequest request, proto::AskingUser user, Done done);

  void Stop() { tasks_.Stop(); }

  [[nodiscard]] boost::asio::awaitable<bool> Join(std::chrono::milliseconds limit) {
    return tasks_.Join(limit);
  }

 private:
  [[nodiscard]] boost::asio::awaitable<void> Run(proto::AskNodesRequest request,
                                                 proto::AskingUser user,
                                                 Done done);
  [[nodiscard]] boost::asio::awaitable<Result<proto::AskNodesReply>> Collect(
      proto::AskNodesRequest request, proto::AskingUser user);
  // The nodes behind "after", as answers that nobody has given yet.
  [[nodiscard]] std::vector<proto::NodeAnswer> PageAfter(const std::string& after,
                                                         bool* more) const;
  [[nodiscard]] boost::asio::awaitable<void> AskOne(const proto::AskNodesRequest& request,
                                                    const proto::AskingUser& user,
                                                    proto::NodeAnswer* answer);
  [[nodiscard]] boost::asio::awaitable<Result<proto::NodeView>> Fetch(
      std::string node, proto::PeerRequest request, std::chrono::milliseconds limit);

  const boost::asio::any_io_executor executor_;
  const std::string node_uuid_;
  const Hooks hooks_;
  const Limits limits_;
  TaskGroup tasks_;
};

// Whether that can be what "node" says: kCorruption, or kNoSpace for one that is too large.
[[nodiscard]] Status CheckView(const std::string& node, const proto::NodeView& view);

}  // namespace holdfast::daemon
