#include <filesystem>
#include <memory>
#include <system_error>
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

// What the daemon of this node has to do with a job and a folder.
struct JobHere {
  std::unique_ptr<AdminChannel>
      daemon;         // nullptr: none answers, or it does not flush the job there
  std::string root;   // the folder, as that daemon names it
  bool live = false;  // it is trained here, whatever its roots are
};

// A folder has several names where links or mounts lead to it.
bool SameFolder(const std::string& a, const std::string& b) {
  std::error_code error;
  return a == b || std::filesystem::equivalent(a, b, error);
}

// Where the daemon flushes the job to the folder, its records must follow.  An error: whether the
// job is live cannot be known, so nothing may be removed.
Result<JobHere> FindJobHere(const Context& context,
                            const std::string& job_uid,
                            const std::string& root) {
  JobHere here;
  auto channel = context.connect(SocketCandidates(context.socket, context.environment));
  if (!channel) {
    const Errc code = channel.error().code;
    const bool nobody = code == Errc::kUnavailable || code == Errc::kNotFound;
    const bool named = !context.socket.empty() || !context.environment.holdfast_socket.empty();
    if (named || !nobody) {
      return channel.error();
    }
    return here;
  }
  proto::ClientMessage request;
  request.mutable_status();
  HF_TRY(const AdminReply reply,
         channel.value()->Call(std::move(request), proto::ServerMessage::kStatus, kQuickCall));
  for (const proto::JobStatus& status : reply.message.status().jobs()) {
    // By its uid: the name may be another job's, and the root may be spelled in another way.
    if (status.job_uid() != job_uid) {
      continue;
    }
    here.live = status.live();
    for (const proto::TierStatus& tier : status.tiers()) {
      if (here.root.empty() && SameFolder(tier.root(), root)) {
        here.root = tier.root();
      }
    }
  }
  if (!here.root.empty()) {
    here.daemon = std::move(channel).value();
  }
  return here;
}

ExitCode NotAsked(const Console& console, const Error& error) {
  const bool silent = error.code == Errc::kUnavailable || error.code == Errc::kTimeout ||
                      error.code == Errc::kNotFound;
  return console.Fail(error, silent ? ExitCode::kNoDaemon : ExitCodeOf(error.code));
}

Status RemoveFromFolder(const Context& context,
                        const RmOptions& options,
                        const std::string& root,
                        const proto::SnapshotInfo& snapshot,
                        const JobHere& here) {
  // The daemon removes what it knows as durable.  The rest of a live job may be under way.
  const bool durable = snapshot.state() == kStateDurable;
  if (here.live && (options.force || !durable)) {
    return Error(Errc::kPermission,
                 "job " + options.job + " is live on this node: " +
                     (options.force ? "--force is for jobs at rest"
                                    : "what is not durable may still be written"));
  }
  storage_tiers::PersistentTier tier(context.fs, root, storage_tiers::TierScope::kShared);
  Status removed = Ok();
  if (here.daemon != nullptr && durable) {
    removed = RemoveByDaemon(*here.daemon, snapshot.id(), here.root);
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
  if (!here.live && RefuseShared(tier, options.job, snapshot.id())) {
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
  const auto here = FindJobHere(context, snapshot.value().id().job_uid(), root);
  if (!here) {
    return NotAsked(console, here.error());
  }
  const Status removed = RemoveFromFolder(context, options, root, snapshot.value(), here.value());
  return removed ? Done(console, snapshot.value(), root) : Refused(console, removed.error());
}

}  // namespace holdfast::cli
