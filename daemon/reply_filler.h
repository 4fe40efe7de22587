// Completes the core's messages with what only the daemon around it knows.
//
// Threads:   the io thread only.
// Ownership: borrows.
// Errors:    a sidecar whose layout is not known turns the answer into an error: a restore without
//            placement must not look like one with it.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "common/clock.h"
#include "common/result.h"
#include "daemon/core/ids.h"
#include "daemon/layout_store.h"
#include "daemon/tier_set.h"
#include "proto/client.pb.h"

namespace holdfast::daemon {

// Constant facts of this process.
struct DaemonFacts {
  std::string software_version;
  std::string node_uuid;
  std::uint64_t boot_number = 0;
  std::string arena_path;
  std::string state_dir;
  std::string metrics_address;
  MonotonicTime started;
  std::vector<std::string> warnings;  // found at start
};

class ReplyFiller {
 public:
  ReplyFiller(DaemonFacts facts,
              const LayoutStore* layouts,
              const TierSet* tiers,
              std::function<std::optional<Error>()> catalog_error,
              std::function<void(proto::StatusReply*)> add_peers)
      : facts_(std::move(facts)),
        layouts_(layouts),
        tiers_(tiers),
        catalog_error_(std::move(catalog_error)),
        add_peers_(std::move(add_peers)) {}

  void Complete(proto::ServerMessage* message) const;
  void CompleteStatus(proto::StatusReply* status) const;

 private:
  [[nodiscard]] bool AddLayout(proto::Sidecar* sidecar) const;
  static void CompleteTier(const Tier& tier, const JobUid& job, proto::TierStatus* out);

  const DaemonFacts facts_;
  const LayoutStore* const layouts_;
  const TierSet* const tiers_;
  const std::function<std::optional<Error>()> catalog_error_;
  const std::function<void(proto::StatusReply*)> add_peers_;
};

}  // namespace holdfast::daemon
