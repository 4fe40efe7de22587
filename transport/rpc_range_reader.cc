#include "transport/rpc_range_reader.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <utility>

#include "common/with_timeout.h"
#include "transport/peer_messages.h"

namespace holdfast::transport {

namespace asio = boost::asio;

RpcRangeReader::RpcRangeReader(PeerCall call,
                               proto::StoredKey key,
                               ByteCount length,
                               std::string peer)
    : call_(std::move(call)), key_(std::move(key)), length_(length), peer_(std::move(peer)) {}

RpcRangeReader::RpcRangeReader(PeerClient* client,
                               proto::StoredKey key,
                               ByteCount length,
                               std::string peer)
    : RpcRangeReader(
          [client](proto::PeerRequest request, std::chrono::milliseconds limit) {
            return client->Call(std::move(request), limit);
          },
          std::move(key),
          length,
          std::move(peer)) {}

ByteCount RpcRangeReader::block_bytes() const {
  return kMaxReadRangeBytes;
}

asio::awaitable<Status> RpcRangeReader::ReadBlock(ByteCount offset,
                                                  MutableByteView into,
                                                  Deadline deadline) {
  const auto left =
      std::chrono::floor<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
  if (left.count() <= 0) {
    co_return Error(Errc::kTimeout, Describe() + ": the deadline was over before the read began");
  }
  proto::PeerRequest request;
  *request.mutable_read_range()->mutable_key() = key_;
  request.mutable_read_range()->set_offset(offset);
  request.mutable_read_range()->set_length(static_cast<std::uint32_t>(into.size()));
  auto reply = co_await call_(std::move(request), left);
  if (!reply.has_value()) {
    co_return std::move(reply).error().WithContext(Describe());
  }
  // The channel has checked that the length is the one that was asked for; it is what bounds the
  // copy, so it is looked at here too.
  const std::string& data = reply.value().read_range().data();
  if (data.size() != into.size()) {
    co_return Error(Errc::kCorruption,
                    Describe() + ": " + std::to_string(data.size()) + " bytes came instead of " +
                        std::to_string(into.size()));
  }
  std::memcpy(into.data(), data.data(), data.size());
  co_return Ok();
}

}  // namespace holdfast::transport
