#include "cli/context.h"

#include <filesystem>
#include <system_error>
#include <utility>

#include "cli/snapshot_spec.h"
#include "cli/source_daemon.h"
#include "cli/source_folder.h"
#include "cli/source_state.h"

namespace holdfast::cli {

OrExit<std::unique_ptr<AdminChannel>> Connect(const Context& context) {
  OrExit<std::unique_ptr<AdminChannel>> result;
  auto channel = context.connect(SocketCandidates(context.socket, context.environment));
  if (channel) {
    result.value = std::move(channel).value();
    return result;
  }
  const Errc code = channel.error().code;
  const bool answered =
      code == Errc::kPermission || code == Errc::kVersionMismatch || code == Errc::kInvalidArgument;
  result.exit =
      context.console.Fail(channel.error(), answered ? ExitCodeOf(code) : ExitCode::kNoDaemon);
  return result;
}

OrExit<Sources> OpenSources(const Context& context, const Places& places) {
  OrExit<Sources> result;
  Sources sources;
  if (!places.roots.empty() && !places.state_dir.empty()) {
    result.exit = context.console.Fail(
        Error(Errc::kInvalidArgument, "--root and --state-dir are two places: name one kind"));
    return result;
  }
  if (places.state_dir.empty() && !places.arena.empty()) {
    result.exit = context.console.Fail(Error(
        Errc::kInvalidArgument, "--arena needs --state-dir: the catalog says what its files are"));
    return result;
  }
  for (const std::string& root : places.roots) {
    sources.list.push_back(std::make_unique<FolderSource>(context.fs, CleanPath(root)));
  }
  if (!places.state_dir.empty()) {
    auto source = StateSource::Open(CleanPath(places.state_dir),
                                    places.arena.empty() ? "" : CleanPath(places.arena));
    if (!source) {
      result.exit = context.console.Fail(source.error());
      return result;
    }
    sources.list.push_back(std::move(source).value());
  }
  if (!places.offline()) {
    auto channel = Connect(context);
    if (!channel.value) {
      result.exit = channel.exit;
      return result;
    }
    sources.channel = std::move(*channel.value);
    sources.list.push_back(std::make_unique<DaemonSource>(*sources.channel));
  }
  result.value = std::move(sources);
  return result;
}

Status CheckRoots(const Context& context, const Places& places) {
  for (const std::string& root : places.roots) {
    HF_TRYV(CheckRoot(context.fs, CleanPath(root)));
  }
  return Ok();
}

Result<FoundSnapshot> FindIn(const Sources& sources,
                             const std::string& job,
                             const std::string& spec) {
  HF_TRY(const SnapshotSpec parsed, ParseSnapshotSpec(spec));
  std::optional<Error> last;
  for (const auto& source : sources.list) {
    const auto listing = source->List(job);
    if (!listing) {
      last = listing.error();
      continue;
    }
    auto found = FindSnapshot(listing.value().reply, job, parsed);
    if (found) {
      return FoundSnapshot{std::move(found).value(), source.get()};
    }
    last = found.error();
    if (last->code != Errc::kNotFound) {
      break;
    }
  }
  return *last;
}

std::string CleanPath(const std::string& path) {
  std::error_code error;
  std::filesystem::path absolute = std::filesystem::absolute(path, error);
  if (error) {
    return path;
  }
  std::string clean = absolute.lexically_normal().string();
  while (clean.size() > 1 && clean.back() == '/') {
    clean.pop_back();
  }
  return clean;
}

}  // namespace holdfast::cli
