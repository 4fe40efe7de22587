// The connections to the daemons of other nodes: who is connected, who is to be.
//
// The core says which nodes it wants and where they may be; either side may connect.  So that two
// nodes do not hold two connections each, the one with the lower uuid connects at once, the other
// only if nothing came for a while (the first may not know where to go).  Two at one time are
// fine: a node is up from its first connection to its last.
//
// A node that restarts comes with a higher boot number: what is left of its older boot is closed.
//
// Threads:   the io thread only.
// Ownership: owns clients and their tasks, shares channels; borrows the context and the hooks'
//            targets.
// Errors:    kept as text for the status; a node that cannot be reached is tried again for ever.
// Lifecycle: construct -> Want, Tick, OnUp, OnDown in any order -> Stop -> Join -> destroy.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>

#include "common/clock.h"
#include "common/task_group.h"
#include "daemon/core/messages.h"
#include "proto/admin.pb.h"
#include "transport/peer_channel.h"
#include "transport/peer_client.h"
#include "transport/peer_context.h"

namespace holdfast::daemon {

class PeerLinks {
 public:
  using Channel = std::shared_ptr<transport::PeerChannel>;

  struct Hooks {
    std::function<void(const std::string& node_uuid, std::uint64_t boot)> up;
    std::function<void(const std::string& node_uuid)> down;
  };

  // "bind": the address that connections go out from; empty: the kernel chooses.
  PeerLinks(const boost::asio::any_io_executor& executor,
            transport::PeerContext* context,
            std::string bind,
            Hooks hooks);

  PeerLinks(const PeerLinks&) = delete;
  PeerLinks& operator=(const PeerLinks&) = delete;

  // The node is wanted until a Tick that does not name it.
  void Want(const std::string& node, const std::vector<std::string>& endpoints, MonotonicTime now);

  // All that are wanted.
  void Tick(const NodeHints& wanted, MonotonicTime now);

  // Of the context's hooks.
  void OnUp(const Channel& channel);
  void OnDown(const Channel& channel, const Error& why);

  // A connection to that node; null while there is none.
  [[nodiscard]] Channel Find(const std::string& node) const;

  // Why there is no connection to it; for people.
  [[nodiscard]] std::string WhyNot(const std::string& node) const;

  // Wanted or connected, by uuid.
  [[nodiscard]] std::vector<proto::PeerStatus> Describe() const;

  [[nodiscard]] std::size_t connected() const;

  void Stop();
  [[nodiscard]] boost::asio::awaitable<bool> Join(std::chrono::milliseconds limit);

 private:
  struct Link {
    bool wanted = false;
    std::vector<std::string> endpoints;
    std::unique_ptr<transport::PeerClient> client;
    std::vector<Channel> channels;  // oldest first, of one boot
    std::uint64_t boot = 0;
    std::optional<MonotonicTime> alone_since;  // wanted, and not connected
    std::string last_error;
  };

  [[nodiscard]] static std::string WhyNot(const Link& link);
  void Connect(const std::string& node, Link* link);
  void Disconnect(Link* link);
  [[nodiscard]] boost::asio::awaitable<void> End(std::unique_ptr<transport::PeerClient> client);
  void DropUnused();

  const boost::asio::any_io_executor executor_;
  transport::PeerContext* const context_;
  const std::string bind_;
  const Hooks hooks_;
  std::map<std::string, Link> links_;
  bool stopped_ = false;
  TaskGroup ending_;  // clients that are not wanted any more
};

}  // namespace holdfast::daemon
