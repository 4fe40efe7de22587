#include "daemon/pipeline/claim.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/log.h"
#include "common/random.h"
#include "layout/manifest.h"
#include "layout/names.h"

namespace holdfast::daemon {
namespace {

namespace asio = boost::asio;
using std::chrono::milliseconds;

// Racing starts: each round somebody gets a number.
constexpr int kRounds = 64;

// Records of old incarnations that are read for their decisions, newest first.
constexpr std::uint64_t kDecisionsRead = 256;

// What a tier knows of the job.
struct TierFacts {
  std::string job_uid;        // empty: the job is not there
  std::uint64_t highest = 0;  // incarnation
  std::vector<proto::IncarnationFile> records;
  std::optional<Error> refusal;  // snapshots lie there, and nobody can say of which job
};

struct Candidate {
  std::shared_ptr<Tier> tier;
  bool expected = false;  // as ClaimIncarnation::expected_roots
  TierFacts facts;
};

// Where snapshots of the job are known to be, nothing is made in an empty mount point.
Status HaveJob(TierFiles& files, const std::string& name, const std::string& uid, bool expected) {
  return expected ? files.tier.RequireJob(name, uid) : files.tier.EnsureJob(name, uid);
}

Result<TierFacts> ReadFacts(TierFiles& files,
                            const std::string& job_name,
                            const std::string& job_uid,
                            bool expected) {
  TierFacts facts;
  HF_TRY(const auto job, files.tier.ReadJob(job_name));
  if (job.has_value()) {
    facts.job_uid = job->job_uid();
  } else {
    auto lost = files.tier.LostJobFile(job_name, job_uid);
    if (!lost.has_value() && lost.error().code == Errc::kCorruption) {
      facts.refusal = std::move(lost).error();
      return facts;
    }
    HF_TRY(const bool same_job, std::move(lost));
    if (!same_job) {
      if (expected) {
        HF_TRYV(files.tier.RequireJob(job_name, job_uid));
      }
      return facts;
    }
    facts.job_uid = job_uid;
  }
  HF_TRY(facts.highest, files.tier.HighestIncarnation(job_name));
  const std::uint64_t lowest =
      facts.highest > kDecisionsRead ? facts.highest - kDecisionsRead + 1 : 1;
  for (std::uint64_t number = facts.highest; number >= lowest && number > 0; --number) {
    const auto record = files.tier.ReadIncarnation(job_name, number);
    // A damaged record of an old start must not stop a new one.
    if (record.has_value() && record.value().has_value()) {
      facts.records.push_back(*record.value());
    }
  }
  return facts;
}

void LogSkipped(const std::string& job_name, const std::string& root, const Error& error) {
  LogWarning("claim.tier_skipped",
             "job " + job_name + " starts without " + root + ": " + error.ToString());
}

// Without a uid the job may be one that lives on the root which cannot be read: a uid drawn now
// would be another job's for ever.  With one, the root finds its job again when it comes back.
Status MaySkip(const ClaimIncarnation& action, const std::string& root, const Error& error) {
  if (action.job_uid.empty()) {
    return Error(Errc::kUnavailable,
                 "job " + action.job_name + " is not known on this node, and " + root +
                     " may hold it but cannot be read (" + error.message +
                     "); mend or mount it and start again, or start without this root");
  }
  LogSkipped(action.job_name, root, error);
  return Ok();
}

asio::awaitable<Result<std::vector<Candidate>>> Survey(PipelineContext context,
                                                       ClaimIncarnation action) {
  std::vector<Candidate> candidates;
  for (const proto::TierPolicy& policy : action.tiers) {
    auto tier = context.tiers.Open(policy.root(), policy.scope());
    if (!tier.has_value()) {
      HF_CO_TRYV(MaySkip(action, policy.root(), tier.error()));
      continue;
    }
    const bool expected = action.expected_roots.contains(policy.root());
    auto call = [name = action.job_name, uid = action.job_uid, expected](TierFiles& files) {
      return ReadFacts(files, name, uid, expected);
    };
    const auto limit = tier.value()->options().call_limit;
    auto facts = co_await tier.value()->Call("read a job", limit, std::move(call));
    if (!facts.has_value()) {
      HF_CO_TRYV(MaySkip(action, policy.root(), facts.error()));
      continue;
    }
    Candidate candidate;
    candidate.tier = std::move(tier).value();
    candidate.expected = expected;
    candidate.facts = std::move(facts).value();
    candidates.push_back(std::move(candidate));
  }
  co_return candidates;
}

// The one uid of the job, from the core, else from the tiers, else a new one.
Result<std::string> SettleUid(const ClaimIncarnation& action,
                              const std::vector<Candidate>& candidates) {
  std::string uid = action.job_uid;
  std::string known_from = "this node";
  for (const Candidate& candidate : candidates) {
    if (candidate.facts.refusal.has_value()) {
      return *candidate.facts.refusal;
    }
    const std::string& there = candidate.facts.job_uid;
    if (uid.empty() && !there.empty()) {
      uid = there;
      known_from = candidate.tier->root();
    }
    if (!there.empty() && there != uid) {
      std::string text = candidate.tier->root() + " holds another job of the name " +
                         action.job_name + " (uid " + ToHex(AsBytes(there)) + ", " + known_from +
                         " has " + ToHex(AsBytes(uid)) + "); take another name or another root";
      if (!action.job_uid.empty()) {
        text += ", or `holdfast drop " + action.job_name +
                " --forget` if this node's record is the wrong one, e.g. from before the file "
                "system was mounted (its snapshots in memory go with it: export them first)";
      }
      return Error(Errc::kAlreadyExists, std::move(text));
    }
  }
  return uid.empty() ? RandomUid() : uid;
}

// True: taken (or the tier was skipped).  False: somebody else has it, or a higher one.
asio::awaitable<Result<bool>> TakeNumber(Candidate* candidate,
                                         std::string job_name,
                                         proto::IncarnationFile record) {
  auto call = [job_name, record, expected = candidate->expected](
                  TierFiles& files) -> Result<std::uint64_t> {
    HF_TRYV(HaveJob(files, job_name, record.job_uid(), expected));
    const Status claimed = files.tier.ClaimIncarnation(job_name, record);
    if (claimed.has_value()) {
      return std::uint64_t{0};
    }
    if (claimed.error().code != Errc::kAlreadyExists) {
      return claimed.error();
    }
    HF_TRY(const std::uint64_t highest, files.tier.HighestIncarnation(job_name));
    return std::max(highest, record.number());
  };
  const auto limit = candidate->tier->options().call_limit;
  const auto taken = co_await candidate->tier->Call(
      "claim an incarnation", limit, std::move(call), TierWork::kChange);
  if (!taken.has_value()) {
    co_return taken.error();
  }
  candidate->facts.highest = std::max(candidate->facts.highest, taken.value());
  co_return taken.value() == 0;
}

std::uint64_t NextNumber(const ClaimIncarnation& action, const std::vector<Candidate>& candidates) {
  std::uint64_t number = std::max<std::uint64_t>(action.at_least, 1);
  for (const Candidate& candidate : candidates) {
    number = std::max(number, candidate.facts.highest + 1);
  }
  return number;
}

// One round over all tiers: true when every tier that answers has the number.
asio::awaitable<Result<bool>> ClaimRound(const ClaimIncarnation& action,
                                         proto::IncarnationFile record,
                                         std::vector<Candidate>* candidates) {
  for (std::size_t i = 0; i < candidates->size();) {
    const auto taken = co_await TakeNumber(&(*candidates)[i], action.job_name, record);
    if (taken.has_value() && !taken.value()) {
      co_return false;
    }
    if (taken.has_value()) {
      ++i;
      continue;
    }
    if (taken.error().code == Errc::kAlreadyExists || taken.error().code == Errc::kCancelled) {
      co_return taken.error();
    }
    LogSkipped(action.job_name, (*candidates)[i].tier->root(), taken.error());
    candidates->erase(candidates->begin() + static_cast<std::ptrdiff_t>(i));
  }
  co_return true;
}

}  // namespace

asio::awaitable<Result<ClaimedIncarnation>> Claim(PipelineContext context,
                                                  ClaimIncarnation action) {
  HF_CO_TRYV(layout::ValidateJobName(action.job_name));
  HF_CO_TRY(std::vector<Candidate> candidates, co_await Survey(context, action));
  ClaimedIncarnation claimed;
  HF_CO_TRY(claimed.job_uid, SettleUid(action, candidates));
  for (const Candidate& candidate : candidates) {
    claimed.found.insert(
        claimed.found.end(), candidate.facts.records.begin(), candidate.facts.records.end());
  }
  for (int round = 0; round < kRounds; ++round) {
    proto::IncarnationFile record;
    record.set_format_version(layout::kManifestFormatVersion);
    record.set_job_uid(claimed.job_uid);
    record.set_number(NextNumber(action, candidates));
    record.set_token(action.token);
    record.set_world_size(action.world_size);
    HF_CO_TRY(const bool taken, co_await ClaimRound(action, record, &candidates));
    if (taken) {
      claimed.number = record.number();
      co_return claimed;
    }
    action.at_least = std::max(action.at_least, record.number() + 1);
  }
  co_return Error(Errc::kUnavailable,
                  "the number of a new incarnation of " + action.job_name +
                      " was taken by others again and again");
}

asio::awaitable<Status> RecordDecision(PipelineContext context, WriteIncarnation action) {
  Status all = Ok();
  for (const proto::TierPolicy& policy : action.tiers) {
    auto tier = context.tiers.Open(policy.root(), policy.scope());
    if (!tier.has_value()) {
      all = all.has_value() ? Status(tier.error()) : all;
      continue;
    }
    const bool expected = action.expected_roots.contains(policy.root());
    auto call = [name = action.job_name, file = action.file, expected](TierFiles& files) -> Status {
      HF_TRY(const auto existing, files.tier.ReadIncarnation(name, file.number()));
      if (existing.has_value()) {
        return files.tier.UpdateIncarnation(name, file);
      }
      // The tier was away when the number was claimed.
      HF_TRYV(HaveJob(files, name, file.job_uid(), expected));
      return files.tier.ClaimIncarnation(name, file);
    };
    const auto limit = tier.value()->options().call_limit;
    const Status written =
        co_await tier.value()->Call("record a decision", limit, std::move(call), TierWork::kChange);
    if (!written.has_value() && all.has_value()) {
      all = written;
    }
  }
  co_return all;
}

namespace {

// Nothing for a snapshot that was never published.
std::optional<TierSnapshot> ListOne(TierFiles& files,
                                    const std::string& job_name,
                                    const storage_tiers::SnapshotEntry& entry) {
  const auto manifest = files.tier.ReadManifest(job_name, entry.id);
  if (!manifest.has_value() && manifest.error().code == Errc::kNotFound) {
    return std::nullopt;
  }
  TierSnapshot snapshot;
  snapshot.id = KeyOf(entry.id);
  if (!manifest.has_value()) {
    snapshot.problem = manifest.error();
    return snapshot;
  }
  snapshot.world_size = manifest.value().world_size();
  for (const proto::ManifestFile& file : manifest.value().files()) {
    if (file.kind() == proto::DYNAMIC) {
      snapshot.image_bytes.push_back(file.length_bytes());
      continue;
    }
    // The manifest was validated: a static image lies in the folder of a snapshot of this job.
    const auto owner = layout::ParseSnapshotFolderName(file.path().substr(0, file.path().find('/')),
                                                       entry.id.job_uid());
    if (owner.has_value()) {
      snapshot.static_owners[file.rank()] = KeyOf(owner.value());
    }
  }
  return snapshot;
}

Result<std::vector<TierSnapshot>> ListJob(TierFiles& files, const ListTier& action) {
  std::vector<TierSnapshot> found;
  if (action.expected) {
    HF_TRYV(files.tier.RequireJob(action.job_name, action.job_uid));
  }
  HF_TRY(const auto job, files.tier.ReadJob(action.job_name));
  if (!job.has_value()) {
    return found;
  }
  if (job->job_uid() != action.job_uid) {
    return Error(Errc::kAlreadyExists, "another job has the name " + action.job_name);
  }
  HF_TRY(const auto listing, files.tier.ListSnapshots(action.job_name));
  for (const storage_tiers::SnapshotEntry& entry : listing.snapshots) {
    if (auto snapshot = ListOne(files, action.job_name, entry); snapshot.has_value()) {
      found.push_back(std::move(*snapshot));
    }
  }
  return found;
}

}  // namespace

asio::awaitable<Result<std::vector<TierSnapshot>>> List(PipelineContext context, ListTier action) {
  HF_CO_TRY(const std::shared_ptr<Tier> tier, context.tiers.Open(action.root, proto::SHARED));
  HF_CO_TRYV(layout::ValidateJobName(action.job_name));
  auto call = [action](TierFiles& files) { return ListJob(files, action); };
  // A thousand manifests take a loaded metadata server minutes.
  const auto limit = 4 * tier->options().call_limit;
  co_return co_await tier->Call("list " + action.job_name, limit, std::move(call));
}

}  // namespace holdfast::daemon
