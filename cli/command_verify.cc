#include <algorithm>
#include <map>
#include <utility>

#include "cli/commands.h"
#include "cli/interrupt.h"
#include "cli/progress.h"
#include "cli/render/render_verify.h"
#include "cli/snapshot_spec.h"
#include "cli/snapshot_state.h"
#include "cli/source_folder.h"
#include "cli/text.h"

namespace holdfast::cli {
namespace {

// One place and the snapshots of it that are to be read.
struct Part {
  Source* source = nullptr;
  std::vector<proto::SnapshotInfo> snapshots;
};

struct Plan {
  std::vector<std::unique_ptr<Source>> folders;  // of roots that the daemon named
  std::vector<Part> parts;
  std::vector<Problem> problems;
  std::vector<Problem> absent;  // places without what was named
};

// What reading found, and the ranks that had been removed when their turn came, with their place.
struct Found {
  VerifyReport report;
  std::map<std::uint32_t, std::string> retired;
};

bool Wanted(const proto::ShardInfo& shard, const VerifyOptions& options) {
  return (!options.rank || *options.rank == shard.rank()) && shard.state() != kStateFilling;
}

ByteCount BytesOfPlan(const Plan& plan, const VerifyOptions& options) {
  ByteCount bytes = 0;
  for (const Part& part : plan.parts) {
    for (const proto::SnapshotInfo& snapshot : part.snapshots) {
      for (const proto::ShardInfo& shard : snapshot.shards()) {
        const ByteCount both = shard.image_bytes() + shard.static_image_bytes();
        bytes += Wanted(shard, options) ? both : 0;
      }
    }
  }
  return bytes;
}

// The snapshots of "source" that were asked for.  A damaged one that was not asked for is no
// concern of this verification.
Status AddPart(Source* source, const VerifyOptions& options, Plan* plan) {
  HF_TRY(Listing listing, source->List(options.job));
  Part part;
  part.source = source;
  if (options.snapshot.empty()) {
    part.snapshots.assign(listing.reply.snapshots().begin(), listing.reply.snapshots().end());
    plan->problems.insert(plan->problems.end(), listing.problems.begin(), listing.problems.end());
  } else {
    HF_TRY(const SnapshotSpec spec, ParseSnapshotSpec(options.snapshot));
    HF_TRY(proto::SnapshotInfo snapshot, FindSnapshot(listing.reply, options.job, spec));
    if (snapshot.state() == kStateDamaged) {
      plan->problems.push_back({source->place(), Error(Errc::kCorruption, snapshot.reason())});
    }
    part.snapshots.push_back(std::move(snapshot));
  }
  plan->parts.push_back(std::move(part));
  return Ok();
}

// The roots on which the daemon says that snapshots are durable.
void AddRootsOfDaemon(const Context& context, const VerifyOptions& options, Plan* plan) {
  std::vector<std::string> roots;
  for (const proto::SnapshotInfo& snapshot : plan->parts.front().snapshots) {
    for (const auto* found : {&snapshot.durable_on(), &snapshot.damaged_on()}) {
      for (const std::string& root : *found) {
        if (std::find(roots.begin(), roots.end(), root) == roots.end()) {
          roots.push_back(root);
        }
      }
    }
  }
  // "newest" or a bare step may mean another snapshot in a folder than in memory.
  VerifyOptions exact = options;
  if (!options.snapshot.empty()) {
    exact.snapshot = IdText(plan->parts.front().snapshots.front().id());
  }
  for (const std::string& root : roots) {
    auto folder = std::make_unique<FolderSource>(context.fs, root);
    const Status added = AddPart(folder.get(), exact, plan);
    // The job is there without the snapshot: newer ones have become durable since the daemon's
    // answer.
    const bool retired = !added && added.error().code == Errc::kNotFound &&
                         !exact.snapshot.empty() && folder->List(exact.job).has_value();
    if (retired) {
      context.console.Note(root + ": has no " + exact.job + " " + exact.snapshot + " any more");
    } else if (!added) {
      plan->problems.push_back({root, added.error()});
    }
    plan->folders.push_back(std::move(folder));
  }
}

// kOk, or what ends everything.
Status VerifySnapshot(Source* source,
                      const proto::SnapshotInfo& snapshot,
                      const VerifyOptions& options,
                      Progress* progress,
                      Found* found) {
  progress->Label("verify " + snapshot.job_name() + " " + IdText(snapshot.id()));
  for (const proto::ShardInfo& shard : snapshot.shards()) {
    if (!Wanted(shard, options)) {
      continue;
    }
    if (InterruptFlag()->load()) {
      return Error(Errc::kCancelled, "interrupted");
    }
    HF_TRY(ShardVerdict verdict, source->VerifyShard(snapshot, shard.rank(), progress));
    if (shard.state() == kStatePoisoned && !verdict.error && verdict.bad.empty()) {
      verdict.error = Error(Errc::kCorruption, "poisoned: its digests did not match before");
    }
    const bool retired = shard.state() != kStatePoisoned && verdict.error && verdict.bad.empty() &&
                         source->Retired(snapshot, *verdict.error);
    if (retired) {
      found->retired[shard.rank()] = verdict.place;
    } else {
      found->report.shards.push_back(std::move(verdict));
    }
  }
  return Ok();
}

Result<Plan> MakePlan(const Context& context,
                      const Sources& sources,
                      const VerifyOptions& options) {
  HF_TRYV(CheckRoots(context, options.places));
  Plan plan;
  for (const auto& source : sources.list) {
    if (const Status added = AddPart(source.get(), options, &plan); !added) {
      if (added.error().code != Errc::kNotFound) {
        return added.error();
      }
      plan.absent.push_back({source->place(), added.error()});
    }
  }
  if (plan.parts.empty()) {
    return plan.absent.front().error;
  }
  if (!options.places.offline() && !options.memory_only) {
    AddRootsOfDaemon(context, options, &plan);
  }
  return plan;
}

// Of a snapshot that was named, every rank has to be read somewhere.
void MissRetired(const VerifyOptions& options, Found* found) {
  if (options.snapshot.empty()) {
    return;
  }
  for (const auto& [rank, place] : found->retired) {
    const auto& shards = found->report.shards;
    const bool read = std::any_of(shards.begin(), shards.end(), [wanted = rank](const auto& shard) {
      return shard.rank == wanted;
    });
    if (!read) {
      found->report.absent.push_back(
          {place,
           Error(Errc::kNotFound,
                 "rank " + std::to_string(rank) + " of " + options.job + " " + options.snapshot +
                     " was removed before it was read")});
    }
  }
}

// A wrong path must not pass for a good check.
Error NothingVerified(const VerifyOptions& options, const VerifyReport& report) {
  const std::string shard =
      "shard" + (options.rank ? " of rank " + std::to_string(*options.rank) : std::string());
  if (!options.snapshot.empty()) {
    return Error(Errc::kNotFound,
                 "no " + shard + " of " + options.job + " " + options.snapshot +
                     " can be read here: nothing was verified");
  }
  std::string text = "there is no " + shard + (options.job.empty() ? "" : " of " + options.job) +
                     " here: nothing was verified";
  for (const Problem& problem : report.problems) {
    text += "; " + problem.what + ": " + problem.error.message;
  }
  return Error(Errc::kNotFound, std::move(text));
}

}  // namespace

ExitCode RunVerify(const Context& context, const VerifyOptions& options) {
  const Console& console = context.console;
  const auto sources = OpenSources(context, options.places);
  if (!sources.value) {
    return sources.exit;
  }
  auto plan = MakePlan(context, *sources.value, options);
  if (!plan) {
    return console.Fail(plan.error());
  }
  Found found;
  VerifyReport& report = found.report;
  report.problems = std::move(plan.value().problems);
  report.absent = std::move(plan.value().absent);
  Progress progress(
      console.err, console.err_is_terminal, "verify", BytesOfPlan(plan.value(), options));
  for (const Part& part : plan.value().parts) {
    for (const proto::SnapshotInfo& snapshot : part.snapshots) {
      const Status status = VerifySnapshot(part.source, snapshot, options, &progress, &found);
      if (!status) {
        progress.Finish();
        return console.Fail(status.error());
      }
    }
  }
  progress.Finish();
  MissRetired(options, &found);
  const ExitCode exit = VerifyExit(report);
  const bool sound = exit == ExitCode::kOk || exit == ExitCode::kNotFound;
  const bool named = !options.job.empty() || options.rank || options.places.offline();
  if (report.shards.empty() && sound && named) {
    return console.Fail(NothingVerified(options, report));
  }
  console.out << (console.json ? VerifyJson(report) : VerifyText(report));
  return exit;
}

}  // namespace holdfast::cli
