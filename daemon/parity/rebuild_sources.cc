#include "daemon/parity/rebuild_sources.h"

#include <algorithm>
#include <chrono>
#include <numeric>

#include "common/check.h"
#include "common/with_timeout.h"

namespace holdfast::daemon {

namespace asio = boost::asio;
using Clock = std::chrono::steady_clock;

namespace {

// Those that have not answered when the others were enough are waited for so much longer than that
// took, but not less than what a busy node needs.
constexpr int kLateTimes = 3;
constexpr std::chrono::milliseconds kLateAtLeast{200};
constexpr std::chrono::minutes kUntilAllAnswered{10};  // each request has a limit of its own

}  // namespace

std::set<std::uint32_t> StripesOfShard(const CodeSet& set,
                                       const CodedGroup& group,
                                       std::uint32_t position) {
  std::set<std::uint32_t> stripes;
  for (std::uint32_t segment = 0; segment < set.geometry.code.data; ++segment) {
    if (group.stripes.SegmentLength(position, segment) > 0) {
      stripes.insert(group.stripes.StripeOf(position, segment));
    }
  }
  return stripes;
}

SourceSearch::SourceSearch(const asio::any_io_executor& executor,
                           const RemoteBytes* remote,
                           Wanted wanted,
                           HeldSet held,
                           std::shared_ptr<GroupSources> sources)
    : remote_(remote),
      wanted_(std::move(wanted)),
      held_(std::move(held)),
      sources_(std::move(sources)),
      tasks_(executor, "sources of a rebuild", held_.set.Count()),
      changed_(executor),
      missing_(held_.set.Count()) {
  HOLDFAST_CHECK(held_.holders.size() == held_.set.Count());
}

bool SourceSearch::IsEnough() const {
  const ec::Stripes& stripes = wanted_.group->stripes;
  const std::uint32_t k = stripes.Code().data;
  return std::all_of(wanted_.stripes.begin(), wanted_.stripes.end(), [&](std::uint32_t stripe) {
    const auto& rows = sources_->rows[stripe];
    const auto lost = std::count(rows.begin(), rows.end(), nullptr);
    std::size_t there = rows.size() - static_cast<std::size_t>(lost);
    for (std::uint32_t index = 0; index < k; ++index) {
      const bool zeros = stripes.VectorLength(stripe, index) == 0;
      there += zeros || sources_->shards[stripes.PositionOf(stripe, index)] != nullptr ? 1 : 0;
    }
    return there >= k;
  });
}

asio::awaitable<void> SourceSearch::UntilEnough() {
  const auto began = Clock::now();
  sources_->open = true;
  for (std::uint32_t position = 0; position < held_.set.Count(); ++position) {
    waiting_.insert(position);
    HOLDFAST_CHECK(tasks_.Spawn(Ask(position)));
  }
  auto until = began + kUntilAllAnswered;
  bool enough = false;
  while (!waiting_.empty() && Clock::now() < until && !co_await Cancelled()) {
    if (!enough && IsEnough()) {
      enough = true;
      const auto took = Clock::now() - began;
      until = Clock::now() + std::max<Clock::duration>(kLateAtLeast, took * kLateTimes);
    }
    co_await changed_.Wait(std::chrono::ceil<std::chrono::milliseconds>(until - Clock::now()));
  }
}

asio::awaitable<void> SourceSearch::Ask(std::uint32_t position) {
  if (wanted_.lost.has_value() && wanted_.lost != position &&
      !held_.holders[position].shard_node.empty()) {
    co_await AskForShard(position);
  }
  co_await AskForRows(position);
  waiting_.erase(position);
  sources_->open = !waiting_.empty();
  changed_.Notify();
}

asio::awaitable<void> SourceSearch::AskForShard(std::uint32_t position) {
  CodeHolder& holder = held_.holders[position];
  const std::string node = holder.shard_node;
  const CodedId& what = wanted_.id;
  const Rank rank = held_.set.ranks[position];
  const auto sidecar = co_await remote_->Sidecar(node, what.job_uid, what.id, rank);
  if (sidecar.has_value()) {
    auto image = remote_->Image(node, what.job_uid, what.id, sidecar.value(), held_.set.kind);
    sources_->shards[position] = image.has_value() ? std::move(image).value() : nullptr;
    co_return;
  }
  missing_[position] = MissingText(position, sidecar.error().message);
  holder.shard_node.clear();
  if (IsAway(sidecar.error()) && node == held_.set.geometry.members[position]) {
    holder.rows.clear();  // nor can they be had
  }
}

asio::awaitable<void> SourceSearch::AskForRows(std::uint32_t position) {
  const CodeSet& set = held_.set;
  for (const auto& [row, groups] : held_.holders[position].rows) {
    const std::uint32_t stripe = set.StripeOfRow(position, row);
    const ByteCount length = wanted_.group->stripes.RowLength(stripe);
    if (length == 0 || !wanted_.stripes.contains(stripe) || co_await Cancelled()) {
      continue;
    }
    const auto key = RowKey(wanted_.id.job_uid, wanted_.id.id, set, groups, stripe, row);
    auto reader = co_await remote_->Row(set.geometry.members[position], key, length);
    if (reader.has_value()) {
      sources_->rows[stripe][row] = std::move(reader).value();
    } else if (IsAway(reader.error())) {
      break;  // or it would be waited for at each of its rows
    }
  }
}

HeldSet SourceSearch::Reached() const {
  HeldSet reached = held_;
  for (const std::uint32_t position : waiting_) {
    reached.holders[position].rows.clear();
    if (sources_->shards[position] == nullptr) {
      reached.holders[position].shard_node.clear();
    }
  }
  return reached;
}

std::string SourceSearch::MissingText(std::uint32_t position, const std::string& why) const {
  return "; that of rank " + std::to_string(held_.set.ranks[position]) + " on node " +
         NodeText(held_.holders[position].shard_node) + ": " + why;
}

std::string SourceSearch::Missing() const {
  std::string text = std::accumulate(missing_.begin(), missing_.end(), std::string());
  for (const std::uint32_t position : waiting_) {
    if (wanted_.lost.has_value() && position != wanted_.lost &&
        !held_.holders[position].shard_node.empty() && sources_->shards[position] == nullptr) {
      text += MissingText(position, "it does not answer");
    }
  }
  return text;
}

}  // namespace holdfast::daemon
