#include "cli/commands.h"
#include "cli/render/render_snapshots.h"

namespace holdfast::cli {

ExitCode RunLs(const Context& context, const LsOptions& options) {
  const auto sources = OpenSources(context, options.places);
  if (!sources.value) {
    return sources.exit;
  }
  Listing all;
  std::optional<Error> failure;
  bool any = false;
  for (const auto& source : sources.value->list) {
    const auto listing = source->List(options.job);
    if (!listing) {
      // With several roots a job may be on one only.
      failure = listing.error();
      continue;
    }
    any = true;
    all.reply.MergeFrom(listing.value().reply);
    all.problems.insert(
        all.problems.end(), listing.value().problems.begin(), listing.value().problems.end());
  }
  if (!any) {
    return context.console.Fail(*failure);
  }
  if (failure && failure->code != Errc::kNotFound) {
    all.problems.push_back({"a root that was not listed", *failure});
  }
  SortNewestFirst(&all.reply);
  context.console.out << (context.console.json ? SnapshotsJson(all) : SnapshotsText(all));
  return ExitCode::kOk;
}

}  // namespace holdfast::cli
