#include "daemon/parity/stored_server.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <utility>

#include "common/bytes.h"
#include "common/crc32c.h"
#include "common/failpoint.h"
#include "common/log.h"
#include "daemon/parity/remote_bytes.h"
#include "transport/peer_messages.h"

namespace holdfast::daemon {

namespace asio = boost::asio;

namespace {

Error NotHere() {
  return Error(Errc::kNotFound, "this node does not have these bytes (any more, or yet)");
}

// Of what is being made: not in the arena, but in a ring.
bool IsRing(const proto::StoredKey& key) {
  return key.has_feed() || key.has_share();
}

Status CheckRange(const proto::ReadRangeRequest& request, std::uint64_t length) {
  if (request.offset() > length || request.length() > length - request.offset()) {
    return Error(Errc::kInvalidArgument,
                 "a read of " + std::to_string(request.length()) + " bytes at " +
                     std::to_string(request.offset()) + " of " + std::to_string(length));
  }
  return Ok();
}

Result<ByteView> InSlot(const storage_tiers::SlotFile& slot, const NodeCore::StoredBytes& stored) {
  if (stored.base > slot.capacity() || stored.length_bytes > slot.capacity() - stored.base) {
    return Error(Errc::kCorruption, "the slot's file is shorter than what it holds");
  }
  return slot.view().subspan(stored.base, stored.length_bytes);
}

// On a worker: the bytes of one request, at most 4 MiB.
proto::PeerReply CopyOf(ByteView bytes) {
  proto::PeerReply reply;
  std::string* data = reply.mutable_read_range()->mutable_data();
  data->assign(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  transport::AddDigests(reply.mutable_read_range());
  return reply;
}

}  // namespace

asio::awaitable<Result<proto::PeerReply>> StoredServer::Answer(proto::PeerRequest request) {
  if (request.has_read_range()) {
    co_return co_await ReadRange(request.read_range());
  }
  if (request.has_feed_next()) {
    co_return co_await FeedNext(request.feed_next(),
                                std::chrono::milliseconds(request.deadline_ms()));
  }
  if (request.has_describe()) {
    co_return Describe(request.describe());
  }
  if (request.has_fetch_sidecar()) {
    co_return FetchSidecar(request.fetch_sidecar());
  }
  if (request.has_lend()) {
    const std::chrono::milliseconds limit(request.deadline_ms());
    proto::PeerReply reply;
    HF_CO_TRY(*reply.mutable_lend(), co_await plane_->Lend(request.lend(), limit));
    co_return reply;
  }
  co_return Error(Errc::kUnavailable, "this daemon does not answer such requests");
}

Result<StoredBytesView> StoredServer::FindBytes(const proto::StoredKey& key) const {
  if (IsRing(key)) {
    const std::shared_ptr<WindowFeed> feed = feeds_->Find(key);
    if (feed == nullptr) {
      return NotHere();
    }
    return StoredBytesView{feed->memory(), feed};
  }
  const auto stored = core_->view().FindStored(key);
  if (!stored.has_value()) {
    return NotHere();
  }
  HF_TRY(const SharedSlot slot, context_.slots.Find(stored->slot));
  HF_TRY(const ByteView bytes, InSlot(*slot, *stored));
  return StoredBytesView{bytes, slot};
}

asio::awaitable<Result<proto::PeerReply>> StoredServer::ReadRange(proto::ReadRangeRequest request) {
  if (IsRing(request.key())) {
    const std::shared_ptr<WindowFeed> feed = feeds_->Find(request.key());
    if (feed == nullptr) {
      co_return NotHere();
    }
    HF_CO_TRY(const ByteView lent, feed->Lent(request.offset(), request.length()));
    // The feed is held by the work: its memory must not go while a worker reads it.
    auto copy = [feed, lent]() -> Result<proto::PeerReply> { return CopyOf(lent); };
    co_return co_await Offload(*cpu_, std::move(copy));
  }
  const auto stored = core_->view().FindStored(request.key());
  if (!stored.has_value()) {
    co_return NotHere();
  }
  HF_CO_TRYV(CheckRange(request, stored->length_bytes));
  HF_CO_TRY(const SharedSlot slot, context_.slots.Find(stored->slot));
  HF_CO_TRY(const ByteView bytes, InSlot(*slot, *stored));
  const ByteView part = bytes.subspan(request.offset(), request.length());
  auto copy = [slot, part]() -> Result<proto::PeerReply> {
    proto::PeerReply reply = CopyOf(part);
    if (slot->poisoned()) {
      return Error(Errc::kCorruption, "the file behind the slot was cut");
    }
    return reply;
  };
  HF_CO_TRY(proto::PeerReply reply, co_await Offload(*cpu_, std::move(copy)));
  HF_CO_TRYV(CheckRead(request, *stored, reply.read_range()));
  co_return reply;
}

// I5: whoever reads finds rot by the digests of the sidecar, but cannot know whose fault it is, nor
// mend it.  Undiscovered here, a rotten shard would be asked for again and again: no later snapshot
// would be protected.
Status StoredServer::CheckRead(const proto::ReadRangeRequest& request,
                               const NodeCore::StoredBytes& stored,
                               const proto::ReadRangeReply& read) {
  if (request.offset() % kChunkBytes != 0) {
    return Ok();
  }
  const std::uint64_t end = request.offset() + request.length();
  for (int i = 0; i < read.chunk_crc32c_size(); ++i) {
    const std::uint64_t chunk = request.offset() / kChunkBytes + static_cast<std::uint64_t>(i);
    const std::uint64_t chunk_end = std::min((chunk + 1) * kChunkBytes, stored.length_bytes);
    const bool whole = chunk_end <= end && chunk < stored.chunk_crc32c.size();
    if (!whole || read.chunk_crc32c(i) == stored.chunk_crc32c[chunk]) {
      continue;
    }
    const auto now = core_->view().FindStored(request.key());
    if (!now.has_value() || now->slot != stored.slot) {
      return NotHere();  // freed meanwhile: the memory may be another's
    }
    Error why(Errc::kCorruption,
              "chunk " + std::to_string(chunk) +
                  " is not what was sealed; found when another node read it");
    ++poisoned_;
    LogWarning("slot.poisoned", why.ToString());
    (*core_)->OnSlotPoisoned(stored.slot, why.message);
    return why;
  }
  return Ok();
}

asio::awaitable<Result<proto::PeerReply>> StoredServer::FeedNext(proto::FeedNextRequest request,
                                                                 std::chrono::milliseconds limit) {
  const std::shared_ptr<WindowFeed> feed = feeds_->Find(request.key());
  const bool share = request.key().has_share();
  const std::uint32_t lane = share ? 0 : request.key().feed().row() - 1;
  if (feed == nullptr && share) {
    co_return Error(Errc::kUnavailable, "that share is not decoded here (any more)");
  }
  if (feed == nullptr) {
    // Who asks too early asks again.  A daemon that died while it pulled comes too late instead: it
    // must not wait for what has been, all the others' snapshots would wait with it.
    proto::StoredKey made = request.key();
    *made.mutable_parity() = request.key().feed();
    made.mutable_parity()->set_row(0);
    if (core_->view().FindStored(made).has_value()) {
      co_return Error(Errc::kUnavailable,
                      "the rows of that stripe were fed already: decode the row from the others");
    }
    co_return NotHere();
  }
  if (lane >= feed->shape().lanes) {
    co_return NotHere();
  }
  HF_CO_TRY(FedWindow window,
            co_await feed->Next(lane, request.number(), std::chrono::steady_clock::now() + limit));
  proto::PeerReply reply;
  reply.mutable_feed_next()->set_offset(window.offset);
  reply.mutable_feed_next()->set_length_bytes(window.length);
  reply.mutable_feed_next()->set_at(window.at);
  reply.mutable_feed_next()->mutable_chunk_crc32c()->Assign(window.chunk_crc32c.begin(),
                                                            window.chunk_crc32c.end());
  co_return reply;
}

Result<proto::PeerReply> StoredServer::Describe(const proto::DescribeRequest& request) const {
  const auto stored = core_->view().FindStored(request.key());
  if (!stored.has_value()) {
    return NotHere();
  }
  proto::PeerReply reply;
  reply.mutable_describe()->set_length_bytes(stored->length_bytes);
  reply.mutable_describe()->mutable_chunk_crc32c()->Assign(stored->chunk_crc32c.begin(),
                                                           stored->chunk_crc32c.end());
  return reply;
}

Result<proto::PeerReply> StoredServer::FetchSidecar(
    const proto::FetchSidecarRequest& request) const {
  HF_TRY(proto::Sidecar sidecar, SidecarHere(*core_, request.id(), request.rank()));
  if (!request.without_layout() && !sidecar.has_layout()) {
    const SharedLayout layout = context_.layouts.Find(sidecar.layout_hash());
    if (layout == nullptr) {
      return Error(Errc::kInternal, "the layout of a sidecar is not in the store");
    }
    *sidecar.mutable_layout() = *layout;
  }
  proto::PeerReply reply;
  reply.mutable_fetch_sidecar()->set_sidecar(sidecar.SerializeAsString());
  reply.mutable_fetch_sidecar()->set_sidecar_crc32c(
      Crc32c(0, AsBytes(reply.fetch_sidecar().sidecar())));
  return reply;
}

}  // namespace holdfast::daemon
