#include <utility>

#include "cli/commands.h"
#include "cli/copy_snapshot.h"
#include "cli/progress.h"
#include "cli/render/render_export.h"
#include "cli/snapshot_spec.h"
#include "cli/snapshot_state.h"
#include "cli/text.h"

namespace holdfast::cli {
namespace {

Result<proto::SnapshotInfo> FindDurable(const Context& context, const RestoreOptions& options) {
  HF_TRY(const SnapshotSpec spec, ParseSnapshotSpec(options.snapshot));
  FolderSource source(context.fs, CleanPath(options.from_root));
  HF_TRY(const Listing listing, source.List(options.job));
  HF_TRY(proto::SnapshotInfo snapshot, FindSnapshot(listing.reply, options.job, spec));
  if (snapshot.state() != kStateDurable) {
    return Error(snapshot.state() == kStateDamaged ? Errc::kCorruption : Errc::kNotFound,
                 options.job + " " + IdText(snapshot.id()) + " is " + snapshot.state() + " in " +
                     source.place() + " (" + snapshot.reason() + "): only a durable one is copied");
  }
  return snapshot;
}

}  // namespace

ExitCode RunRestore(const Context& context, const RestoreOptions& options) {
  const Console& console = context.console;
  const auto snapshot = FindDurable(context, options);
  if (!snapshot) {
    return console.Fail(snapshot.error());
  }
  RestoreReport report;
  report.snapshot = snapshot.value();
  report.from_root = CleanPath(options.from_root);
  report.to_root = CleanPath(options.to_root);
  SnapshotCopy copy(context.fs, report.from_root, report.to_root, report.snapshot);
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
