// Reads again what this node holds, images and rows, and compares it with the recorded digests.
//
// What is bad is handled as rot that anybody else finds: the core poisons a shard or drops a row,
// which is then no source any more and is made again where there is a way.
//
// A scrub is what nobody waits for: it reads one window at a time, one request at a time, and gives
// way to restores, rebuilds and the making of parity (traffic_priority.h).  Nothing is pinned for
// it: what is freed while it is read is neither good nor bad.
//
// Threads:   the io thread only; digests on the cpu pool.
// Ownership: borrows all of it.
// Errors:    kNotFound: it is not here (any more); kPermission: another user's; kInvalidArgument: a
//            chunk that it does not have; kCorruption: its file was cut (it is poisoned).
#pragma once

#include <cstdint>
#include <vector>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>

#include "common/offload.h"
#include "common/result.h"
#include "daemon/async_semaphore.h"
#include "daemon/core_gate.h"
#include "daemon/pipeline/context.h"
#include "daemon/pipeline/traffic_priority.h"
#include "proto/peer.pb.h"

namespace holdfast::daemon {

struct ScrubCounters {
  std::uint64_t bytes = 0;       // read again
  std::uint64_t bad_chunks = 0;  // that did not match
  std::uint64_t poisoned = 0;    // images and rows
};

class Scrubber {
 public:
  Scrubber(const boost::asio::any_io_executor& executor,
           PipelineContext context,
           WorkerPool* cpu,
           CoreGate* core,
           TrafficPriority* priority)
      : context_(context), cpu_(cpu), core_(core), priority_(priority), turns_(executor, 1) {}

  Scrubber(const Scrubber&) = delete;
  Scrubber& operator=(const Scrubber&) = delete;

  // As transport::CheckRequest lets it pass.
  [[nodiscard]] boost::asio::awaitable<Result<proto::ScrubReply>> Scrub(
      proto::ScrubRequest request);

  [[nodiscard]] const ScrubCounters& counters() const { return counters_; }

 private:
  // Adds what it read and found to "reply"; false: that was the end of it.
  [[nodiscard]] boost::asio::awaitable<Result<bool>> ScrubWindow(const proto::ScrubRequest& request,
                                                                 std::uint64_t chunk,
                                                                 std::uint64_t chunks,
                                                                 proto::ScrubReply* reply);
  [[nodiscard]] boost::asio::awaitable<Result<std::vector<std::uint64_t>>> Read(
      const NodeCore::StoredBytes& stored, std::uint64_t chunk, std::uint64_t chunks);
  void Poison(SlotRef slot, const std::string& reason);

  const PipelineContext context_;
  WorkerPool* const cpu_;
  CoreGate* const core_;
  TrafficPriority* const priority_;
  AsyncSemaphore turns_;
  ScrubCounters counters_;
};

}  // namespace holdfast::daemon
