// Shards of other nodes, and lost ones, brought into this node's memory.
#include <string>
#include <utility>
#include <vector>

#include "common/log.h"
#include "daemon/parity/parity_runner.h"
#include "daemon/pipeline/rebuild.h"
#include "daemon/pipeline/windows.h"

namespace holdfast::daemon {

namespace asio = boost::asio;

namespace {

constexpr ByteCount kPullWindow = 8 * kMiB;
constexpr std::chrono::milliseconds kWindowLimit{60'000};

Error Refused() {
  return Error(Errc::kCancelled, "the daemon is ending");
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
  HF_CO_TRY(const auto shard,
            remote_->Image(action.node_uuid, action.job_uid, action.id, action.sidecar));
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

asio::awaitable<Status> ParityRunner::DecodeShard(const struct RebuildShard& action) {
  HF_CO_TRY(SharedGroup group, CodedGroup::Make(action.set.geometry));
  if (action.sidecar.images().empty() || action.holders.size() != action.set.Count()) {
    co_return Error(Errc::kInternal, "a shard to rebuild without sidecar or holders");
  }
  HF_CO_TRY(SharedDigests what,
            DigestedBytes::Of("the shard of rank " + std::to_string(action.rank),
                              action.sidecar.images(0)));
  HF_CO_TRY(const auto place, Place(action.slot, what->length()));
  auto sources = std::make_shared<GroupSources>(GroupSources::None(group->stripes));
  std::vector<CodeHolder> holders = action.holders;
  std::string missing;  // I11: who had what cannot be had now
  for (std::uint32_t position = 0; position < action.set.Count(); ++position) {
    const std::string& node = holders[position].shard_node;
    if (position == action.position || node.empty()) {
      continue;
    }
    // Its digests are in its sidecar, which its holder has beside it.
    const auto sidecar =
        co_await remote_->Sidecar(node, action.job_uid, action.id, action.set.ranks[position]);
    if (sidecar.has_value()) {
      auto image = remote_->Image(node, action.job_uid, action.id, sidecar.value());
      sources->shards[position] = image.has_value() ? std::move(image).value() : nullptr;
      continue;
    }
    missing += "; that of rank " + std::to_string(action.set.ranks[position]) + " on node " +
               NodeText(node) + ": " + sidecar.error().message;
    if (IsAway(sidecar.error()) && node == action.set.geometry.members[position]) {
      holders[position].rows.clear();  // nor can they be had
    }
  }
  co_await AddRows(action.job_uid, action.id, action.set, *group, holders, sources.get());
  const std::string from = "parity, any " + std::to_string(group->stripes.Code().data) + " of " +
                           std::to_string(sources->Nodes(group->stripes)) + " nodes";
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
  ShardToRebuild work(group, action.position, std::move(reader), place.second);
  // No survivor decodes for this node yet: every segment is decoded here.
  work.helpers.resize(group->stripes.Code().data);
  const Status rebuilt = co_await RebuildShard(cpu_, std::move(work), options, note);
  if (!rebuilt.has_value()) {
    co_return Error(rebuilt.error().code, rebuilt.error().message + missing);
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
