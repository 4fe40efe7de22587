#include "daemon/data_plane/plane_reader.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "common/with_timeout.h"
#include "daemon/core/ids.h"
#include "daemon/data_plane/data_plane.h"
#include "transport/fabric_region.h"
#include "transport/peer_messages.h"

namespace holdfast::daemon {

namespace asio = boost::asio;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

namespace {

// A fabric that does not answer must leave time for the connection.
constexpr milliseconds kLongestTry{10'000};
// Where the provider reads less at once than one of our blocks.
constexpr std::size_t kFabricDepth = 4;
// Well before the holder lets go of what nobody asks for (LenderLimits::idle): it does not see
// reads.
constexpr std::chrono::seconds kAskAgainAfter{60};

transport::PeerCall CallTo(const NodeCall& call, const std::string& node) {
  return [call, node](proto::PeerRequest request, milliseconds limit) {
    return call(node, std::move(request), limit);
  };
}

}  // namespace

PlaneReader::PlaneReader(const asio::any_io_executor& executor,
                         DataPlane* plane,
                         NodeCall call,
                         std::string node,
                         proto::StoredKey key,
                         ByteCount length)
    : plane_(plane),
      call_(std::move(call)),
      node_(std::move(node)),
      key_(std::move(key)),
      connection_(CallTo(call_, node_), key_, length, "node " + NodeText(node_)),
      asked_(executor) {}

std::string PlaneReader::Describe() const {
  return fabric_ == nullptr ? connection_.Describe() : fabric_->Describe();
}

bool PlaneReader::Doubt() {
  return !std::exchange(doubted_, true);
}

ByteCount PlaneReader::block_bytes() const {
  return transport::kMaxReadRangeBytes;
}

asio::awaitable<Status> PlaneReader::ReadBlock(ByteCount offset,
                                               MutableByteView into,
                                               transport::Deadline deadline) {
  if (!doubted_ && plane_->IsWorthTrying(node_)) {
    const auto limit = std::min(TimeLeft(deadline) / 2, kLongestTry);
    Status read = co_await ReadOverFabric(offset, into, steady_clock::now() + limit);
    if (read.has_value()) {
      plane_->OnFabricRead(node_, into.size());
      co_return Ok();
    }
    if (read.error().code == Errc::kCancelled) {
      co_return read;
    }
    fabric_.reset();
    // Freed, or one too many to lend: no fault of the fabric.
    const Errc code = read.error().code;
    if (code != Errc::kNotFound && code != Errc::kNoSpace) {
      plane_->OnFabricFailed(node_, read.error());
    }
  }
  transport::ReadOptions options;
  options.deadline = deadline;
  HF_CO_TRYV(co_await connection_.Read(offset, into, options));
  plane_->OnConnectionRead(into.size());
  co_return Ok();
}

asio::awaitable<Status> PlaneReader::ReadOverFabric(ByteCount offset,
                                                    MutableByteView into,
                                                    transport::Deadline deadline) {
  transport::ReadOptions options;
  options.deadline = deadline;
  options.depth = kFabricDepth;
  // What was lent before may have been let go since, or be lent anew: the fabric is at fault only
  // where what has just been lent cannot be read.
  for (;;) {
    if (fabric_ != nullptr && steady_clock::now() >= borrowed_at_ + kAskAgainAfter) {
      fabric_.reset();
    }
    const bool fresh = fabric_ == nullptr;
    if (fresh) {
      HF_CO_TRYV(co_await Borrow(deadline));
    }
    const auto reader = fabric_;  // another block that fails lets go of it
    if (reader == nullptr) {
      co_return Error(Errc::kUnavailable, "another read over the fabric failed meanwhile");
    }
    Status read = co_await reader->Read(offset, into, options);
    const bool stale =
        !fresh && !read.has_value() &&
        (read.error().code == Errc::kUnavailable || read.error().code == Errc::kNotFound);
    if (!stale) {
      co_return read;
    }
    if (fabric_ == reader) {
      fabric_.reset();
    }
  }
}

asio::awaitable<Status> PlaneReader::Borrow(transport::Deadline deadline) {
  while (asking_) {
    co_await asked_.WaitUntil(deadline);
    if (fabric_ != nullptr) {
      co_return Ok();
    }
    if (co_await Cancelled()) {
      co_return Error(Errc::kCancelled, "cancelled while the bytes were asked for");
    }
    if (!asking_ && refused_.has_value()) {
      co_return *refused_;  // what the one who asked was told
    }
    if (steady_clock::now() >= deadline) {
      co_return Error(Errc::kTimeout, "the node did not lend the bytes in time");
    }
  }
  asking_ = true;
  refused_.reset();
  auto borrowed = co_await AskRegion(deadline);
  asking_ = false;
  if (borrowed.has_value()) {
    fabric_ = borrowed.value();
    borrowed_at_ = steady_clock::now();
  } else if (borrowed.error().code != Errc::kCancelled) {
    refused_ = borrowed.error();  // else one of those who wait asks
  }
  asked_.NotifyAll();
  co_return borrowed.has_value() ? Status(Ok()) : Status(borrowed.error());
}

asio::awaitable<Result<std::shared_ptr<transport::RangeReader>>> PlaneReader::AskRegion(
    transport::Deadline deadline) {
  proto::PeerRequest request;
  *request.mutable_lend()->mutable_key() = key_;
  request.mutable_lend()->set_provider(plane_->reading()->provider());
  HF_CO_TRY(const proto::PeerReply reply,
            co_await call_(node_, std::move(request), TimeLeft(deadline)));
  HF_CO_TRY(const transport::FabricRegion region, transport::FromProto(reply.lend().region()));
  if (region.length != length()) {
    co_return Error(
        Errc::kInvalidArgument,
        "a region of " + std::to_string(region.length) + " bytes for " + std::to_string(length()));
  }
  HF_CO_TRY(std::unique_ptr<transport::RangeReader> reader,
            plane_->reading()->Reader(region, "node " + NodeText(node_)));
  co_return std::shared_ptr<transport::RangeReader>(std::move(reader));
}

}  // namespace holdfast::daemon
