#include "daemon/parity/parity_runner.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "common/clock.h"
#include "common/log.h"
#include "common/with_timeout.h"
#include "daemon/parity/rebuild_sources.h"
#include "daemon/pipeline/rebuild.h"
#include "daemon/pipeline/stored_readers.h"
#include "layout/layout_hash.h"

namespace holdfast::daemon {

namespace asio = boost::asio;

namespace {

// Stripes that this node encodes at one time: each has ProtectMemoryBytes beside the arena.
constexpr std::size_t kMakers = 2;
constexpr std::chrono::milliseconds kAskMaker{2'000};

Error Refused() {
  return Error(Errc::kCancelled, "the daemon is ending");
}

// Of other nodes, at the most: the last segments of a stripe are shorter.
ByteCount BytesIn(const MakeRow& action) {
  const bool whole = action.way == MakeRow::Way::kPull;
  return action.length_bytes * (whole ? 1 : action.set.geometry.code.data);
}

// Every position's own node has its shard and all rows: who has not is found out by asking.
HeldSet AllOf(const CodeSet& set) {
  HeldSet held{set, std::vector<CodeHolder>(set.Count())};
  for (std::uint32_t position = 0; position < set.Count(); ++position) {
    CodeHolder& holder = held.holders[position];
    holder.shard_node = set.HasShard(position) ? set.geometry.members[position] : "";
    for (std::uint32_t row = 0; row < set.geometry.code.parity; ++row) {
      holder.rows[row] = set.Groups();
    }
  }
  return held;
}

}  // namespace

ParityRunner::ParityRunner(const asio::any_io_executor& executor,
                           PipelineContext context,
                           WorkerPool* cpu,
                           CoreGate* core,
                           Feeds* feeds,
                           const RemoteBytes* remote,
                           ParityPaceOptions pace)
    : executor_(executor),
      context_(context),
      cpu_(cpu),
      core_(core),
      feeds_(feeds),
      remote_(remote),
      pace_(pace),
      makers_(executor, kMakers) {}

bool ParityRunner::Start(std::uint64_t ticket, Task task) {
  if (stopped_) {
    return false;  // and Join walks over running_
  }
  std::erase_if(running_, [](const auto& entry) { return entry.second->size() == 0; });
  auto group = std::make_unique<TaskGroup>(executor_, "parity", 1);
  const bool started = group->Spawn(std::move(task));
  if (started) {
    running_[ticket] = std::move(group);
  }
  return started;
}

void ParityRunner::Run(const CancelMaking& action) {
  const auto found = running_.find(action.ticket);
  if (found != running_.end()) {
    found->second->Cancel();
  }
}

void ParityRunner::Stop() {
  stopped_ = true;
  for (auto& [ticket, group] : running_) {
    group->Stop();
  }
}

asio::awaitable<bool> ParityRunner::Join(std::chrono::milliseconds limit) {
  bool ended = true;
  for (auto& [ticket, group] : running_) {
    ended = co_await group->Join(limit) && ended;
  }
  co_return ended;
}

Result<std::pair<SharedSlot, MutableByteView>> ParityRunner::Place(SlotRef slot,
                                                                   ByteCount length) const {
  HF_TRY(SharedSlot file, context_.slots.Find(slot));
  if (file->capacity() < length) {
    return Error(Errc::kInternal, "the slot for a row or a shard is smaller than that");
  }
  const MutableByteView view = file->mutable_view().first(length);
  return std::pair(std::move(file), view);
}

// ---- rows ----

void ParityRunner::Run(MakeRow action) {
  const std::uint64_t ticket = action.ticket;
  if (!Start(ticket, DoRow(std::move(action)))) {
    (*core_)->OnRowMade(ticket, Refused());
  }
}

ParityRunner::Task ParityRunner::DoRow(MakeRow action) {
  const auto protecting = priority_.EnterProtect();
  pace_.OnRow(action.job_uid, action.id, BytesIn(action), SystemClock().Now());
  budget_.SetRate(pace_.Rate());
  RowDigests made = Refused();
  auto place = Place(action.slot, action.length_bytes);
  if (place.has_value()) {
    // The slot's file is held until nothing writes to it any more.
    const SharedSlot file = place.value().first;
    made = co_await Make(action, place.value().second);
  } else {
    made = place.error();
  }
  pace_.OnRowEnded(action.job_uid, SystemClock().Now());
  budget_.SetRate(pace_.Rate());
  Record(action, made);
  (*core_)->OnRowMade(action.ticket, std::move(made));
}

void ParityRunner::Record(const MakeRow& action, const RowDigests& made) {
  if (made.has_value()) {
    ++counters_.rows;
    counters_.row_bytes += action.length_bytes;
  } else {
    ++counters_.rows_failed;
    Log(made.error().code == Errc::kCancelled ? LogLevel::kDebug : LogLevel::kWarning,
        "parity.row_not_made",
        "row " + std::to_string(action.row) + " of stripe " + std::to_string(action.stripe) +
            " of " + action.job_name + " " + ToText(action.id) + ": " + made.error().ToString());
  }
}

Pacing ParityRunner::RowPacing() {
  Pacing pacing;
  pacing.budget = &budget_;
  pacing.priority = &priority_;
  return pacing;
}

asio::awaitable<ParityRunner::RowDigests> ParityRunner::Make(const MakeRow& action,
                                                             MutableByteView into) {
  HF_CO_TRY(SharedGroup group, CodedGroup::Make(action.set.geometry));
  if (group->stripes.RowLength(action.stripe) != action.length_bytes) {
    co_return Error(Errc::kInternal, "a row of another length than its geometry says");
  }
  switch (action.way) {
    case MakeRow::Way::kEncode:
      co_return co_await Encode(action, std::move(group), into);
    case MakeRow::Way::kPull:
      co_return co_await Pull(action, std::move(group), into);
    case MakeRow::Way::kRebuild:
      if (action.row > 0 && co_await IsStillFed(action, *group)) {
        co_return co_await Pull(action, std::move(group), into);
      }
      co_return co_await RebuildAndTell(action, group, into);
  }
  co_return Error(Errc::kInternal, "a way of making a row that is not known");
}

asio::awaitable<ParityRunner::RowDigests> ParityRunner::Encode(const MakeRow& action,
                                                               SharedGroup group,
                                                               MutableByteView into) {
  const auto permit = co_await makers_.Acquire();
  if (!permit.has_value()) {
    co_return permit.error();
  }
  const CodeSet& set = action.set;
  std::vector<std::shared_ptr<ShardReader>> shards(set.Count());
  for (std::uint32_t column = 0; column < group->stripes.Code().data; ++column) {
    const std::uint32_t position = group->stripes.PositionOf(action.stripe, column);
    if (group->stripes.VectorLength(action.stripe, column) > 0) {
      HF_CO_TRY(shards[position],
                remote_->Image(set.geometry.members[position],
                               action.job_uid,
                               action.id,
                               action.sidecars[position],
                               set.kind));
    }
  }
  ProtectOptions options;
  options.pacing = RowPacing();
  if (group->stripes.Code().data == 1) {
    options.windows_in_flight *= 2;  // a mirror's window is one read, and the link wants several
  }
  const FeedShape shape = RowFeedShape(*group, action.stripe, options);
  HF_CO_TRY(const auto feed, co_await WindowFeed::Allocate(cpu_, shape));
  const auto key = FeedKey(action.job_uid, action.id, set, action.stripe, 0);
  feeds_->Add(key, feed);
  // A maker that died in an earlier try would else wait for takers that got theirs from it.
  for (std::uint32_t row = 1; row < group->stripes.Code().parity; ++row) {
    const std::uint32_t owner = group->stripes.RowOwner(action.stripe, row);
    if (co_await remote_->HasRow(
            set.geometry.members[owner],
            RowKey(action.job_uid, action.id, set, set.Groups(), action.stripe, row),
            action.length_bytes)) {
      feed->Drop(row - 1);
    }
  }
  std::optional<SegmentFault> fault;
  auto made = co_await ProtectStripe(
      cpu_,
      StripeToProtect(std::move(group), action.stripe, std::move(shards), into, feed),
      options,
      &fault);
  feeds_->Remove(key, feed);
  if (fault.has_value()) {
    remote_->PoisonOwn(set.geometry.members[fault->position],
                       ImageKey(action.job_uid, action.id, set.ranks[fault->position], set.kind),
                       core_);
  }
  if (!made.has_value()) {
    co_return made.error();
  }
  co_return std::move(made.value().row_crc32c[0]);
}

asio::awaitable<ParityRunner::RowDigests> ParityRunner::Pull(const MakeRow& action,
                                                             SharedGroup group,
                                                             MutableByteView into) {
  PullOptions options;
  options.pacing = RowPacing();
  co_return co_await PullVector(cpu_, MakerOf(action, *group), into, {}, options);
}

// The maker of a row that others than it take.
FeedSource ParityRunner::MakerOf(const MakeRow& action, const CodedGroup& group) const {
  return remote_->Feed(action.set.geometry.members[group.stripes.FirstOwner(action.stripe)],
                       FeedKey(action.job_uid, action.id, action.set, action.stripe, action.row),
                       RowFeedShape(group, action.stripe, {}).MemoryBytes());
}

// After a pull that failed, as by a connection that broke.  To ask anew tells the maker that what
// it lends to this node is not waited for any more, unless it can begin again: it would else wait
// for its taker until that counts as hung, and nothing newer would be protected so long.
asio::awaitable<bool> ParityRunner::IsStillFed(const MakeRow& action, const CodedGroup& group) {
  const FeedSource source = MakerOf(action, group);
  const auto first = co_await source.calls->Next(0, std::chrono::steady_clock::now() + kAskMaker);
  co_return first.has_value();
}

// The maker may not have heard that, where the link was still away.
asio::awaitable<ParityRunner::RowDigests> ParityRunner::RebuildAndTell(const MakeRow& action,
                                                                       SharedGroup group,
                                                                       MutableByteView into) {
  RowDigests made = co_await Rebuild(action, group, into);
  if (made.has_value() && action.row > 0) {
    const auto windows = RowFeedShape(*group, action.stripe, {}).windows.Count();
    const auto deadline = std::chrono::steady_clock::now() + kAskMaker;
    (void)co_await MakerOf(action, *group).calls->Next(windows, deadline);
  }
  co_return made;
}

asio::awaitable<ParityRunner::RowDigests> ParityRunner::Rebuild(const MakeRow& action,
                                                                SharedGroup group,
                                                                MutableByteView into) {
  const auto permit = co_await makers_.Acquire();
  if (!permit.has_value()) {
    co_return permit.error();
  }
  auto sources = std::make_shared<GroupSources>(GroupSources::None(group->stripes));
  for (std::uint32_t position = 0; position < action.set.Count(); ++position) {
    if (action.set.HasShard(position)) {
      auto image = remote_->Image(action.set.geometry.members[position],
                                  action.job_uid,
                                  action.id,
                                  action.sidecars[position],
                                  action.set.kind);
      sources->shards[position] = image.has_value() ? std::move(image).value() : nullptr;
    }
  }
  const Wanted wanted{{action.job_uid, action.id}, group.get(), {action.stripe}, std::nullopt};
  SourceSearch search(
      co_await asio::this_coro::executor, remote_, wanted, AllOf(action.set), sources);
  RebuildRowOptions options;
  options.pacing = RowPacing();
  auto rebuild = [&] {
    return RebuildRow(cpu_, group, sources, action.stripe, action.row, into, options);
  };
  co_return co_await search.Run(std::move(rebuild));
}

void ParityRunner::Run(FetchSidecars action) {
  const std::uint64_t ticket = action.ticket;
  if (!Start(ticket, DoSidecars(std::move(action)))) {
    (*core_)->OnSidecarsFetched(ticket, Refused());
  }
}

// In the store when this returns: in the catalog with, or before, the record of the sidecar that
// the core makes of it.
asio::awaitable<Result<proto::Sidecar>> ParityRunner::SidecarFrom(const std::string& node,
                                                                  const FetchSidecars& action,
                                                                  Rank rank) {
  HF_CO_TRY(proto::Sidecar sidecar,
            co_await remote_->Sidecar(node, action.job_uid, action.id, rank));
  HF_CO_TRY(const SharedLayout layout, co_await remote_->LayoutOf(node, sidecar));
  context_.layouts.StageForeign(sidecar.layout_hash(), layout);
  if (sidecar.images_size() > 1 && sidecar.static_hash().empty()) {  // of older software
    sidecar.set_static_hash(layout::StaticHash(*layout));
  }
  co_return sidecar;
}

ParityRunner::Task ParityRunner::DoSidecars(FetchSidecars action) {
  std::vector<proto::Sidecar> got;
  std::optional<Error> last;
  for (const auto& [rank, nodes] : action.from) {
    for (const std::string& node : nodes) {
      auto sidecar = co_await SidecarFrom(node, action, rank);
      if (sidecar.has_value()) {
        got.push_back(std::move(sidecar).value());
        break;
      }
      last = sidecar.error();
    }
  }
  if (last.has_value()) {
    LogDebug("parity.sidecar", action.job_name + " " + ToText(action.id) + ": " + last->ToString());
  }
  if (got.empty() && last.has_value()) {
    (*core_)->OnSidecarsFetched(action.ticket, *last);
  } else {
    (*core_)->OnSidecarsFetched(action.ticket, std::move(got));
  }
}

}  // namespace holdfast::daemon
