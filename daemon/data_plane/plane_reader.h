// Reads of one image, row or ring of another node over whichever plane carries them
// (data_plane.h).
//
// Threads:   the io thread only.
// Ownership: borrows the plane.
// Errors:    those of the peers' connection (transport/rpc_range_reader.h): what the fabric says is
//            logged, not told.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>

#include "common/result.h"
#include "common/units.h"
#include "daemon/async_condition.h"
#include "daemon/peers/node_call.h"
#include "proto/peer.pb.h"
#include "transport/range_reader.h"
#include "transport/rpc_range_reader.h"

namespace holdfast::daemon {

class DataPlane;

class PlaneReader final : public transport::RangeReader {
 public:
  PlaneReader(const boost::asio::any_io_executor& executor,
              DataPlane* plane,
              NodeCall call,
              std::string node,
              proto::StoredKey key,
              ByteCount length);

  [[nodiscard]] ByteCount length() const override { return connection_.length(); }

  [[nodiscard]] std::string Describe() const override;

  // Over a fabric the holder does not see what is read: asked for over the connection, it compares
  // the bytes with what was sealed (StoredServer).
  [[nodiscard]] bool Doubt() override;

 protected:
  [[nodiscard]] ByteCount block_bytes() const override;
  [[nodiscard]] boost::asio::awaitable<Status> ReadBlock(ByteCount offset,
                                                         MutableByteView into,
                                                         transport::Deadline deadline) override;

 private:
  [[nodiscard]] boost::asio::awaitable<Status> ReadOverFabric(ByteCount offset,
                                                              MutableByteView into,
                                                              transport::Deadline deadline);
  // Asks the holder to lend the bytes; of several blocks that need it the first one does.
  [[nodiscard]] boost::asio::awaitable<Status> Borrow(transport::Deadline deadline);
  [[nodiscard]] boost::asio::awaitable<Result<std::shared_ptr<transport::RangeReader>>> AskRegion(
      transport::Deadline deadline);

  DataPlane* const plane_;
  const NodeCall call_;
  const std::string node_;
  const proto::StoredKey key_;
  transport::RpcRangeReader connection_;
  std::shared_ptr<transport::RangeReader> fabric_;  // null: not asked for yet, or it failed
  std::chrono::steady_clock::time_point borrowed_at_;
  bool asking_ = false;
  std::optional<Error> refused_;  // the last who asked
  AsyncCondition asked_;
  bool doubted_ = false;
};

}  // namespace holdfast::daemon
