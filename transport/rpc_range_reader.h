// data_plane = "tls": the reads of range_reader.h as ReadRange requests over the peers' connection.
//
// For networks where no fabric can be trusted, or none is there.  The bytes come through Protobuf
// and, where certificates are configured, TLS, on the io thread: about 1 GB/s for the daemon.
//
// Threads:   the io thread only.
// Ownership: borrows what it calls through, which outlives it.
// Errors:    range_reader.h; a request that is given up is answered by the peer all the same, so
//            its place among max_requests is free only then.
#pragma once

#include <chrono>
#include <functional>
#include <string>

#include "proto/peer.pb.h"
#include "transport/peer_client.h"
#include "transport/range_reader.h"

namespace holdfast::transport {

// Sends a request to the peer.  The limit counts from the call.
using PeerCall = std::function<boost::asio::awaitable<Result<proto::PeerReply>>(
    proto::PeerRequest, std::chrono::milliseconds)>;

class RpcRangeReader final : public RangeReader {
 public:
  // "length": bytes of what "key" names, as its record says.  "peer": for messages.
  RpcRangeReader(PeerCall call, proto::StoredKey key, ByteCount length, std::string peer);
  RpcRangeReader(PeerClient* client, proto::StoredKey key, ByteCount length, std::string peer);

  [[nodiscard]] ByteCount length() const override { return length_; }

  [[nodiscard]] std::string Describe() const override {
    return peer_ + " over the peer connection";
  }

 protected:
  [[nodiscard]] ByteCount block_bytes() const override;
  [[nodiscard]] boost::asio::awaitable<Status> ReadBlock(ByteCount offset,
                                                         MutableByteView into,
                                                         Deadline deadline) override;

 private:
  const PeerCall call_;
  const proto::StoredKey key_;
  const ByteCount length_;
  const std::string peer_;
};

}  // namespace holdfast::transport
