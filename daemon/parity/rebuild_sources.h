// What is left of a code set to decode from: shards and rows that other nodes have, as readers.
//
//   SourceSearch search(executor, remote, wanted, holders, sources);
//   co_return co_await search.Run([&] { return Decode(...); });   // no coroutine itself
//
// All holders are asked side by side.  Once those that answered are enough, the others are waited
// for a moment longer, and the decoding begins: a node that hangs must not hold up a rebuild that
// needs nothing of it.  Who answers later is added while the decoding runs, so that nothing is lost
// by not waiting.
//
// Threads:   the io thread only.
// Ownership: borrows "remote", also for the readers that it makes; shares the sources.
// Errors:    none of its own: who does not answer, or has not what was named, is left out.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>

#include "common/task_group.h"
#include "daemon/async_event.h"
#include "daemon/core/code_set.h"
#include "daemon/core/ids.h"
#include "daemon/parity/remote_bytes.h"
#include "daemon/pipeline/rebuild_reader.h"

namespace holdfast::daemon {

// Of one snapshot.
struct CodedId {
  JobUid job_uid;
  SnapshotKey id;
};

// What is looked for.  The group, of the set that is looked through, is borrowed.
struct Wanted {
  CodedId id;
  const CodedGroup* group;
  std::set<std::uint32_t> stripes;  // that something is to be decoded of: others are not asked for
  std::optional<std::uint32_t> lost;  // shards are looked for too, but that of this position
};

// Those that the shard at "position" has segments in.
[[nodiscard]] std::set<std::uint32_t> StripesOfShard(const CodeSet& set,
                                                     const CodedGroup& group,
                                                     std::uint32_t position);

class SourceSearch {
 public:
  // "held": who is said to have what.  "sources" is what is there already, and gets the rest.
  SourceSearch(const boost::asio::any_io_executor& executor,
               const RemoteBytes* remote,
               Wanted wanted,
               HeldSet held,
               std::shared_ptr<GroupSources> sources);

  // What "decode" gives, which is called when there is enough to begin, or no more to be had.
  // Nothing of the search runs any more when this returns (I12).
  template <typename Decode>
  auto Run(Decode decode) -> decltype(decode()) {
    co_await UntilEnough();
    auto result = co_await decode();
    sources_->open = false;
    tasks_.Cancel();
    co_await tasks_.Finish();
    co_return result;
  }

  // --- While "decode" runs

  // Without what cannot be had now, or has not been heard of yet.
  [[nodiscard]] HeldSet Reached() const;

  // I11: who had which missing shard, for people; empty: none is missing.
  [[nodiscard]] std::string Missing() const;

 private:
  [[nodiscard]] boost::asio::awaitable<void> UntilEnough();
  [[nodiscard]] bool IsEnough() const;
  [[nodiscard]] boost::asio::awaitable<void> Ask(std::uint32_t position);
  [[nodiscard]] boost::asio::awaitable<void> AskForShard(std::uint32_t position);
  [[nodiscard]] boost::asio::awaitable<void> AskForRows(std::uint32_t position);
  [[nodiscard]] std::string MissingText(std::uint32_t position, const std::string& why) const;

  const RemoteBytes* const remote_;
  const Wanted wanted_;
  HeldSet held_;  // without what turned out not to be there
  const std::shared_ptr<GroupSources> sources_;
  TaskGroup tasks_;
  AsyncEvent changed_;
  std::set<std::uint32_t> waiting_;   // positions
  std::vector<std::string> missing_;  // by position
};

}  // namespace holdfast::daemon
