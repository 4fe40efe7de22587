// Decodes segments of lost shards for the nodes that replace their holders (pipeline/rebuild.h).
//
// A replacement that decodes alone takes in k times what it lost.  With a survivor for each segment
// it takes in just that, and the k - 1 vectors that a survivor lacks come to k different nodes.
//
//   replacement   DecodeShare(key, what is left) -> FeedNext, reads of the ring -> ...
//   survivor      Begin -> reads, decodes, feeds -> the ring is gone when the share was taken, or
//                 its taker has not moved for long
//
// What the survivor knows of digests it has from its own sidecars (I10), so nothing of the request
// is believed but who may have what, and nothing that it decodes counts before the taker has
// compared it (I5).
//
// Threads:   the io thread only.
// Ownership: borrows everything; owns the tasks and their rings.
// Errors:    of Begin: kInvalidArgument: the request cannot be; kUnavailable: this node does not
//            have the sidecar, or decodes for others as much as it may.  Later ones go to the taker
//            through its feed.
// Lifecycle: construct -> Begin at any time -> Stop -> Join -> destroy.
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>

#include "common/offload.h"
#include "common/result.h"
#include "common/task_group.h"
#include "daemon/core_gate.h"
#include "daemon/parity/feeds.h"
#include "daemon/parity/rebuild_sources.h"
#include "daemon/parity/remote_bytes.h"
#include "daemon/pipeline/rebuild_reader.h"
#include "daemon/pipeline/traffic_priority.h"
#include "daemon/pipeline/window_feed.h"
#include "proto/peer.pb.h"

namespace holdfast::daemon {

// Of the feed of a segment of so many bytes.
[[nodiscard]] FeedShape ShareFeedShape(ByteCount length);

class ShareMaker {
 public:
  ShareMaker(const boost::asio::any_io_executor& executor,
             WorkerPool* cpu,
             const CoreGate* core,
             Feeds* feeds,
             const RemoteBytes* remote,
             TrafficPriority* priority);

  ShareMaker(const ShareMaker&) = delete;
  ShareMaker& operator=(const ShareMaker&) = delete;

  // Ok: it can be taken by FeedNext with the same key.
  [[nodiscard]] boost::asio::awaitable<Status> Begin(proto::DecodeShareRequest request);

  void Stop() { tasks_.Stop(); }

  [[nodiscard]] boost::asio::awaitable<bool> Join(std::chrono::milliseconds limit) {
    return tasks_.Join(limit);
  }

 private:
  struct Share;

  [[nodiscard]] Result<std::shared_ptr<Share>> Plan(const proto::DecodeShareRequest& request) const;
  void AddShards(const Share& share, GroupSources* sources) const;
  [[nodiscard]] boost::asio::awaitable<void> Run(std::shared_ptr<Share> share);
  [[nodiscard]] boost::asio::awaitable<Status> Decode(const Share& share);

  WorkerPool* const cpu_;
  const CoreGate* const core_;
  Feeds* const feeds_;
  const RemoteBytes* const remote_;
  TrafficPriority* const priority_;
  std::size_t beginning_ = 0;  // their rings are being made: I9
  TaskGroup tasks_;
};

}  // namespace holdfast::daemon
