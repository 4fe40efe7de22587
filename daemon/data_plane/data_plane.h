// How this node reads the bytes of others, and lends its own: over a fabric where both have the
// same, else over the peers' connection.
//
// Each reader tries the fabric first.  Where that fails (no fabric there, another one, a network
// that carries the one but not the other) the same block comes over the connection, and for a while
// all further ones of that node do: a fabric never decides whether bytes can be had, only how fast.
//
//   plane.OpenBlocking(options, &pool, find);              start-up; may be left out: no fabric
//   auto reader = plane.Reader(call, node, key, length);
//
// Threads:   the io thread only; OpenBlocking before it runs.
// Ownership: owns fabric and lender; readers borrow it, and what they call through.  Outlives the
//            pool's threads, which register memory with it.
// Errors:    OpenBlocking: kUnavailable where no plane of the list is on this machine.
// Lifecycle: construct -> OpenBlocking -> Watch runs -> Reader, Lend -> Stop -> destroy, before the
//            io_context.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>

#include "common/offload.h"
#include "common/result.h"
#include "daemon/data_plane/lender.h"
#include "daemon/peers/node_call.h"
#include "proto/peer.pb.h"
#include "transport/fabric_endpoint.h"
#include "transport/range_reader.h"

namespace holdfast::daemon {

// The name of the peers' connection among planes.
inline constexpr const char* kConnectionPlane = "tls";

struct DataPlaneOptions {
  std::vector<std::string> planes;  // kConnectionPlane and libfabric's providers, the best first
  std::string bind_address;         // of the network card; empty: none is known
  std::string device;               // empty: any
};

struct DataPlaneCounters {
  std::uint64_t fabric_bytes = 0;      // that came over the fabric
  std::uint64_t connection_bytes = 0;  // and over the peers' connection
  std::uint64_t fallbacks = 0;         // times that a node's fabric was given up for a while
};

class DataPlane {
 public:
  explicit DataPlane(const boost::asio::any_io_executor& executor) : executor_(executor) {}

  DataPlane(const DataPlane&) = delete;
  DataPlane& operator=(const DataPlane&) = delete;

  // Looks for the first plane of the list.
  [[nodiscard]] Status OpenBlocking(const DataPlaneOptions& options,
                                    WorkerPool* pool,
                                    Lender::Find find);

  // "length": bytes of what "key" names on that node.
  [[nodiscard]] std::shared_ptr<transport::RangeReader> Reader(NodeCall call,
                                                               const std::string& node,
                                                               const proto::StoredKey& key,
                                                               ByteCount length);

  // Answers a peer that wants to read over the fabric.
  [[nodiscard]] boost::asio::awaitable<Result<proto::LendReply>> Lend(
      proto::LendRequest request, std::chrono::milliseconds limit);

  // Null: there is none.  Where peers read; and where this node reads.
  [[nodiscard]] transport::FabricEndpoint* lending() const { return lending_.get(); }

  [[nodiscard]] transport::FabricEndpoint* reading() const { return reading_.get(); }

  // "tcp;ofi_rxm at ... (eth0)", or "the peers' connection".
  [[nodiscard]] std::string Describe() const;
  // As a hello tells them, the best first.
  [[nodiscard]] std::vector<proto::DataPlane> Planes() const;

  [[nodiscard]] const DataPlaneCounters& counters() const { return counters_; }

  [[nodiscard]] std::size_t lent() const { return lender_ == nullptr ? 0 : lender_->lent(); }

  // As long as the daemon lives.
  [[nodiscard]] boost::asio::awaitable<void> Watch();

  void Stop();

  // For readers: whether that node's bytes are to be asked for over the fabric now, and what came
  // of it.
  [[nodiscard]] bool IsWorthTrying(const std::string& node) const;
  void OnFabricRead(const std::string& node, ByteCount bytes);
  void OnFabricFailed(const std::string& node, const Error& why);

  void OnConnectionRead(ByteCount bytes) { counters_.connection_bytes += bytes; }

 private:
  struct Away {
    std::chrono::steady_clock::time_point until;
    std::chrono::seconds pause{};
  };

  [[nodiscard]] Status OpenFabricBlocking(transport::FabricOptions options);

  const boost::asio::any_io_executor executor_;
  // All null: no fabric.  Two, for each has a thread of its own, which with tcp copies all bytes:
  // nodes that protect each other read and are read at the same time.
  std::unique_ptr<transport::FabricEndpoint> lending_;
  std::unique_ptr<transport::FabricEndpoint> reading_;
  std::unique_ptr<Lender> lender_;
  std::map<std::string, Away> away_;  // nodes whose fabric failed
  DataPlaneCounters counters_;
};

}  // namespace holdfast::daemon
