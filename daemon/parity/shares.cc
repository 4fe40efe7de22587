#include "daemon/parity/shares.h"

#include <cstdint>
#include <utility>
#include <vector>

#include "common/log.h"
#include "daemon/peer_messages_groups.h"
#include "daemon/pipeline/rebuild.h"

namespace holdfast::daemon {

namespace asio = boost::asio;

namespace {

// Each has a ring of kDepth windows, and beside it what its reader decodes with.
constexpr std::size_t kShares = 8;
constexpr ByteCount kWindow = 8 * kMiB;
constexpr std::size_t kDepth = 3;

Error Invalid(const std::string& what) {
  return Error(Errc::kInvalidArgument, "a share " + what);
}

}  // namespace

FeedShape ShareFeedShape(ByteCount length) {
  return FeedShape{Windows(length, kWindow), 1, kDepth};
}

struct ShareMaker::Share {
  proto::StoredKey key;
  CodedId id;
  HeldSet held;
  SharedGroup group;
  std::uint32_t position = 0;  // of the lost shard
  ByteCount offset = 0;        // of the segment in it
  ByteCount length = 0;
  SharedDigests what;
  std::shared_ptr<WindowFeed> feed;
};

ShareMaker::ShareMaker(const asio::any_io_executor& executor,
                       WorkerPool* cpu,
                       const CoreGate* core,
                       Feeds* feeds,
                       const RemoteBytes* remote,
                       TrafficPriority* priority)
    : cpu_(cpu),
      core_(core),
      feeds_(feeds),
      remote_(remote),
      priority_(priority),
      tasks_(executor, "shares", kShares) {}

Result<std::shared_ptr<ShareMaker::Share>> ShareMaker::Plan(
    const proto::DecodeShareRequest& request) const {
  auto share = std::make_shared<Share>();
  share->key = request.key();
  share->id = {request.key().id().job_uid(), KeyOf(request.key().id())};
  HF_TRY(ShardOrder order, OrderOf(request.order()));
  if (!order.held.has_value()) {
    return Invalid("without a code set");
  }
  share->held = std::move(*order.held);
  const CodeSet& set = share->held.set;
  HF_TRY(share->group, CodedGroup::Make(set.geometry));
  const proto::StoredShare& asked = request.key().share();
  const auto position = set.PositionOfRank(asked.rank());
  if (!position.has_value() || asked.segment() >= set.geometry.code.data) {
    return Invalid("of rank " + std::to_string(asked.rank()) + ", segment " +
                   std::to_string(asked.segment()) + ", which its code set does not have");
  }
  share->position = *position;
  const ec::Stripes& stripes = share->group->stripes;
  share->offset = asked.segment() * stripes.SegmentBytes();
  share->length = stripes.SegmentLength(share->position, asked.segment());
  if (share->length == 0) {
    return Invalid("of no bytes");
  }
  const proto::Sidecar* sidecar = core_->view().FindSidecar(request.key().id(), asked.rank());
  if (sidecar == nullptr) {
    return Error(Errc::kUnavailable, "this node does not know what that shard held");
  }
  HF_TRY(share->what, DigestsOf(*sidecar, set.kind));
  return share;
}

asio::awaitable<Status> ShareMaker::Begin(proto::DecodeShareRequest request) {
  HF_CO_TRY(std::shared_ptr<Share> share, Plan(request));
  if (tasks_.size() + beginning_ >= kShares) {
    co_return Error(Errc::kUnavailable,
                    "this node decodes " + std::to_string(kShares) + " shares for others already");
  }
  ++beginning_;
  auto feed = co_await WindowFeed::Allocate(cpu_, ShareFeedShape(share->length));
  --beginning_;
  HF_CO_TRY(share->feed, std::move(feed));
  feeds_->Add(share->key, share->feed);
  if (!tasks_.Spawn(Run(share))) {
    feeds_->Remove(share->key, share->feed);
    co_return Error(Errc::kUnavailable, "this node is ending, or decodes for others already");
  }
  co_return Ok();
}

// Sidecars of all shards of a group are on every member before anything counts as protected (I10).
void ShareMaker::AddShards(const Share& share, GroupSources* sources) const {
  const proto::SnapshotId id = ToProto(share.id.job_uid, share.id.id);
  const CodeSet& set = share.held.set;
  for (std::uint32_t position = 0; position < set.Count(); ++position) {
    const std::string& node = share.held.holders[position].shard_node;
    const proto::Sidecar* sidecar = position == share.position || node.empty()
                                        ? nullptr
                                        : core_->view().FindSidecar(id, set.ranks[position]);
    if (sidecar == nullptr) {
      continue;
    }
    auto image = remote_->Image(node, share.id.job_uid, share.id.id, *sidecar, set.kind);
    if (image.has_value()) {
      sources->shards[position] = std::move(image).value();
    }
  }
}

asio::awaitable<Status> ShareMaker::Decode(const Share& share) {
  auto sources = std::make_shared<GroupSources>(GroupSources::None(share.group->stripes));
  AddShards(share, sources.get());
  const std::uint32_t segment = share.key.share().segment();
  const Wanted wanted{share.id,
                      share.group.get(),
                      {share.group->stripes.StripeOf(share.position, segment)},
                      std::nullopt};
  SourceSearch search(co_await asio::this_coro::executor, remote_, wanted, share.held, sources);
  if (const auto own = share.held.set.PositionOfNode(remote_->node_uuid()); own.has_value()) {
    sources->preference = {*own};
  }
  HF_CO_TRY(
      auto reader,
      RebuildReader::Make(
          cpu_, share.what, share.group, share.position, std::move(sources), RebuildOptions()));
  ShareOptions options;
  options.priority = priority_;
  auto feed = [&] {
    return FeedShare(ShareToFeed(std::move(reader), share.offset, share.feed), options);
  };
  co_return co_await search.Run(std::move(feed));
}

asio::awaitable<void> ShareMaker::Run(std::shared_ptr<Share> share) {
  const Status done = co_await Decode(*share);
  if (!done.has_value()) {
    share->feed->Fail(done.error());  // unless it has failed already
    LogDebug("parity.share_not_decoded",
             share->what->name() + " of " + ToText(share->id.id) + ", segment " +
                 std::to_string(share->key.share().segment()) + ": " + done.error().ToString());
  }
  feeds_->Remove(share->key, share->feed);
}

}  // namespace holdfast::daemon
