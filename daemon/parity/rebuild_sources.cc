#include "daemon/parity/rebuild_sources.h"

#include <algorithm>
#include <chrono>
#include <functional>
#include <numeric>
#include <utility>

#include "common/task_group.h"
#include "common/with_timeout.h"
#include "daemon/async_event.h"

namespace holdfast::daemon {

namespace asio = boost::asio;
using Clock = std::chrono::steady_clock;

namespace {

// Of those that have not answered when the others were enough: so much longer than that took, but
// not less than what a busy node needs.  A spare source is worth no more.
constexpr int kLateTimes = 3;
constexpr std::chrono::milliseconds kLateAtLeast{1'000};
constexpr std::chrono::minutes kUntilAllAnswered{10};  // each request has a limit of its own

bool IsEnough(const Wanted& wanted, const GroupSources& sources) {
  const ec::Stripes& stripes = wanted.group->stripes;
  const std::uint32_t k = stripes.Code().data;
  return std::all_of(wanted.stripes.begin(), wanted.stripes.end(), [&](std::uint32_t stripe) {
    const auto& rows = sources.rows[stripe];
    auto there =
        rows.size() - static_cast<std::size_t>(std::count(rows.begin(), rows.end(), nullptr));
    for (std::uint32_t index = 0; index < k; ++index) {
      const bool zeros = stripes.VectorLength(stripe, index) == 0;
      there += zeros || sources.shards[stripes.PositionOf(stripe, index)] != nullptr ? 1 : 0;
    }
    return there >= k;
  });
}

// Asks about each position, side by side.  Lives in the frame of its caller.
class SourceSearch {
 public:
  using Ask = std::function<asio::awaitable<void>(std::uint32_t position)>;

  SourceSearch(const asio::any_io_executor& executor, const Wanted* wanted, GroupSources* sources)
      : wanted_(wanted),
        sources_(sources),
        tasks_(executor, "sources of a rebuild", wanted->set->Count()),
        answered_(executor) {}

  // "ask" is no coroutine itself.  Nothing of it runs any more when this returns (I12).
  asio::awaitable<void> Run(Ask ask) {
    const auto began = Clock::now();
    for (std::uint32_t position = 0; position < wanted_->set->Count(); ++position) {
      if (tasks_.Spawn(AskOne(ask, position))) {
        ++waiting_;
      }
    }
    auto until = began + kUntilAllAnswered;
    bool enough = false;
    while (waiting_ > 0 && Clock::now() < until && !co_await Cancelled()) {
      if (!enough && IsEnough(*wanted_, *sources_)) {
        enough = true;
        const auto took = Clock::now() - began;
        until = Clock::now() + std::max<Clock::duration>(kLateAtLeast, took * kLateTimes);
      }
      co_await answered_.Wait(std::chrono::ceil<std::chrono::milliseconds>(until - Clock::now()));
    }
    tasks_.Cancel();
    co_await tasks_.Finish();
  }

 private:
  asio::awaitable<void> AskOne(Ask ask, std::uint32_t position) {
    co_await ask(position);
    --waiting_;
    answered_.Notify();
  }

  const Wanted* const wanted_;
  GroupSources* const sources_;
  TaskGroup tasks_;
  AsyncEvent answered_;
  std::size_t waiting_ = 0;
};

asio::awaitable<void> AskForRows(const RemoteBytes* remote,
                                 const Wanted& wanted,
                                 std::uint32_t position,
                                 const std::set<std::uint32_t>& rows,
                                 GroupSources* sources) {
  const CodeSet& set = *wanted.set;
  for (const std::uint32_t row : rows) {
    const std::uint32_t stripe = set.StripeOfRow(position, row);
    const ByteCount length = wanted.group->stripes.RowLength(stripe);
    if (length == 0 || !wanted.stripes.contains(stripe) || co_await Cancelled()) {
      continue;
    }
    const auto key = RowKey(wanted.id.job_uid, wanted.id.id, set, stripe, row);
    auto reader = co_await remote->Row(set.geometry.members[position], key, length);
    if (reader.has_value()) {
      sources->rows[stripe][row] = std::move(reader).value();
    } else if (IsAway(reader.error())) {
      break;  // or it would be waited for at each of its rows
    }
  }
}

// Lives in the frame of AddShardsAndRows.
struct ShardSearch {
  asio::awaitable<void> Ask(std::uint32_t position);
  asio::awaitable<bool> AskForShard(std::uint32_t position);

  const RemoteBytes* remote;
  const Wanted* wanted;
  std::uint32_t lost;
  std::vector<CodeHolder>* holders;
  GroupSources* sources;
  std::vector<std::string> missing;  // by position
};

// Whether its node is worth asking for rows.
asio::awaitable<bool> ShardSearch::AskForShard(std::uint32_t position) {
  CodeHolder& holder = (*holders)[position];
  const std::string node = holder.shard_node;
  const CodedId& what = wanted->id;
  const Rank rank = wanted->set->ranks[position];
  const auto sidecar = co_await remote->Sidecar(node, what.job_uid, what.id, rank);
  if (sidecar.has_value()) {
    auto image = remote->Image(node, what.job_uid, what.id, sidecar.value());
    sources->shards[position] = image.has_value() ? std::move(image).value() : nullptr;
    co_return true;
  }
  const bool late = sidecar.error().code == Errc::kCancelled;
  missing[position] = "; that of rank " + std::to_string(rank) + " on node " + NodeText(node) +
                      ": " + (late ? "it does not answer" : sidecar.error().message);
  holder.shard_node.clear();
  if ((late || IsAway(sidecar.error())) && node == wanted->set->geometry.members[position]) {
    holder.rows.clear();  // nor can they be had
    co_return false;
  }
  co_return true;
}

asio::awaitable<void> ShardSearch::Ask(std::uint32_t position) {
  const CodeHolder& holder = (*holders)[position];
  if (position != lost && !holder.shard_node.empty() && !co_await AskForShard(position)) {
    co_return;
  }
  co_await AskForRows(remote, *wanted, position, holder.rows, sources);
}

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

asio::awaitable<std::string> AddShardsAndRows(const RemoteBytes* remote,
                                              Wanted wanted,
                                              std::uint32_t lost,
                                              std::vector<CodeHolder>* holders,
                                              GroupSources* sources) {
  ShardSearch shards{remote, &wanted, lost, holders, sources, {}};
  shards.missing.resize(wanted.set->Count());
  SourceSearch search(co_await asio::this_coro::executor, &wanted, sources);
  auto ask = [&shards](std::uint32_t position) { return shards.Ask(position); };
  co_await search.Run(std::move(ask));
  co_return std::accumulate(shards.missing.begin(), shards.missing.end(), std::string());
}

asio::awaitable<void> AddRows(const RemoteBytes* remote,
                              Wanted wanted,
                              const std::vector<CodeHolder>* holders,
                              GroupSources* sources) {
  SourceSearch search(co_await asio::this_coro::executor, &wanted, sources);
  auto ask = [&](std::uint32_t position) {
    return AskForRows(remote, wanted, position, (*holders)[position].rows, sources);
  };
  co_await search.Run(std::move(ask));
}

}  // namespace holdfast::daemon
