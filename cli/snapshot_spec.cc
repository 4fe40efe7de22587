#include "cli/snapshot_spec.h"

#include <charconv>
#include <utility>
#include <vector>

#include "cli/snapshot_state.h"
#include "cli/text.h"

namespace holdfast::cli {
namespace {

constexpr std::size_t kCandidatesShown = 8;

template <class Number>
bool ParseNumber(std::string_view text, Number* number) {
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, *number);
  return error == std::errc() && stop == end && !text.empty() && text[0] != '-';
}

std::string List(const std::vector<const proto::SnapshotInfo*>& snapshots) {
  std::string text;
  for (std::size_t i = 0; i < snapshots.size() && i < kCandidatesShown; ++i) {
    text += (i == 0 ? "" : ", ") + IdText(snapshots[i]->id()) +
            (snapshots[i]->state() == kStateDamaged ? " (damaged)" : "");
  }
  return text + (snapshots.size() > kCandidatesShown ? ", ..." : "");
}

std::string Name(const SnapshotSpec& spec) {
  return spec.newest
             ? "a complete or durable snapshot"
             : "step " + std::to_string(spec.step) +
                   (spec.incarnation ? " of incarnation " + std::to_string(*spec.incarnation) : "");
}

Error Absent(const std::string& job,
             const SnapshotSpec& spec,
             const std::vector<const proto::SnapshotInfo*>& of_job) {
  return Error(Errc::kNotFound,
               of_job.empty()
                   ? "there is no snapshot of job " + job + " here"
                   : "job " + job + " has no " + Name(spec) + " here; it has " + List(of_job));
}

// What "newest" may choose.
bool Restorable(const proto::SnapshotInfo& snapshot) {
  return !snapshot.discarded() && IsComplete(snapshot);
}

}  // namespace

Result<SnapshotSpec> ParseSnapshotSpec(std::string_view text) {
  SnapshotSpec spec;
  if (text == "newest") {
    spec.newest = true;
    return spec;
  }
  const std::size_t at = text.find('@');
  bool ok = ParseNumber(text.substr(0, at), &spec.step);
  if (at != std::string_view::npos) {
    std::uint64_t incarnation = 0;
    ok = ok && ParseNumber(text.substr(at + 1), &incarnation) && incarnation > 0;
    spec.incarnation = incarnation;
  }
  if (!ok) {
    return Error(Errc::kInvalidArgument,
                 "\"" + std::string(text) +
                     "\" names no snapshot; write a step (1200), a step of one start of the job "
                     "(1200@7), or newest");
  }
  return spec;
}

Result<proto::SnapshotInfo> FindSnapshot(const proto::ListReply& listing,
                                         const std::string& job,
                                         const SnapshotSpec& spec) {
  std::vector<const proto::SnapshotInfo*> of_job;
  std::vector<const proto::SnapshotInfo*> found;
  std::vector<const proto::SnapshotInfo*> given_up;
  for (const proto::SnapshotInfo& snapshot : listing.snapshots()) {
    if (snapshot.job_name() != job) {
      continue;
    }
    of_job.push_back(&snapshot);
    if (spec.newest) {
      if (found.empty() && Restorable(snapshot)) {
        found.push_back(&snapshot);
      }
      continue;
    }
    if (snapshot.id().step() == spec.step &&
        (!spec.incarnation || snapshot.id().incarnation() == *spec.incarnation)) {
      (snapshot.state() == kStateAbandoned ? given_up : found).push_back(&snapshot);
    }
  }
  if (found.empty()) {
    found = std::move(given_up);
  }
  if (found.empty()) {
    return Absent(job, spec, of_job);
  }
  if (found.size() > 1) {
    return Error(Errc::kInvalidArgument,
                 "job " + job + " has step " + std::to_string(spec.step) +
                     " in several incarnations: say which of " + List(found));
  }
  return *found.front();
}

}  // namespace holdfast::cli
