// The reads from one peer: a port of its own, what it has in flight, and what waits.
//
// A port for each peer is what makes a promise about buffers possible (docs/adr/0007): providers
// cannot take back a read that was posted, but a closed endpoint writes nothing any more.  A peer
// that hangs costs its own connection and nobody else's.
//
// Threads:   the completion thread only.
// Ownership: owns port and reads; borrows domain, targets and options.
// Errors:    delivered with each read; a lane is never broken for good.
// Lifecycle: construct -> Add, Turn, ... -> Close -> destroy.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "common/result.h"
#include "transport/fabric_domain.h"
#include "transport/fabric_read.h"
#include "transport/fabric_stats.h"
#include "transport/fabric_targets.h"

namespace holdfast::transport {

class FabricLane {
 public:
  FabricLane(const FabricDomain* domain,
             FabricTargets* targets,
             const FabricOptions* options,
             FabricCounters* counters,
             std::string address);

  FabricLane(const FabricLane&) = delete;
  FabricLane& operator=(const FabricLane&) = delete;

  void Add(std::shared_ptr<FabricRead> read) { waiting_.push_back(std::move(read)); }

  // Takes completions, ends what is late, posts what can be.
  void Turn(Deadline now);

  // When Turn has something to do that no completion announces.
  [[nodiscard]] Deadline NextTurn(Deadline now) const;

  // Ends all reads with "why"; nothing is written to their buffers afterwards.
  void Close(const Error& why);

  // Nothing to do since "idle_close": may be destroyed.
  [[nodiscard]] bool IsIdle(Deadline now) const;

  // Null where the port is closed.
  [[nodiscard]] const FabricPort* port() const { return port_ ? &*port_ : nullptr; }

  [[nodiscard]] bool busy() const { return !posted_.empty(); }

  [[nodiscard]] bool empty() const { return posted_.empty() && waiting_.empty(); }

 private:
  void TakeCompletions();
  void TakeError();
  void EndLate(Deadline now);
  void EndLateWaiting(Deadline now);
  void ClosePort(Deadline now);
  void EndPosted();
  void Post(Deadline now);
  [[nodiscard]] Status OpenPort(Deadline now);
  // The provider takes none now.  False: it has been connecting for too long.
  [[nodiscard]] bool MayAskAgain(Deadline now);
  void PostOrFail(std::shared_ptr<FabricRead> read, Deadline now);
  // libfabric's code; 0: posted.
  [[nodiscard]] long PostOne(FabricRead* read);
  void Failed(std::shared_ptr<FabricRead> read, const Error& error, bool transient, Deadline now);
  // Takes the read whose context it is; null: none of ours.
  [[nodiscard]] std::shared_ptr<FabricRead> Posted(void* context);

  const FabricDomain* const domain_;
  FabricTargets* const targets_;
  const FabricOptions* const options_;
  FabricCounters* const counters_;
  const std::string address_;
  std::optional<FabricPort> port_;
  fi_addr_t peer_ = FI_ADDR_UNSPEC;
  bool broken_ = false;                 // a read failed: a new port before the next
  bool resetting_ = false;              // reads that fail now are not to blame
  std::optional<Deadline> connect_by_;  // none was posted on this port yet
  std::optional<Deadline> again_;       // the provider had no room, or is connecting
  Deadline last_used_{};
  std::deque<std::shared_ptr<FabricRead>> waiting_;
  std::map<void*, std::shared_ptr<FabricRead>> posted_;  // by context
};

}  // namespace holdfast::transport
