// Shards of other nodes, and lost ones, brought into this node's memory.
#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "common/log.h"
#include "common/random.h"
#include "daemon/parity/parity_runner.h"
#include "daemon/parity/rebuild_sources.h"
#include "daemon/parity/shares.h"
#include "daemon/peer_messages_groups.h"
#include "daemon/pipeline/rebuild.h"
#include "daemon/pipeline/windows.h"

namespace holdfast::daemon {

namespace asio = boost::asio;

namespace {

constexpr ByteCount kPullWindow = 8 * kMiB;
constexpr std::chrono::milliseconds kWindowLimit{60'000};
// A helper costs so much where all hang, so that none stands out.
constexpr std::chrono::milliseconds kHelperBegins{15'000};
constexpr std::chrono::milliseconds kHelperGoesOn{10'000};

Error Refused() {
  return Error(Errc::kCancelled, "the daemon is ending");
}

// Nodes that have any vector to decode by, but this one.
std::vector<std::string> Survivors(const HeldSet& reached,
                                   std::uint32_t lost,
                                   const GroupSources& sources,
                                   const std::string& self) {
  std::vector<std::string> nodes;
  const auto add = [&nodes, &self](const std::string& node) {
    if (!node.empty() && node != self &&
        std::find(nodes.begin(), nodes.end(), node) == nodes.end()) {
      nodes.push_back(node);
    }
  };
  for (std::uint32_t position = 0; position < reached.set.Count(); ++position) {
    const CodeHolder& holder = reached.holders[position];
    if (position != lost) {
      add(sources.shards[position] != nullptr ? holder.shard_node
          : holder.rows.empty()               ? ""
                                              : reached.set.geometry.members[position]);
    }
  }
  return nodes;
}

}  // namespace

void ParityRunner::Run(PullShard action) {
  const std::uint64_t ticket = action.ticket;
  if (!Start(ticket, DoPull(std::move(action)))) {
    (*core_)->OnShardMade(ticket, Refused());
  }
}

ParityRunner::Task ParityRunner::DoPull(PullShard action) {
  const MonotonicTime began = SystemClock().Now();
  OnShard(action.ticket, "parity.shard_not_pulled", began, co_await BringShard(action));
}

void ParityRunner::OnShard(std::uint64_t ticket,
                           const char* failed,
                           MonotonicTime began,
                           const Status& status) {
  bringing_.erase(ticket);
  if (status.has_value()) {
    ++counters_.shards;
    counters_.shard_seconds += std::chrono::duration<double>(SystemClock().Now() - began).count();
  } else {
    ++counters_.shards_failed;
    LogWarning(failed, status.error().ToString());
  }
  (*core_)->OnShardMade(ticket, status);
}

template <typename Action>
void ParityRunner::Expect(const Action& action, ByteCount total, const std::string& from) {
  proto::ShardOnItsWay& shard = bringing_[action.ticket];
  shard.set_rank(action.rank);
  *shard.mutable_id() = ToProto(action.job_uid, action.id);
  shard.set_total_bytes(total);
  shard.set_from(from);
}

asio::awaitable<Status> ParityRunner::BringShard(const PullShard& action) {
  HF_CO_TRY(
      const auto shard,
      remote_->Image(action.node_uuid, action.job_uid, action.id, action.sidecar, action.image));
  HF_CO_TRY(const auto place, Place(action.slot, shard->length()));
  Expect(action, shard->length(), "node " + NodeText(action.node_uuid));
  const auto urgent = priority_.Enter();
  const Windows windows(shard->length(), kPullWindow);
  for (std::uint64_t number = 0; number < windows.Count(); ++number) {
    ShardReadOptions options;
    options.deadline = std::chrono::steady_clock::now() + kWindowLimit;
    HF_CO_TRYV(
        co_await shard->ReadRange(windows.Begin(number),
                                  place.second.subspan(windows.Begin(number), windows.Size(number)),
                                  options));
    proto::ShardOnItsWay& on_its_way = bringing_.at(action.ticket);
    on_its_way.set_done_bytes(on_its_way.done_bytes() + windows.Size(number));
  }
  counters_.shard_bytes += shard->length();
  co_return Ok();
}

void ParityRunner::Run(struct RebuildShard action) {
  const std::uint64_t ticket = action.ticket;
  if (!Start(ticket, DoRebuild(std::move(action)))) {
    (*core_)->OnShardMade(ticket, Refused());
  }
}

ParityRunner::Task ParityRunner::DoRebuild(struct RebuildShard action) {
  const MonotonicTime began = SystemClock().Now();
  OnShard(action.ticket, "parity.shard_not_rebuilt", began, co_await DecodeShard(action));
}

// By segment, all that have a vector of it; another first one for each, so that all share the work.
std::vector<std::vector<FeedSource>> ParityRunner::HelpersOf(const struct RebuildShard& action,
                                                             const CodedGroup& group,
                                                             const GroupSources& sources,
                                                             const HeldSet& reached) const {
  const ec::Stripes& stripes = group.stripes;
  const std::uint32_t segments = stripes.Code().data;
  std::vector<std::vector<FeedSource>> helpers(segments);
  const std::vector<std::string> nodes =
      Survivors(reached, action.position, sources, remote_->node_uuid());
  if (segments == 1 || nodes.empty()) {
    return helpers;  // what is left of a mirror is the shard itself
  }
  // Who cannot be reached from here is not worth a survivor's time, unless it takes all there are.
  const bool enough = IsDecodable(reached, action.position);
  const ShardOrder order{reached.set.geometry.shard_bytes[action.position],
                         {},
                         enough ? reached : action.held,
                         std::nullopt};
  for (std::uint32_t segment = 0; segment < segments; ++segment) {
    const ByteCount length = stripes.SegmentLength(action.position, segment);
    for (std::size_t i = 0; length > 0 && i < nodes.size(); ++i) {
      proto::DecodeShareRequest request;
      *request.mutable_key()->mutable_id() = ToProto(action.job_uid, action.id);
      request.mutable_key()->mutable_share()->set_rank(action.rank);
      request.mutable_key()->mutable_share()->set_segment(segment);
      request.mutable_key()->mutable_share()->set_number(RandomToken());
      FillOrder(order, action.rank, request.mutable_order());
      helpers[segment].push_back(remote_->Share(nodes[(segment + i) % nodes.size()],
                                                std::move(request),
                                                ShareFeedShape(length).MemoryBytes()));
    }
  }
  return helpers;
}

asio::awaitable<Status> ParityRunner::DecodeShard(const struct RebuildShard& action) {
  const CodeSet& set = action.held.set;
  HF_CO_TRY(SharedGroup group, CodedGroup::Make(set.geometry));
  if (action.held.holders.size() != set.Count()) {
    co_return Error(Errc::kInternal, "a shard to rebuild without holders");
  }
  auto sources = std::make_shared<GroupSources>(GroupSources::None(group->stripes));
  const Wanted wanted{{action.job_uid, action.id},
                      group.get(),
                      StripesOfShard(set, *group, action.position),
                      action.position};
  SourceSearch search(co_await asio::this_coro::executor, remote_, wanted, action.held, sources);
  auto decode = [&] { return DecodeFound(action, search, group, sources); };
  co_return co_await search.Run(std::move(decode));
}

asio::awaitable<Status> ParityRunner::DecodeFound(const struct RebuildShard& action,
                                                  const SourceSearch& search,
                                                  SharedGroup group,
                                                  std::shared_ptr<GroupSources> sources) {
  HF_CO_TRY(SharedDigests what, DigestsOf(action.sidecar, action.held.set.kind));
  HF_CO_TRY(const auto place, Place(action.slot, what->length()));
  const std::string from = "parity, any " + std::to_string(group->stripes.Code().data) + " of " +
                           std::to_string(sources->Nodes(group->stripes)) + " nodes";
  auto helpers = HelpersOf(action, *group, *sources, search.Reached());
  HF_CO_TRY(
      auto reader,
      RebuildReader::Make(cpu_, std::move(what), group, action.position, std::move(sources), {}));
  const ByteCount length = reader->length();
  Expect(action, length, from);
  auto note = [this, ticket = action.ticket](ByteCount bytes) {
    bringing_.at(ticket).set_done_bytes(bytes);
  };
  RebuildShardOptions options;
  options.priority = &priority_;
  options.pull.window_bytes = ShareFeedShape(length).windows.window();
  options.pull.first_limit = kHelperBegins;
  options.pull.window_limit = kHelperGoesOn;
  ShardToRebuild work(group, action.position, std::move(reader), place.second);
  work.helpers = std::move(helpers);
  const Status rebuilt = co_await RebuildShard(cpu_, std::move(work), options, note);
  if (!rebuilt.has_value()) {
    co_return Error(rebuilt.error().code, rebuilt.error().message + search.Missing());
  }
  counters_.shard_bytes += length;
  co_return Ok();
}

void ParityRunner::Describe(proto::StatusReply* status) const {
  for (proto::JobStatus& job : *status->mutable_jobs()) {
    for (const auto& [ticket, shard] : bringing_) {
      if (shard.id().job_uid() == job.job_uid()) {
        *job.add_bringing() = shard;
      }
    }
  }
}

}  // namespace holdfast::daemon
