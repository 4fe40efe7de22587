// Bytes that other nodes hold, as shard readers: what the pipeline reads from and never asks where.
//
// A node's bytes come over the data plane (daemon/data_plane/).  This node's own come from its
// slots, by the same calls.
//
// Threads:   the io thread only.
// Ownership: borrows all of it; readers borrow it too.
// Errors:    kNotFound: that node does not have it; kUnavailable: it cannot be reached;
// kCorruption:
//            an answer that does not fit.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include <boost/asio/awaitable.hpp>

#include "common/offload.h"
#include "common/result.h"
#include "daemon/core/code_set.h"
#include "daemon/core/ids.h"
#include "daemon/core_gate.h"
#include "daemon/data_plane/data_plane.h"
#include "daemon/layout_store.h"
#include "daemon/peers/node_call.h"
#include "daemon/pipeline/context.h"
#include "daemon/pipeline/pull_vector.h"
#include "daemon/pipeline/shard_reader.h"
#include "proto/manifest.pb.h"
#include "proto/peer.pb.h"

namespace holdfast::daemon {

// Of a request to a node: no more of them is worth its wait now.
inline bool IsAway(const Error& error) {
  return error.code == Errc::kUnavailable || error.code == Errc::kTimeout;
}

class RemoteBytes {
 public:
  RemoteBytes(PipelineContext context,
              WorkerPool* cpu,
              const CoreGate* core,
              std::string node_uuid,
              NodeCall call,
              DataPlane* plane)
      : context_(context),
        cpu_(cpu),
        core_(core),
        node_uuid_(std::move(node_uuid)),
        call_(std::move(call)),
        plane_(plane) {}

  RemoteBytes(const RemoteBytes&) = delete;
  RemoteBytes& operator=(const RemoteBytes&) = delete;

  // That image of the shard, with the digests of its sidecar.
  [[nodiscard]] Result<std::shared_ptr<ShardReader>> Image(const std::string& node,
                                                           const JobUid& job,
                                                           const SnapshotKey& id,
                                                           const proto::Sidecar& sidecar,
                                                           proto::ImageKind kind) const;

  // A recorded row; asks its holder for the digests.
  [[nodiscard]] boost::asio::awaitable<Result<std::shared_ptr<ShardReader>>> Row(
      std::string node, proto::StoredKey key, ByteCount length) const;

  // The holder of those bytes hands out what was not sealed: if that is this node, its own core
  // hears of it here, as another's does from its StoredServer.
  void PoisonOwn(const std::string& node, const proto::StoredKey& key, CoreGate* core) const;

  // Whether that node says that it has the row, whole and recorded; no answer is no.
  [[nodiscard]] boost::asio::awaitable<bool> HasRow(std::string node,
                                                    proto::StoredKey key,
                                                    ByteCount length) const;

  // The first owner's feed of the row that "key" names.  "ring": bytes of its memory.
  [[nodiscard]] FeedSource Feed(const std::string& node,
                                const proto::StoredKey& key,
                                ByteCount ring) const;

  // What that node decodes of a lost shard; it is asked to begin with the first window.
  [[nodiscard]] FeedSource Share(const std::string& node,
                                 proto::DecodeShareRequest request,
                                 ByteCount ring) const;

  // Checked, without its layout.
  [[nodiscard]] boost::asio::awaitable<Result<proto::Sidecar>> Sidecar(std::string node,
                                                                       JobUid job,
                                                                       SnapshotKey id,
                                                                       Rank rank) const;

  // The layout of that sidecar, which the node gave: it is asked for it only where this node does
  // not know it, since snapshots share their layouts, and one of many tensors is larger than all
  // else that is sent for a snapshot beside its bytes.
  [[nodiscard]] boost::asio::awaitable<Result<SharedLayout>> LayoutOf(std::string node,
                                                                      proto::Sidecar sidecar) const;

  [[nodiscard]] const std::string& node_uuid() const { return node_uuid_; }

 private:
  [[nodiscard]] boost::asio::awaitable<Result<proto::Sidecar>> AskForSidecar(
      std::string node, proto::FetchSidecarRequest request) const;
  // What the node, or this one, has under that name.
  [[nodiscard]] boost::asio::awaitable<Result<proto::DescribeReply>> Describe(
      const std::string& node, const proto::StoredKey& key, std::chrono::milliseconds limit) const;
  [[nodiscard]] Result<std::shared_ptr<ShardReader>> Reader(const std::string& node,
                                                            const proto::StoredKey& key,
                                                            SharedDigests what) const;

  const PipelineContext context_;
  WorkerPool* const cpu_;
  const CoreGate* const core_;
  const std::string node_uuid_;
  const NodeCall call_;
  DataPlane* const plane_;
};

// What an image must be, by its sidecar.  kInvalidArgument: the shard has no such image.
[[nodiscard]] Result<SharedDigests> DigestsOf(const proto::Sidecar& sidecar, proto::ImageKind kind);

// What this node knows of a shard, of its own or of another's, without its layout.  kNotFound:
// nothing.
[[nodiscard]] Result<proto::Sidecar> SidecarHere(const CoreGate& core,
                                                 const proto::SnapshotId& id,
                                                 Rank rank);

// Names of stored bytes.  "groups": under which the holder of a row has it.
[[nodiscard]] proto::StoredKey ImageKey(const JobUid& job,
                                        const SnapshotKey& id,
                                        Rank rank,
                                        proto::ImageKind kind);
[[nodiscard]] proto::StoredKey RowKey(const JobUid& job,
                                      const SnapshotKey& id,
                                      const CodeSet& set,
                                      const GroupsName& groups,
                                      std::uint32_t stripe,
                                      std::uint32_t row);
[[nodiscard]] proto::StoredKey FeedKey(const JobUid& job,
                                       const SnapshotKey& id,
                                       const CodeSet& set,
                                       std::uint32_t stripe,
                                       std::uint32_t row);

}  // namespace holdfast::daemon
