#include <utility>

#include "cli/commands.h"
#include "cli/render/render_shard.h"
#include "cli/source_folder.h"

namespace holdfast::cli {
namespace {

// The rank that was asked for, or the lowest that can be read.
Result<std::uint32_t> ChooseRank(const proto::SnapshotInfo& snapshot,
                                 const std::optional<std::uint32_t>& wanted) {
  if (wanted) {
    return *wanted;
  }
  std::optional<std::uint32_t> lowest;
  for (const proto::ShardInfo& shard : snapshot.shards()) {
    if (Readable(shard) && (!lowest || shard.rank() < *lowest)) {
      lowest = shard.rank();
    }
  }
  if (!lowest) {
    return Error(Errc::kNotFound,
                 "the snapshot is known (" + snapshot.state() +
                     (snapshot.reason().empty() ? "" : ": " + snapshot.reason()) +
                     "), but no shard of it can be read here");
  }
  return *lowest;
}

// From where it was found, else from a root that has it durable.
Result<ShownShard> OpenAnywhere(const Context& context,
                                const FoundSnapshot& found,
                                const std::optional<std::uint32_t>& wanted) {
  ShownShard shown;
  shown.snapshot = found.snapshot;
  auto rank = ChooseRank(found.snapshot, wanted);
  Error error(Errc::kNotFound, "");
  if (rank) {
    auto shard = found.source->OpenShard(found.snapshot, rank.value());
    if (shard) {
      shown.sidecar = std::move(shard.value().sidecar);
      shown.place = found.source->place();
      return shown;
    }
    error = shard.error();
  } else {
    error = rank.error();
  }
  for (const std::string& root : found.snapshot.durable_on()) {
    FolderSource folder(context.fs, root);
    auto shard = root == found.source->place()
                     ? Result<OpenedShard>(error)
                     : folder.OpenShard(found.snapshot, wanted.value_or(0));
    if (shard) {
      shown.sidecar = std::move(shard.value().sidecar);
      shown.place = root;
      return shown;
    }
  }
  return error;
}

}  // namespace

ExitCode RunShow(const Context& context, const ShowCommandOptions& options) {
  const auto sources = OpenSources(context, options.places);
  if (!sources.value) {
    return sources.exit;
  }
  const auto found = FindIn(*sources.value, options.job, options.snapshot);
  if (!found) {
    return context.console.Fail(found.error());
  }
  const auto shown = OpenAnywhere(context, found.value(), options.rank);
  if (!shown) {
    return context.console.Fail(shown.error());
  }
  const ShowOptions what{options.tensors, options.state};
  context.console.out << (context.console.json ? ShardJson(shown.value(), what)
                                               : ShardText(shown.value(), what));
  return ExitCode::kOk;
}

}  // namespace holdfast::cli
