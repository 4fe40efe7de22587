#include "daemon/parity/remote_bytes.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "common/bytes.h"
#include "common/crc32c.h"
#include "common/log.h"
#include "daemon/pipeline/stored_readers.h"
#include "layout/sidecar.h"

namespace holdfast::daemon {

namespace asio = boost::asio;

namespace {

constexpr std::chrono::milliseconds kSmallRequest{15'000};
constexpr std::chrono::milliseconds kProbe{1'000};  // no answer is an answer

proto::StoredParity ParityName(const CodeSet& set,
                               const GroupsName& groups,
                               std::uint32_t stripe,
                               std::uint32_t row) {
  proto::StoredParity name;
  name.set_local_rank(set.local_rank);
  name.set_stripe(stripe);
  name.set_row(row);
  name.set_group_epoch(groups.epoch);
  name.set_group_version(groups.version);
  name.set_kind(set.kind);
  return name;
}

// A taker's questions to the maker of its row, or of its share once that has been told to begin.
class RemoteFeed final : public FeedCalls {
 public:
  RemoteFeed(NodeCall call,
             std::string node,
             proto::StoredKey key,
             std::optional<proto::DecodeShareRequest> begin)
      : call_(std::move(call)),
        node_(std::move(node)),
        key_(std::move(key)),
        begin_(std::move(begin)) {}

  [[nodiscard]] asio::awaitable<Result<FedWindow>> Next(std::uint64_t number,
                                                        transport::Deadline deadline) override {
    if (begin_.has_value()) {
      proto::PeerRequest begin;
      *begin.mutable_decode_share() = std::move(*begin_);
      begin_.reset();
      HF_CO_TRYV(
          co_await call_(node_, std::move(begin), std::min(kSmallRequest, TimeLeft(deadline))));
    }
    proto::PeerRequest request;
    *request.mutable_feed_next()->mutable_key() = key_;
    request.mutable_feed_next()->set_number(number);
    HF_CO_TRY(const proto::PeerReply reply,
              co_await call_(node_, std::move(request), TimeLeft(deadline)));
    const proto::FeedNextReply& next = reply.feed_next();
    FedWindow window;
    window.offset = next.offset();
    window.length = next.length_bytes();
    window.at = next.at();
    window.chunk_crc32c.assign(next.chunk_crc32c().begin(), next.chunk_crc32c().end());
    co_return window;
  }

  [[nodiscard]] std::string Describe() const override { return "node " + NodeText(node_); }

 private:
  const NodeCall call_;
  const std::string node_;
  const proto::StoredKey key_;
  std::optional<proto::DecodeShareRequest> begin_;
};

Error WrongSidecar(const std::string& node, Rank rank, const char* why) {
  return Error(
      Errc::kCorruption,
      "the sidecar of rank " + std::to_string(rank) + " from node " + NodeText(node) + " " + why);
}

}  // namespace

Result<proto::Sidecar> SidecarHere(const CoreGate& core, const proto::SnapshotId& id, Rank rank) {
  const proto::Sidecar* known = core.view().FindSidecar(id, rank);
  if (known == nullptr) {
    return Error(Errc::kNotFound, "this node does not know that shard (any more)");
  }
  return *known;
}

Result<SharedDigests> DigestsOf(const proto::Sidecar& sidecar, proto::ImageKind kind) {
  const proto::ImageDigest* image = ImageOf(sidecar, kind);
  const std::string shard =
      "the shard of rank " + std::to_string(sidecar.rank()) + " of " + ToText(KeyOf(sidecar.id()));
  if (image == nullptr) {
    return Error(Errc::kInvalidArgument, "the sidecar of " + shard + " has no such image");
  }
  return DigestedBytes::Of(kind == proto::STATIC ? "the static image of " + shard : shard, *image);
}

proto::StoredKey ImageKey(const JobUid& job,
                          const SnapshotKey& id,
                          Rank rank,
                          proto::ImageKind kind) {
  proto::StoredKey key;
  *key.mutable_id() = ToProto(job, id);
  key.mutable_image()->set_rank(rank);
  key.mutable_image()->set_kind(kind);
  return key;
}

proto::StoredKey RowKey(const JobUid& job,
                        const SnapshotKey& id,
                        const CodeSet& set,
                        const GroupsName& groups,
                        std::uint32_t stripe,
                        std::uint32_t row) {
  proto::StoredKey key;
  *key.mutable_id() = ToProto(job, id);
  *key.mutable_parity() = ParityName(set, groups, stripe, row);
  return key;
}

proto::StoredKey FeedKey(const JobUid& job,
                         const SnapshotKey& id,
                         const CodeSet& set,
                         std::uint32_t stripe,
                         std::uint32_t row) {
  proto::StoredKey key;
  *key.mutable_id() = ToProto(job, id);
  *key.mutable_feed() = ParityName(set, set.Groups(), stripe, row);
  return key;
}

Result<std::shared_ptr<ShardReader>> RemoteBytes::Reader(const std::string& node,
                                                         const proto::StoredKey& key,
                                                         SharedDigests what) const {
  if (node == node_uuid_) {
    const auto stored = core_->view().FindStored(key);
    if (!stored.has_value()) {
      return Error(Errc::kNotFound, what->name() + " is not in this node's memory");
    }
    HF_TRY(SharedSlot slot, context_.slots.Find(stored->slot));
    return SlotShardReader::Make(cpu_, std::move(what), std::move(slot), stored->base);
  }
  auto range = plane_->Reader(call_, node, key, what->length());
  return PeerShardReader::Make(cpu_, std::move(what), std::move(range));
}

Result<std::shared_ptr<ShardReader>> RemoteBytes::Image(const std::string& node,
                                                        const JobUid& job,
                                                        const SnapshotKey& id,
                                                        const proto::Sidecar& sidecar,
                                                        proto::ImageKind kind) const {
  HF_TRY(SharedDigests what, DigestsOf(sidecar, kind));
  return Reader(node, ImageKey(job, id, sidecar.rank(), kind), std::move(what));
}

asio::awaitable<Result<proto::DescribeReply>> RemoteBytes::Describe(
    const std::string& node, const proto::StoredKey& key, std::chrono::milliseconds limit) const {
  if (node != node_uuid_) {
    proto::PeerRequest request;
    *request.mutable_describe()->mutable_key() = key;
    HF_CO_TRY(const proto::PeerReply reply, co_await call_(node, std::move(request), limit));
    co_return reply.describe();
  }
  const auto stored = core_->view().FindStored(key);
  if (!stored.has_value()) {
    co_return Error(Errc::kNotFound, "a row that is not in this node's memory");
  }
  proto::DescribeReply described;
  described.set_length_bytes(stored->length_bytes);
  described.mutable_chunk_crc32c()->Assign(stored->chunk_crc32c.begin(),
                                           stored->chunk_crc32c.end());
  co_return described;
}

asio::awaitable<Result<std::shared_ptr<ShardReader>>> RemoteBytes::Row(std::string node,
                                                                       proto::StoredKey key,
                                                                       ByteCount length) const {
  HF_CO_TRY(const proto::DescribeReply described, co_await Describe(node, key, kSmallRequest));
  proto::ImageDigest digest;
  digest.set_chunk_bytes(kChunkBytes);
  digest.set_length_bytes(described.length_bytes());
  *digest.mutable_chunk_crc32c() = described.chunk_crc32c();
  if (digest.length_bytes() != length) {
    co_return Error(Errc::kCorruption,
                    "node " + NodeText(node) + " has a row of " +
                        std::to_string(digest.length_bytes()) + " bytes instead of " +
                        std::to_string(length));
  }
  HF_CO_TRY(SharedDigests what,
            DigestedBytes::Of("row " + std::to_string(key.parity().row()) + " of stripe " +
                                  std::to_string(key.parity().stripe()),
                              digest));
  co_return Reader(node, key, std::move(what));
}

void RemoteBytes::PoisonOwn(const std::string& node,
                            const proto::StoredKey& key,
                            CoreGate* core) const {
  const auto stored = node == node_uuid_ ? core_->view().FindStored(key) : std::nullopt;
  if (stored.has_value()) {
    const std::string why = "a chunk is not what was sealed; found when it was encoded";
    LogWarning("slot.poisoned", why);
    (*core)->OnSlotPoisoned(stored->slot, why);
  }
}

asio::awaitable<bool> RemoteBytes::HasRow(std::string node,
                                          proto::StoredKey key,
                                          ByteCount length) const {
  const auto described = co_await Describe(node, key, kProbe);
  co_return described.has_value() && described.value().length_bytes() == length;
}

FeedSource RemoteBytes::Feed(const std::string& node,
                             const proto::StoredKey& key,
                             ByteCount ring) const {
  FeedSource source;
  source.calls = std::make_shared<RemoteFeed>(call_, node, key, std::nullopt);
  source.ring = plane_->Reader(call_, node, key, ring);
  return source;
}

FeedSource RemoteBytes::Share(const std::string& node,
                              proto::DecodeShareRequest request,
                              ByteCount ring) const {
  FeedSource source;
  const proto::StoredKey key = request.key();
  source.calls = std::make_shared<RemoteFeed>(call_, node, key, std::move(request));
  source.ring = plane_->Reader(call_, node, key, ring);
  return source;
}

asio::awaitable<Result<proto::Sidecar>> RemoteBytes::Sidecar(std::string node,
                                                             JobUid job,
                                                             SnapshotKey id,
                                                             Rank rank) const {
  if (node == node_uuid_) {  // there is no connection to ask over
    co_return SidecarHere(*core_, ToProto(job, id), rank);
  }
  proto::FetchSidecarRequest request;
  *request.mutable_id() = ToProto(job, id);
  request.set_rank(rank);
  request.set_without_layout(true);
  HF_CO_TRY(proto::Sidecar sidecar, co_await AskForSidecar(std::move(node), std::move(request)));
  sidecar.clear_layout();
  co_return sidecar;
}

asio::awaitable<Result<SharedLayout>> RemoteBytes::LayoutOf(std::string node,
                                                            proto::Sidecar sidecar) const {
  SharedLayout known = context_.layouts.Find(sidecar.layout_hash());
  if (known != nullptr) {
    HF_CO_TRYV(layout::CheckImagesAgainst(*known, sidecar));
    co_return known;
  }
  if (node == node_uuid_) {
    co_return Error(Errc::kInternal, "the layout of a sidecar is not in the store");
  }
  proto::FetchSidecarRequest request;
  *request.mutable_id() = sidecar.id();
  request.set_rank(sidecar.rank());
  HF_CO_TRY(proto::Sidecar whole, co_await AskForSidecar(node, std::move(request)));
  if (!whole.has_layout() || whole.layout_hash() != sidecar.layout_hash()) {
    co_return WrongSidecar(node, sidecar.rank(), "came without the layout that it named before");
  }
  HF_CO_TRYV(layout::CheckImagesAgainst(whole.layout(), sidecar));
  co_return std::make_shared<const proto::Layout>(std::move(*whole.mutable_layout()));
}

asio::awaitable<Result<proto::Sidecar>> RemoteBytes::AskForSidecar(
    std::string node, proto::FetchSidecarRequest asked) const {
  const Rank rank = asked.rank();
  const std::string id = asked.id().SerializeAsString();
  proto::PeerRequest request;
  *request.mutable_fetch_sidecar() = std::move(asked);
  HF_CO_TRY(const proto::PeerReply reply, co_await call_(node, std::move(request), kSmallRequest));
  const std::string& text = reply.fetch_sidecar().sidecar();
  if (Crc32c(0, AsBytes(text)) != reply.fetch_sidecar().sidecar_crc32c()) {
    co_return WrongSidecar(node, rank, "does not match its digest");
  }
  HF_CO_TRY(proto::Sidecar sidecar, layout::ParseSidecar(AsBytes(text)));
  HF_CO_TRYV(layout::ValidateSidecar(sidecar));  // and the layout, where it is there
  if (sidecar.id().SerializeAsString() != id || sidecar.rank() != rank) {
    co_return WrongSidecar(node, rank, "is another's");
  }
  co_return sidecar;
}

}  // namespace holdfast::daemon
