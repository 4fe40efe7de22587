// The one thread that talks to the provider: posts reads, takes completions, and keeps the serving
// endpoint going, which some providers need for peers to be able to read.
//
// Threads:   Submit and GiveUp on the io thread; everything inside on the thread itself.
// Ownership: owns the lanes; shares the domain; borrows options and counters.
// Errors:    delivered with each read.
// Lifecycle: Start -> Submit, GiveUp -> Stop (joins; each read that is left ends with kCancelled).
#pragma once

#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "common/mutex.h"
#include "common/result.h"
#include "transport/fabric_domain.h"
#include "transport/fabric_lane.h"
#include "transport/fabric_read.h"
#include "transport/fabric_stats.h"
#include "transport/fabric_targets.h"
#include "transport/owned_fd.h"

namespace holdfast::transport {

class FabricThread {
 public:
  FabricThread(std::shared_ptr<FabricDomain> domain,
               FabricTargets* targets,
               const FabricOptions* options,
               FabricCounters* counters);
  ~FabricThread();

  FabricThread(const FabricThread&) = delete;
  FabricThread& operator=(const FabricThread&) = delete;

  [[nodiscard]] Status Start();

  // False after Stop.  As many at once as the caller's admission lets through: that bounds the
  // queue.
  [[nodiscard]] bool Submit(std::shared_ptr<FabricRead> read);

  // The read's "given_up" was set: to be looked at soon.
  void GiveUp();

  // What it did in the turns that have ended has happened before this returns.
  void Settle();

  void Stop();

 private:
  void Run();
  void TakeSubmitted();
  // Peers change faster than idle connections are closed: the bound holds all the same.
  void MakeRoom();
  // Progress for the peers that read from us.
  void Serve();
  void Wait(Deadline now);
  // Milliseconds to sleep at most; 0: do not.
  [[nodiscard]] int SleepLimit(Deadline now) const;
  void Wake();

  const std::shared_ptr<FabricDomain> domain_;
  FabricTargets* const targets_;
  const FabricOptions* const options_;
  FabricCounters* const counters_;
  OwnedFd wake_;

  Mutex mutex_;
  std::vector<std::shared_ptr<FabricRead>> submitted_ HF_GUARDED_BY(mutex_);
  bool stopped_ HF_GUARDED_BY(mutex_) = false;

  // The thread's.
  std::map<std::string, std::unique_ptr<FabricLane>> lanes_;  // by address

  std::thread thread_;
};

}  // namespace holdfast::transport
