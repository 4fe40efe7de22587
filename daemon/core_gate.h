// The only way from the daemon to its core: on the io thread, and with the pump woken afterwards.
//
// Each call into the core may have decided something; a call after which nobody looks for Readys
// would leave an answer lying until the next tick.
//
//   gate->OnDigested(slot, std::move(digests));
//
// Threads:   the io thread only (checked).
// Ownership: borrows core and thread marker; the wake function must outlive the gate.
#pragma once

#include <functional>
#include <utility>

#include "common/io_thread.h"
#include "daemon/core/node_core.h"

namespace holdfast::daemon {

class CoreGate {
 public:
  // Lives for the full expression of one call.
  class Access {
   public:
    explicit Access(CoreGate* gate) : gate_(gate) {}

    ~Access() { gate_->wake_(); }

    Access(const Access&) = delete;
    Access& operator=(const Access&) = delete;

    NodeCore* operator->() { return gate_->core_; }

   private:
    CoreGate* gate_;
  };

  CoreGate(const IoThread* io, NodeCore* core, std::function<void()> wake)
      : io_(io), core_(core), wake_(std::move(wake)) {}

  CoreGate(const CoreGate&) = delete;
  CoreGate& operator=(const CoreGate&) = delete;

  Access operator->() {
    io_->Check();
    return Access(this);
  }

  // For looking only.
  [[nodiscard]] const NodeCore& view() const {
    io_->Check();
    return *core_;
  }

 private:
  const IoThread* io_;
  NodeCore* core_;
  std::function<void()> wake_;
};

}  // namespace holdfast::daemon
