#include <utility>

#include "cli/commands.h"
#include "cli/copy_snapshot.h"
#include "cli/progress.h"
#include "cli/render/render_export.h"
#include "cli/snapshot_spec.h"
#include "cli/snapshot_state.h"
#include "cli/source_state.h"
#include "cli/text.h"

namespace holdfast::cli {
namespace {

Result<std::unique_ptr<CopyOrigin>> OpenOrigin(const Context& context,
                                               const RestoreOptions& options) {
  if (options.from_root.empty() == options.state_dir.empty()) {
    return Error(Errc::kInvalidArgument,
                 "say from where: --from-root with a persistent folder, or --state-dir with what a "
                 "dead daemon left");
  }
  if (options.state_dir.empty()) {
    return OriginInFolder(context.fs, CleanPath(options.from_root));
  }
  HF_TRY(auto state,
         StateSource::Open(CleanPath(options.state_dir),
                           options.arena.empty() ? "" : CleanPath(options.arena)));
  if (state->daemon_pid()) {
    // It may be training the job, and flush it to the same root under the same incarnation.
    return Error(Errc::kPermission,
                 "process " + std::to_string(*state->daemon_pid()) + " holds " + options.state_dir +
                     ": a daemon is running; start the job, which restores "
                     "from its memory, or stop the daemon first");
  }
  return OriginInState(std::move(state));
}

// Only what every rank can be had of is copied.
Status CheckWhole(const proto::SnapshotInfo& snapshot, const std::string& place, bool memory) {
  const std::string name = snapshot.job_name() + " " + IdText(snapshot.id());
  const bool good = memory ? IsComplete(snapshot) || snapshot.state() == kStateSealed
                           : snapshot.state() == kStateDurable;
  if (!good) {
    return Error(snapshot.state() == kStateDamaged ? Errc::kCorruption : Errc::kNotFound,
                 name + " is " + snapshot.state() + " in " + place + " (" + snapshot.reason() +
                     "): only a " + (memory ? "complete" : "durable") + " one is copied");
  }
  const std::vector<std::uint32_t> missing = MissingRanks(snapshot);
  if (!missing.empty()) {
    return Error(Errc::kNotFound,
                 "of " + Count(snapshot.world_size(), "rank") + " of " + name + ", " +
                     RankRanges(missing) + " cannot be read in " + place +
                     "; `holdfast export --partial` takes what is here");
  }
  return Ok();
}

Result<proto::SnapshotInfo> FindWhole(Source& source, const RestoreOptions& options) {
  HF_TRY(const SnapshotSpec spec, ParseSnapshotSpec(options.snapshot));
  HF_TRY(const Listing listing, source.List(options.job));
  HF_TRY(proto::SnapshotInfo snapshot, FindSnapshot(listing.reply, options.job, spec));
  HF_TRYV(CheckWhole(snapshot, source.place(), options.from_root.empty()));
  return snapshot;
}

}  // namespace

ExitCode RunRestore(const Context& context, const RestoreOptions& options) {
  const Console& console = context.console;
  const auto origin = OpenOrigin(context, options);
  if (!origin) {
    return console.Fail(origin.error());
  }
  const auto snapshot = FindWhole(origin.value()->source(), options);
  if (!snapshot) {
    return console.Fail(snapshot.error());
  }
  RestoreReport report;
  report.snapshot = snapshot.value();
  report.from_root = origin.value()->source().place();
  report.to_root = CleanPath(options.to_root);
  SnapshotCopy copy(context.fs, *origin.value(), report.to_root, report.snapshot);
  if (const Status checked = copy.Check(); !checked) {
    return console.Fail(checked.error());
  }
  Progress progress(console.err,
                    console.err_is_terminal,
                    "restore " + options.job + " " + IdText(report.snapshot.id()),
                    BytesOf(report.snapshot) + StaticBytesOf(report.snapshot));
  auto copied = copy.Run(&progress);
  progress.Finish();
  if (!copied) {
    return console.Fail(copied.error());
  }
  report.incarnations = std::move(copied).value();
  console.out << (console.json ? RestoreJson(report) : RestoreText(report));
  return ExitCode::kOk;
}

}  // namespace holdfast::cli
