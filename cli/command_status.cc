#include <utility>

#include "cli/commands.h"
#include "cli/render/render_offline.h"
#include "cli/render/render_status.h"

namespace holdfast::cli {
namespace {

Result<OfflinePlace> LookAt(Source* source, const Places& places) {
  OfflinePlace place;
  place.place = source->place();
  place.is_memory = !places.state_dir.empty();
  HF_TRY(place.listing, source->List(""));
  HF_TRY(place.status, source->Overview(place.listing));
  return place;
}

ExitCode OfflineStatus(const Context& context, const Sources& sources, const Places& places) {
  std::vector<OfflinePlace> seen;
  for (const auto& source : sources.list) {
    auto place = LookAt(source.get(), places);
    if (!place) {
      return context.console.Fail(place.error());
    }
    seen.push_back(std::move(place).value());
  }
  context.console.out << (context.console.json ? OfflineJson(seen) : OfflineText(seen));
  return ExitCode::kOk;
}

}  // namespace

ExitCode RunStatus(const Context& context, const Places& places) {
  const auto sources = OpenSources(context, places);
  if (!sources.value) {
    return sources.exit;
  }
  if (places.offline()) {
    return OfflineStatus(context, *sources.value, places);
  }
  const auto status = sources.value->list.front()->Overview({});
  if (!status) {
    return context.console.Fail(status.error());
  }
  context.console.out << (context.console.json ? StatusJson(status.value())
                                               : StatusText(status.value()));
  return ExitCode::kOk;
}

}  // namespace holdfast::cli
