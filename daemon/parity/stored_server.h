// Answers what daemons of other nodes ask of this one's bytes: ranges of images, rows and rings (or
// the loan of them over a fabric), digests, sidecars, and the windows of feeds.
//
// Nothing is pinned for a reader: a slot that is freed and filled again while it is read gives
// other bytes, which the reader's digests show (I5).
//
// Threads:   the io thread only; copies and digests on the cpu pool.
// Ownership: borrows all of it.
// Errors:    kNotFound: it is not here (any more), or not yet; kCorruption: the file was cut;
//            kInvalidArgument: a range outside of it.
#pragma once

#include <memory>

#include <boost/asio/awaitable.hpp>

#include "common/offload.h"
#include "common/result.h"
#include "daemon/core_gate.h"
#include "daemon/data_plane/data_plane.h"
#include "daemon/data_plane/stored_bytes.h"
#include "daemon/parity/feeds.h"
#include "daemon/pipeline/context.h"
#include "proto/peer.pb.h"

namespace holdfast::daemon {

class StoredServer {
 public:
  StoredServer(PipelineContext context,
               WorkerPool* cpu,
               CoreGate* core,
               const Feeds* feeds,
               DataPlane* plane)
      : context_(context), cpu_(cpu), core_(core), feeds_(feeds), plane_(plane) {}

  StoredServer(const StoredServer&) = delete;
  StoredServer& operator=(const StoredServer&) = delete;

  // kUnavailable: a request of a kind that is not answered here.
  [[nodiscard]] boost::asio::awaitable<Result<proto::PeerReply>> Answer(proto::PeerRequest request);

  // Where the bytes of that name lie now: what the data plane lends.
  [[nodiscard]] Result<StoredBytesView> FindBytes(const proto::StoredKey& key) const;

  // Slots that were found rotten while others read them.
  [[nodiscard]] std::uint64_t poisoned() const { return poisoned_; }

 private:
  [[nodiscard]] boost::asio::awaitable<Result<proto::PeerReply>> ReadRange(
      proto::ReadRangeRequest request);
  // kCorruption where the bytes that were read are not those that were recorded.
  [[nodiscard]] Status CheckRead(const proto::ReadRangeRequest& request,
                                 const NodeCore::StoredBytes& stored,
                                 const proto::ReadRangeReply& read);
  [[nodiscard]] boost::asio::awaitable<Result<proto::PeerReply>> FeedNext(
      proto::FeedNextRequest request, std::chrono::milliseconds limit);
  [[nodiscard]] Result<proto::PeerReply> Describe(const proto::DescribeRequest& request) const;
  [[nodiscard]] Result<proto::PeerReply> FetchSidecar(
      const proto::FetchSidecarRequest& request) const;

  const PipelineContext context_;
  WorkerPool* const cpu_;
  CoreGate* const core_;
  const Feeds* const feeds_;
  DataPlane* const plane_;
  std::uint64_t poisoned_ = 0;
};

}  // namespace holdfast::daemon
