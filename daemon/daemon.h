// holdfastd as an object: all parts, in the order in which they depend on each other, and the run
// from the first accepted client to the last written record.
//
// Threads:   constructed and run on the main thread, which becomes the io thread; owns the worker
//            pools and the endpoint's threads.
// Ownership: owns everything; members are destroyed in the reverse order of their declaration, so
//            each part may borrow those above it.
// Errors:    Create: what start-up says.  Run: none; trouble is logged, counted and shown in
// status. Lifecycle: Create -> Run (returns after SIGTERM or SIGINT) -> destroy.  When Run says
// that threads
//            hang in a file system, the process must end by _exit: they cannot be joined.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "common/result.h"
#include "daemon/config.h"

namespace holdfast::daemon {

class Daemon {
 public:
  // Start-up up to, and with, the listening socket.  "version" is the software's.
  [[nodiscard]] static Result<std::unique_ptr<Daemon>> Create(const Config& config,
                                                              std::string version);
  ~Daemon();
  Daemon(const Daemon&) = delete;
  Daemon& operator=(const Daemon&) = delete;

  enum class End {
    kClean,  // every thread can be joined
    kHangs,  // a thread hangs in a file system: leave by _exit
  };

  // Serves until a signal ends it or RequestStop is called.
  [[nodiscard]] End Run();

  // From any thread; for tests.
  void RequestStop();

 private:
  class Parts;
  explicit Daemon(std::unique_ptr<Parts> parts);

  const std::unique_ptr<Parts> parts_;
};

}  // namespace holdfast::daemon
