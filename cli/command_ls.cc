#include "cli/commands.h"
#include "cli/context.h"
#include "cli/render/render_snapshots.h"

namespace holdfast::cli {

ExitCode RunLs(const Context& context, const LsOptions& options) {
  const auto sources = OpenSources(context, options.places);
  if (!sources.value) {
    return sources.exit;
  }
  if (const Status there = CheckRoots(context, options.places); !there) {
    return context.console.Fail(there.error());
  }
  Listing all;
  std::vector<Problem> failures;
  bool any = false;
  for (const auto& source : sources.value->list) {
    const auto listing = source->List(options.job);
    if (!listing) {
      // With several roots a job may be on one only: that is said, and the rest is shown.
      failures.push_back({source->place(), listing.error()});
      continue;
    }
    any = true;
    all.reply.MergeFrom(listing.value().reply);
    all.problems.insert(
        all.problems.end(), listing.value().problems.begin(), listing.value().problems.end());
  }
  if (!any) {
    for (std::size_t i = 1; i < failures.size(); ++i) {
      context.console.Note(failures[i].error.message);
    }
    return context.console.Fail(failures.front().error);
  }
  all.problems.insert(all.problems.end(), failures.begin(), failures.end());
  SortNewestFirst(&all.reply);
  context.console.out << (context.console.json ? SnapshotsJson(all) : SnapshotsText(all));
  return ExitCode::kOk;
}

}  // namespace holdfast::cli
