// What all connections of one daemon share: who it is, what it answers, its limits, and what it
// remembers of its peers.
//
// Threads:   the io thread only.
// Ownership: owned by the daemon; outlives servers, clients and channels.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <boost/asio/awaitable.hpp>

#include "common/result.h"
#include "common/units.h"
#include "proto/peer.pb.h"
#include "transport/frame.h"
#include "transport/refusals.h"
#include "transport/stamp_gate.h"
#include "transport/tls.h"

namespace holdfast::transport {

struct PeerLimits {
  // From the connection to an accepted hello, TLS included.
  std::chrono::milliseconds hello_timeout{10'000};
  // A side that has sent nothing, or heard nothing, for so long sends a ping.
  std::chrono::milliseconds ping_after{5'000};
  // A peer of which no byte came for so long is dead.
  std::chrono::milliseconds dead_after{20'000};
  // For 256 KiB to leave: a peer that does not read is cut off.
  std::chrono::milliseconds send_timeout{30'000};
  // Requests of this side without answer; further ones wait.  The peer's hello may lower it.
  std::size_t max_requests = 1'024;
  // Requests of the peer without answer, told in hello; more end the connection.
  std::size_t max_served = 1'024;
  ByteCount queue_bytes = 32 * kMiB;  // waiting to be sent; who adds more waits
  // Data of ReadRange replies that are being made; further reads wait.
  ByteCount read_bytes = 64 * kMiB;
  ByteCount max_frame_bytes = kMaxFramePayloadBytes;
};

// The other side of a connection, as its hello and its certificate say.
struct PeerFacts {
  std::string node_uuid;  // 16 bytes
  std::uint64_t boot = 0;
  std::string software_version;
  std::vector<proto::DataPlane> planes;
  bool authenticated = false;  // by TLS; else node_uuid is only what it says
  std::string remote;          // address and port
  std::string local;
};

// Answers a request that passed CheckRequest and the stamp gate.  A task: cancelled when the peer
// cancels, its deadline is over, or the connection ends; it then returns soon.
using PeerHandler = std::function<boost::asio::awaitable<Result<proto::PeerReply>>(
    std::shared_ptr<const PeerFacts>, proto::PeerRequest)>;

class PeerChannel;

class PeerContext {
 public:
  struct Hooks {
    PeerHandler handler;  // none: every request is answered kUnavailable
    // A connection is up: Call may be used.  And it ended.
    std::function<void(const std::shared_ptr<PeerChannel>&)> on_up;
    std::function<void(const std::shared_ptr<PeerChannel>&, const Error&)> on_down;
  };

  // "node_uuid": 16 bytes; "tls": null for plain TCP.
  PeerContext(std::string node_uuid,
              std::uint64_t boot,
              std::shared_ptr<const TlsContext> tls,
              PeerLimits limits,
              Hooks hooks);

  PeerContext(const PeerContext&) = delete;
  PeerContext& operator=(const PeerContext&) = delete;

  // The certificate must be this node's.  To be asked before anything listens or connects.
  [[nodiscard]] Status Check() const;

  void AddPlane(proto::DataPlane plane) { planes_.push_back(std::move(plane)); }

  [[nodiscard]] proto::PeerHello Hello() const;

  // kFenced: a daemon of that node with a higher boot number was here.
  [[nodiscard]] Status NoteBoot(const std::string& node_uuid, std::uint64_t boot);

  [[nodiscard]] const std::string& node_uuid() const { return node_uuid_; }

  [[nodiscard]] const std::shared_ptr<const TlsContext>& tls() const { return tls_; }

  [[nodiscard]] const PeerLimits& limits() const { return limits_; }

  [[nodiscard]] const Hooks& hooks() const { return hooks_; }

  [[nodiscard]] Refusals& refusals() { return refusals_; }

  [[nodiscard]] StampGate& stamps() { return stamps_; }

 private:
  const std::string node_uuid_;
  const std::uint64_t boot_;
  const std::shared_ptr<const TlsContext> tls_;
  const PeerLimits limits_;
  const Hooks hooks_;
  std::vector<proto::DataPlane> planes_;
  std::map<std::string, std::uint64_t> boots_;  // bounded
  Refusals refusals_;
  StampGate stamps_;
};

}  // namespace holdfast::transport
