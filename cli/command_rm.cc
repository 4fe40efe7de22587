#include <algorithm>
#include <utility>

#include "cli/commands.h"
#include "cli/force_remove.h"
#include "cli/render/render_export.h"
#include "cli/snapshot_spec.h"
#include "cli/snapshot_state.h"
#include "cli/source_daemon.h"
#include "cli/source_folder.h"
#include "cli/text.h"
#include "storage_tiers/persistent_tier.h"

namespace holdfast::cli {
namespace {

// "Not while it is needed" is a refusal for a script, not a failure that a repetition may cure.
ExitCode Refused(const Console& console, const Error& error) {
  return console.Fail(
      error, error.code == Errc::kUnavailable ? ExitCode::kRefused : ExitCodeOf(error.code));
}

// kOk once the user agreed.
ExitCode Agree(const Context& context,
               const RmOptions& options,
               const proto::SnapshotInfo& snapshot,
               const std::string& place) {
  if (options.yes) {
    return ExitCode::kOk;
  }
  const std::string what = snapshot.job_name() + " " + IdText(snapshot.id()) + " (" +
                           snapshot.state() + ", " + FormatBytes(BytesOf(snapshot)) + ") from " +
                           place;
  if (!context.console.in_is_terminal) {
    return context.console.Fail(
        Error(Errc::kInvalidArgument, "nobody to ask: remove " + what + " with --yes"));
  }
  if (!context.console.Confirm("remove " + what + " for good?")) {
    return context.console.Fail(Error(Errc::kPermission, "nothing was removed"));
  }
  return ExitCode::kOk;
}

ExitCode Done(const Console& console,
              const proto::SnapshotInfo& snapshot,
              const std::string& place) {
  if (console.json) {
    console.out << RemovedJson(snapshot, place);
  } else {
    console.out << "removed " << SafeText(snapshot.job_name()) << " " << IdText(snapshot.id())
                << " from " << SafeText(place) << "\n";
  }
  return ExitCode::kOk;
}

Status RemoveByDaemon(AdminChannel& channel, const proto::SnapshotId& id, const std::string& root) {
  proto::ClientMessage request;
  *request.mutable_remove()->mutable_id() = id;
  request.mutable_remove()->set_root(root);
  HF_TRYV(channel.Call(std::move(request), proto::ServerMessage::kRemove, kSlowCall));
  return Ok();
}

ExitCode RemoveFromMemory(const Context& context, const RmOptions& options) {
  const auto sources = OpenSources(context, {});
  if (!sources.value) {
    return sources.exit;
  }
  const auto found = FindIn(*sources.value, options.job, options.snapshot);
  if (!found) {
    return context.console.Fail(found.error());
  }
  const proto::SnapshotInfo& snapshot = found.value().snapshot;
  if (const ExitCode agreed = Agree(context, options, snapshot, "this node's memory");
      agreed != ExitCode::kOk) {
    return agreed;
  }
  const Status removed = RemoveByDaemon(*sources.value->channel, snapshot.id(), "");
  return removed ? Done(context.console, snapshot, "memory")
                 : Refused(context.console, removed.error());
}

// The daemon of this node, if one answers and flushes this job to "root": its records must follow.
Result<std::unique_ptr<AdminChannel>> DaemonOfRoot(const Context& context,
                                                   const std::string& job,
                                                   const std::string& root,
                                                   bool* live) {
  std::unique_ptr<AdminChannel> none;
  auto channel = context.connect(SocketCandidates(context.socket, context.environment));
  if (!channel) {
    // Nobody there: the folder is all there is.  A daemon that a user named must answer.
    if (!context.socket.empty()) {
      return channel.error();
    }
    return none;
  }
  proto::ClientMessage request;
  request.mutable_status();
  HF_TRY(const AdminReply reply,
         channel.value()->Call(std::move(request), proto::ServerMessage::kStatus, kQuickCall));
  for (const proto::JobStatus& status : reply.message.status().jobs()) {
    const bool here = std::any_of(status.tiers().begin(),
                                  status.tiers().end(),
                                  [&](const auto& tier) { return tier.root() == root; });
    if (status.name() == job && here) {
      *live = status.live();
      return std::move(channel).value();
    }
  }
  return none;
}

Status RemoveFromFolder(const Context& context,
                        const RmOptions& options,
                        const std::string& root,
                        const proto::SnapshotInfo& snapshot) {
  bool live = false;
  HF_TRY(const auto daemon, DaemonOfRoot(context, options.job, root, &live));
  // The daemon removes what it knows as durable.  The rest of a live job may be under way.
  const bool durable = snapshot.state() == kStateDurable;
  if (live && (options.force || !durable)) {
    return Error(Errc::kPermission,
                 "job " + options.job + " is live on this node: " +
                     (options.force ? "--force is for jobs at rest"
                                    : "what is not durable may still be written"));
  }
  storage_tiers::PersistentTier tier(context.fs, root, storage_tiers::TierScope::kShared);
  Status removed = Ok();
  if (daemon != nullptr && durable) {
    removed = RemoveByDaemon(*daemon, snapshot.id(), root);
  } else {
    HF_TRY(const std::uint64_t highest, tier.HighestIncarnation(options.job));
    removed = tier.Delete(options.job, snapshot.id(), highest);
  }
  if (removed || removed.error().code != Errc::kUnavailable) {
    return removed;
  }
  if (options.force) {
    return ForceRemove(context.fs, tier, options.job, snapshot.id());
  }
  if (!live && RefuseShared(tier, options.job, snapshot.id())) {
    Error refused = std::move(removed).error();
    refused.message += "; --force removes it all the same, if no node runs the job";
    return refused;
  }
  return removed;
}

}  // namespace

ExitCode RunRm(const Context& context, const RmOptions& options) {
  const Console& console = context.console;
  if (options.memory == !options.root.empty()) {
    return console.Fail(Error(Errc::kInvalidArgument,
                              "say from where: --memory, or --root with a persistent folder"));
  }
  if (options.memory) {
    return RemoveFromMemory(context, options);
  }
  const std::string root = CleanPath(options.root);
  FolderSource source(context.fs, root);
  const auto spec = ParseSnapshotSpec(options.snapshot);
  if (!spec) {
    return console.Fail(spec.error());
  }
  const auto listing = source.List(options.job);
  if (!listing) {
    return console.Fail(listing.error());
  }
  const auto snapshot = FindSnapshot(listing.value().reply, options.job, spec.value());
  if (!snapshot) {
    return console.Fail(snapshot.error());
  }
  if (const ExitCode agreed = Agree(context, options, snapshot.value(), root);
      agreed != ExitCode::kOk) {
    return agreed;
  }
  const Status removed = RemoveFromFolder(context, options, root, snapshot.value());
  return removed ? Done(console, snapshot.value(), root) : Refused(console, removed.error());
}

}  // namespace holdfast::cli
