#include "daemon/parity/rebuild_sources.h"

#include <cstdint>
#include <numeric>
#include <utility>

#include "common/with_timeout.h"
#include "daemon/pipeline/windows.h"

namespace holdfast::daemon {

namespace asio = boost::asio;

namespace {

// Lives in the frame of AddShards.
struct ShardSearch {
  asio::awaitable<Status> Ask(std::uint32_t position);

  const RemoteBytes* remote;
  const CodedId* what;
  const CodeSet* set;
  std::uint32_t lost;
  std::vector<CodeHolder>* holders;
  GroupSources* sources;
  std::vector<std::string> missing;  // by position
};

asio::awaitable<Status> ShardSearch::Ask(std::uint32_t position) {
  CodeHolder& holder = (*holders)[position];
  const std::string node = holder.shard_node;
  if (position == lost || node.empty()) {
    co_return Ok();
  }
  const Rank rank = set->ranks[position];
  const auto sidecar = co_await remote->Sidecar(node, what->job_uid, what->id, rank);
  if (sidecar.has_value()) {
    auto image = remote->Image(node, what->job_uid, what->id, sidecar.value());
    sources->shards[position] = image.has_value() ? std::move(image).value() : nullptr;
    co_return Ok();
  }
  missing[position] = "; that of rank " + std::to_string(rank) + " on node " + NodeText(node) +
                      ": " + sidecar.error().message;
  holder.shard_node.clear();
  if (IsAway(sidecar.error()) && node == set->geometry.members[position]) {
    holder.rows.clear();  // nor can they be had
  }
  co_return Ok();
}

// Lives in the frame of AddRows.
struct RowSearch {
  asio::awaitable<Status> Ask(std::uint32_t position) const;

  const RemoteBytes* remote;
  const CodedId* what;
  const CodeSet* set;
  const CodedGroup* group;
  const std::vector<CodeHolder>* holders;
  GroupSources* sources;
};

asio::awaitable<Status> RowSearch::Ask(std::uint32_t position) const {
  for (const std::uint32_t row : (*holders)[position].rows) {
    const std::uint32_t stripe = set->StripeOfRow(position, row);
    const ByteCount length = group->stripes.RowLength(stripe);
    if (length == 0 || co_await Cancelled()) {
      continue;
    }
    auto reader = co_await remote->Row(set->geometry.members[position],
                                       RowKey(what->job_uid, what->id, *set, stripe, row),
                                       length);
    if (reader.has_value()) {
      sources->rows[stripe][row] = std::move(reader).value();
    } else if (IsAway(reader.error())) {
      break;  // or it would be waited for at each of its rows
    }
  }
  co_return Ok();
}

}  // namespace

asio::awaitable<std::string> AddShards(const RemoteBytes* remote,
                                       CodedId what,
                                       const CodeSet* set,
                                       std::uint32_t lost,
                                       std::vector<CodeHolder>* holders,
                                       GroupSources* sources) {
  ShardSearch search{remote, &what, set, lost, holders, sources, {}};
  search.missing.resize(set->Count());
  auto step = [&search](std::uint64_t position) {
    return search.Ask(static_cast<std::uint32_t>(position));
  };  // no coroutine itself
  (void)co_await ForEachWindow(set->Count(), set->Count(), step);
  co_return std::accumulate(search.missing.begin(), search.missing.end(), std::string());
}

asio::awaitable<void> AddRows(const RemoteBytes* remote,
                              CodedId what,
                              const CodeSet* set,
                              const CodedGroup* group,
                              const std::vector<CodeHolder>* holders,
                              GroupSources* sources) {
  const RowSearch search{remote, &what, set, group, holders, sources};
  auto step = [&search](std::uint64_t position) {
    return search.Ask(static_cast<std::uint32_t>(position));
  };  // no coroutine itself
  (void)co_await ForEachWindow(set->Count(), set->Count(), step);
}

}  // namespace holdfast::daemon
