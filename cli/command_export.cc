#include <map>
#include <utility>

#include "cli/commands.h"
#include "cli/export_shard.h"
#include "cli/interrupt.h"
#include "cli/progress.h"
#include "cli/render/render_export.h"
#include "cli/snapshot_state.h"
#include "cli/source_folder.h"
#include "cli/text.h"

namespace holdfast::cli {
namespace {

// Somewhere that one rank can be read.
struct Copy {
  Source* source = nullptr;
  const proto::SnapshotInfo* snapshot = nullptr;  // as that source lists it
  ByteCount bytes = 0;
};

struct Plan {
  proto::SnapshotInfo snapshot;                        // as it was found first
  std::vector<std::unique_ptr<FolderSource>> folders;  // of roots that the daemon named
  std::vector<std::unique_ptr<proto::SnapshotInfo>> in_folders;
  std::map<std::uint32_t, std::vector<Copy>> copies;  // by rank, nearest first
  std::vector<std::uint32_t> missing;
};

void AddCopies(Source* source, const proto::SnapshotInfo& snapshot, Plan* plan) {
  for (const proto::ShardInfo& shard : snapshot.shards()) {
    if (Readable(shard)) {
      plan->copies[shard.rank()].push_back(
          {source, &snapshot, shard.image_bytes() + shard.static_image_bytes()});
    }
  }
}

// Roots hold the ranks of other nodes, and a second copy of what is bad in memory.
void AddRoots(const Context& context, const FoundSnapshot& found, Plan* plan) {
  for (const std::string& root : found.snapshot.durable_on()) {
    if (root == found.source->place()) {
      continue;
    }
    auto folder = std::make_unique<FolderSource>(context.fs, root);
    const auto listing = folder->List(found.snapshot.job_name());
    if (!listing) {
      context.console.Note(listing.error().message);
      continue;
    }
    for (const proto::SnapshotInfo& snapshot : listing.value().reply.snapshots()) {
      if (IdText(snapshot.id()) == IdText(found.snapshot.id())) {
        plan->in_folders.push_back(std::make_unique<proto::SnapshotInfo>(snapshot));
        AddCopies(folder.get(), *plan->in_folders.back(), plan);
      }
    }
    plan->folders.push_back(std::move(folder));
  }
}

// Files that are known to have been there are damage, and the message names the first of them.
Error CannotBeRead(const Plan& plan, std::string text) {
  std::vector<const proto::SnapshotInfo*> looked = {&plan.snapshot};
  for (const auto& in_folder : plan.in_folders) {
    looked.push_back(in_folder.get());
  }
  for (const proto::SnapshotInfo* snapshot : looked) {
    if (snapshot->state() == kStateDamaged) {
      return Error(Errc::kCorruption, text + "; damaged: " + snapshot->reason());
    }
  }
  return Error(Errc::kNotFound, std::move(text));
}

Status KeepWanted(const ExportOptions& options, Plan* plan) {
  if (options.rank) {
    auto wanted = plan->copies.extract(*options.rank);
    plan->copies.clear();
    if (wanted.empty()) {
      return CannotBeRead(*plan,
                          "rank " + std::to_string(*options.rank) + " of " +
                              plan->snapshot.job_name() + " " + IdText(plan->snapshot.id()) +
                              " cannot be read here; the world has " +
                              Count(plan->snapshot.world_size(), "rank"));
    }
    plan->copies.insert(std::move(wanted));
    return Ok();
  }
  for (std::uint32_t rank = 0; rank < plan->snapshot.world_size(); ++rank) {
    if (!plan->copies.contains(rank)) {
      plan->missing.push_back(rank);
    }
  }
  if (plan->copies.empty() || (!plan->missing.empty() && !options.partial)) {
    return CannotBeRead(*plan,
                        "of " + std::to_string(plan->snapshot.world_size()) + " ranks, " +
                            RankRanges(plan->missing) +
                            " cannot be read here; name a root that has it (--root), or take what "
                            "is here (--partial)");
  }
  return Ok();
}

// The nearest copy whose every chunk is good.
Status ExportRank(const Context& context,
                  const std::vector<Copy>& copies,
                  std::uint32_t rank,
                  const std::string& folder,
                  Progress* progress,
                  ExportReport* report) {
  std::optional<Error> failure;
  for (const Copy& copy : copies) {
    auto shard = copy.source->OpenShard(*copy.snapshot, rank);
    if (shard) {
      auto files = ExportShard(context.fs, shard.value(), folder, progress);
      if (files) {
        for (ExportedFile& file : files.value()) {
          report->files.push_back(std::move(file));
        }
        return Ok();
      }
      if (files.error().code != Errc::kCorruption) {
        return files.error();
      }
      failure = files.error();
    } else {
      failure = shard.error();
    }
    context.console.Note(copy.source->place() + ": " + failure->message);
  }
  return *failure;
}

Status MakeFolder(storage_tiers::FileSystem& fs, const std::string& folder) {
  const Status made = storage_tiers::CreateFolderIfMissing(fs, folder);
  if (!made && made.error().code == Errc::kNotFound) {
    return Error(Errc::kNotFound,
                 folder + " cannot be made, there is no folder " +
                     storage_tiers::ParentFolder(folder) + ": make that first");
  }
  HF_TRYV(made);
  return fs.SyncFolder(storage_tiers::ParentFolder(folder));
}

Status ExportAll(const Context& context,
                 const Plan& plan,
                 const std::string& folder,
                 ExportReport* report) {
  ByteCount bytes = 0;
  for (const auto& [rank, copies] : plan.copies) {
    HF_TRYV(RefuseExported(context.fs, folder, rank));
    bytes += copies.front().bytes;
  }
  const Console& console = context.console;
  const std::string label = "export " + plan.snapshot.job_name() + " " + IdText(plan.snapshot.id());
  Progress progress(console.err, console.err_is_terminal, label, bytes);
  for (const auto& [rank, copies] : plan.copies) {
    if (InterruptFlag()->load()) {
      return Error(Errc::kCancelled, "interrupted");
    }
    progress.Label(label + " rank " + std::to_string(rank));
    HF_TRYV(ExportRank(context, copies, rank, folder, &progress, report));
  }
  return Ok();
}

}  // namespace

ExitCode RunExport(const Context& context, const ExportOptions& options) {
  const Console& console = context.console;
  const auto sources = OpenSources(context, options.places);
  if (!sources.value) {
    return sources.exit;
  }
  const auto found = FindIn(*sources.value, options.job, options.snapshot);
  if (!found) {
    return console.Fail(found.error());
  }
  Plan plan;
  plan.snapshot = found.value().snapshot;
  AddCopies(found.value().source, found.value().snapshot, &plan);
  AddRoots(context, found.value(), &plan);
  if (const Status kept = KeepWanted(options, &plan); !kept) {
    return console.Fail(kept.error());
  }
  ExportReport report;
  report.snapshot = plan.snapshot;
  report.folder = CleanPath(options.to);
  report.missing_ranks = plan.missing;
  if (const Status made = MakeFolder(context.fs, report.folder); !made) {
    return console.Fail(made.error());
  }
  if (const Status done = ExportAll(context, plan, report.folder, &report); !done) {
    return console.Fail(done.error());
  }
  console.out << (console.json ? ExportJson(report) : ExportText(report));
  return ExitCode::kOk;
}

}  // namespace holdfast::cli
