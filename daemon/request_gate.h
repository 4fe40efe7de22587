// What a request must pass before the core hears of it: the checks that need time, files or the
// operator's configuration.
//
// The core checks what a request means; here is checked what it carries.  A layout is validated and
// its hash computed again, on a worker, since a hostile one has a million tensors.  A persistent
// root must be one that this user may name, since the daemon writes there with its own rights.
//
// Threads:   the io thread; layouts on the "cpu" pool.
// Ownership: borrows layouts, tiers and pool.
// Errors:    what the client is answered: kInvalidArgument, kPermission, kUnavailable (too many
//            watched processes).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <boost/asio/awaitable.hpp>

#include "common/offload.h"
#include "common/result.h"
#include "daemon/core/node_core.h"
#include "daemon/layout_store.h"
#include "daemon/tier_set.h"
#include "proto/client.pb.h"

namespace holdfast::daemon {

struct RequestRules {
  std::uint32_t own_uid = 0;
  std::vector<std::string> client_roots;  // where other users may name roots
};

class RequestGate {
 public:
  RequestGate(RequestRules rules, LayoutStore* layouts, TierSet* tiers, WorkerPool* cpu)
      : rules_(std::move(rules)), layouts_(layouts), tiers_(tiers), cpu_(cpu) {}

  // Checks "message" of a client with this uid and makes it ready for the core: roots in their one
  // spelling, the layout taken out and staged for "session".  The facts of a layout, if there is
  // one. "message" must live until the result is there.
  [[nodiscard]] boost::asio::awaitable<Result<std::optional<LayoutFacts>>> Admit(
      SessionId session, std::uint32_t uid, proto::ClientMessage* message);

 private:
  [[nodiscard]] boost::asio::awaitable<Status> AdmitRoot(std::uint32_t uid,
                                                         proto::TierScope scope,
                                                         std::string* root);
  [[nodiscard]] boost::asio::awaitable<Result<LayoutFacts>> AdmitLayout(
      SessionId session, proto::RegisterRequest* request);

  const RequestRules rules_;
  LayoutStore* const layouts_;
  TierSet* const tiers_;
  WorkerPool* const cpu_;
};

}  // namespace holdfast::daemon
