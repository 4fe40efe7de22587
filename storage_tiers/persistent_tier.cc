#include "storage_tiers/persistent_tier.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <utility>

#include "layout/manifest.h"
#include "layout/names.h"
#include "storage_tiers/atomic_publish.h"
#include "storage_tiers/persistent_tier_names.h"

namespace holdfast::storage_tiers {

namespace {

std::string IncarnationFileName(std::uint64_t number) {
  return std::to_string(number) + std::string(kIncarnationSuffix);
}

// The number of a name that IncarnationFileName writes, else nothing.
std::optional<std::uint64_t> ParseIncarnationFileName(std::string_view name) {
  if (!name.ends_with(kIncarnationSuffix)) {
    return std::nullopt;
  }
  name.remove_suffix(kIncarnationSuffix.size());
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
  if (error != std::errc() || end != name.data() + name.size() ||
      IncarnationFileName(number) != std::string(name) + std::string(kIncarnationSuffix) ||
      number == 0) {
    return std::nullopt;
  }
  return number;
}

std::string UidText(const std::string& uid) {
  return ToHex(AsBytes(uid));
}

}  // namespace

PersistentTier::PersistentTier(FileSystem& fs, std::string root, TierScope scope)
    : fs_(fs), root_(std::move(root)), scope_(scope) {}

std::string PersistentTier::JobFolder(const std::string& job) const {
  return JoinPath(root_, job);
}

std::string PersistentTier::SnapshotFolder(const std::string& job,
                                           const proto::SnapshotId& id) const {
  return JoinPath(JobFolder(job), layout::SnapshotFolderName(id));
}

std::string PersistentTier::IncarnationFolder(const std::string& job) const {
  return JoinPath(JobFolder(job), kIncarnationsFolderName);
}

Result<JobListing> PersistentTier::ListJobs() {
  HF_TRY(const auto entries, fs_.List(root_));
  JobListing jobs;
  for (const FolderEntry& entry : entries) {
    if (entry.kind != FileKind::kFolder || !layout::ValidateJobName(entry.name)) {
      continue;
    }
    const auto is_job = Exists(fs_, JoinPath(JobFolder(entry.name), kJobFileName));
    if (!is_job) {
      jobs.problems.push_back({entry.name, is_job.error()});
    } else if (is_job.value()) {
      jobs.names.push_back(entry.name);
    }
  }
  return jobs;
}

Status PersistentTier::CheckRoot() {
  HF_TRY(const bool exists, Exists(fs_, root_));
  if (!exists) {
    return Error(Errc::kUnavailable,
                 root_ +
                     ": the root of a persistent tier does not exist; is the file system "
                     "mounted? Holdfast never creates it",
                 ENOENT);
  }
  return Ok();
}

Status PersistentTier::RequireJob(const std::string& job, const std::string& job_uid) {
  HF_TRY(const auto file, ReadJob(job));
  if (!file) {
    HF_TRY(const bool lost, LostJobFile(job, job_uid));
    if (lost) {
      return EnsureJob(job, job_uid);
    }
    return Error(Errc::kUnavailable,
                 JobFolder(job) +
                     ": has no job.json, but snapshots of the job were published here; is the "
                     "file system mounted? If they were removed on purpose: `holdfast drop " +
                     job + " --forget`",
                 ENOENT);
  }
  return CheckJob(job, job_uid);
}

Status PersistentTier::EnsureJob(const std::string& job, const std::string& job_uid) {
  proto::JobFile file;
  file.set_format_version(layout::kManifestFormatVersion);
  file.set_job_uid(job_uid);
  file.set_job_name(job);
  HF_TRY(const std::string json, layout::EncodeJobFile(file));

  HF_TRYV(CheckRoot());
  HF_TRYV(LostJobFile(job, job_uid));
  HF_TRYV(fs_.SyncFolder(root_));
  HF_TRYV(CreateFolderIfMissing(fs_, JobFolder(job)));
  HF_TRYV(fs_.SyncFolder(root_));
  HF_TRYV(CreateFolderIfMissing(fs_, IncarnationFolder(job)));

  Status published = PublishExclusive(fs_, JobFolder(job), kJobFileName, json);
  if (published || published.error().code != Errc::kAlreadyExists) {
    return published;
  }
  // Other bytes, perhaps of the same meaning: another version may print JSON differently.
  HF_TRYV(CheckJob(job, job_uid));
  return fs_.SyncFolder(JobFolder(job));
}

Result<std::optional<proto::JobFile>> PersistentTier::ReadJob(const std::string& job) {
  HF_TRYV(layout::ValidateJobName(job));
  const std::string path = JoinPath(JobFolder(job), kJobFileName);
  const Result<std::string> json = ReadSmallFile(fs_, path, layout::kMaxSmallFileBytes);
  if (!json) {
    if (json.error().code == Errc::kNotFound) {
      HF_TRYV(CheckRoot());
      return std::optional<proto::JobFile>();
    }
    return json.error();
  }
  Result<proto::JobFile> file = layout::DecodeJobFile(AsBytes(json.value()));
  if (!file) {
    return std::move(file).error().WithContext(path);
  }
  if (file.value().job_name() != job) {
    return Error(Errc::kCorruption,
                 path + ": names the job \"" + file.value().job_name() +
                     "\"; a job's folder must not be renamed or copied");
  }
  return std::optional<proto::JobFile>(std::move(file).value());
}

Status PersistentTier::CheckJob(const std::string& job, const std::string& job_uid) {
  HF_TRY(const auto file, ReadJob(job));
  if (!file) {
    return Error(Errc::kNotFound,
                 JobFolder(job) + ": has no job.json; the job was never made here, or was removed");
  }
  if (file->job_uid() != job_uid) {
    return Error(Errc::kAlreadyExists,
                 JobFolder(job) + ": belongs to another job of this name, uid " +
                     UidText(file->job_uid()) + ", not " + UidText(job_uid) +
                     "; give the new job another name or move the folder away");
  }
  return Ok();
}

Result<bool> PersistentTier::RecordsVouchFor(const std::string& job, const std::string& job_uid) {
  HF_TRY(const auto entries, ListIfPresent(fs_, IncarnationFolder(job)));
  bool vouched = false;
  for (const FolderEntry& entry : entries) {
    const auto number = ParseIncarnationFileName(entry.name);
    if (!number) {
      continue;
    }
    HF_TRY(const auto record, ReadIncarnation(job, *number));
    if (record && record->job_uid() != job_uid) {
      return Error(Errc::kCorruption,
                   JoinPath(IncarnationFolder(job), entry.name) + ": is of the job with uid " +
                       UidText(record->job_uid()));
    }
    vouched = vouched || record.has_value();
  }
  return vouched;
}

Result<bool> PersistentTier::ManifestsVouchFor(const std::string& job,
                                               const std::string& job_uid,
                                               const std::vector<std::string>& folders) {
  bool vouched = false;
  for (const std::string& folder : folders) {
    HF_TRY(const auto id, layout::ParseSnapshotFolderName(folder, job_uid));
    const auto manifest = ReadManifest(job, id);
    if (!manifest && manifest.error().code != Errc::kNotFound) {
      return manifest.error();
    }
    vouched = vouched || manifest.has_value();
  }
  return vouched;
}

Result<bool> PersistentTier::LostJobFile(const std::string& job, const std::string& job_uid) {
  HF_TRYV(layout::ValidateJobName(job));
  const std::string any_uid(layout::kUidBytes, 'x');
  std::vector<std::string> snapshots;
  HF_TRY(const auto entries, ListIfPresent(fs_, JobFolder(job)));
  for (const FolderEntry& entry : entries) {
    if (entry.kind == FileKind::kFolder && layout::ParseSnapshotFolderName(entry.name, any_uid)) {
      snapshots.push_back(entry.name);
    }
  }
  HF_TRY(const std::uint64_t records, HighestIncarnation(job));
  // Looked for last: who makes a job makes this file first.
  HF_TRY(const bool has_file, Exists(fs_, JoinPath(JobFolder(job), kJobFileName)));
  if (has_file || (snapshots.empty() && records == 0)) {
    return false;
  }
  std::string doubt = "none of them says whose they are";
  if (job_uid.empty()) {
    doubt = "this node does not know the job";
  } else {
    const auto recorded = RecordsVouchFor(job, job_uid);
    const auto published = ManifestsVouchFor(job, job_uid, snapshots);
    for (const auto* vouched : {&recorded, &published}) {
      if (!*vouched && vouched->error().code != Errc::kCorruption) {
        return vouched->error();
      }
      doubt = *vouched ? doubt : vouched->error().message;
    }
    if (recorded && published && (recorded.value() || published.value())) {
      return true;
    }
  }
  return Error(Errc::kCorruption,
               JobFolder(job) +
                   ": job.json is missing, but snapshots or incarnation records of a " +
                   "job lie there (" + doubt +
                   "); restore job.json from a copy, or take another root or another name");
}

Result<std::uint64_t> PersistentTier::HighestIncarnation(const std::string& job) {
  HF_TRYV(layout::ValidateJobName(job));
  HF_TRY(const auto entries, ListIfPresent(fs_, IncarnationFolder(job)));
  std::uint64_t highest = 0;
  for (const FolderEntry& entry : entries) {
    highest = std::max(highest, ParseIncarnationFileName(entry.name).value_or(0));
  }
  return highest;
}

Status PersistentTier::CheckEpoch(const std::string& job,
                                  std::uint64_t epoch,
                                  std::uint64_t token) {
  HF_TRY(const std::uint64_t highest, HighestIncarnation(job));
  if (highest > epoch) {
    return Error(Errc::kFenced,
                 JobFolder(job) + ": incarnation " + std::to_string(highest) + " exists, we are " +
                     std::to_string(epoch) + "; stop");
  }
  if (token == 0 || highest < epoch) {
    return Ok();
  }
  const auto record = ReadIncarnation(job, epoch);
  if (!record) {
    // Damaged, it says of nobody that he may not.
    return record.error().code == Errc::kCorruption ? Ok() : Status(record.error());
  }
  if (record.value() && record.value()->token() != token) {
    return Error(Errc::kAlreadyExists,
                 JobFolder(job) + ": another start of the job is incarnation " +
                     std::to_string(epoch) +
                     " here, and nothing of this one gets durable; start the job again");
  }
  return Ok();
}

Result<std::optional<proto::IncarnationFile>> PersistentTier::ReadIncarnation(
    const std::string& job, std::uint64_t number) {
  HF_TRYV(layout::ValidateJobName(job));
  const std::string path = JoinPath(IncarnationFolder(job), IncarnationFileName(number));
  const Result<std::string> json = ReadSmallFile(fs_, path, layout::kMaxSmallFileBytes);
  if (!json) {
    if (json.error().code == Errc::kNotFound) {
      return std::optional<proto::IncarnationFile>();
    }
    return json.error();
  }
  Result<proto::IncarnationFile> record = layout::DecodeIncarnationFile(AsBytes(json.value()));
  if (!record) {
    return std::move(record).error().WithContext(path);
  }
  if (record.value().number() != number) {
    return Error(
        Errc::kCorruption,
        path + ": is the record of incarnation " + std::to_string(record.value().number()));
  }
  return std::optional<proto::IncarnationFile>(std::move(record).value());
}

Status PersistentTier::ClaimIncarnation(const std::string& job,
                                        const proto::IncarnationFile& record) {
  HF_TRY(const std::string json, layout::EncodeIncarnationFile(record));
  HF_TRYV(layout::ValidateJobName(job));
  HF_TRYV(CheckJob(job, record.job_uid()));
  HF_TRY(const std::uint64_t highest, HighestIncarnation(job));
  if (highest > record.number()) {
    return Error(Errc::kAlreadyExists,
                 JobFolder(job) + ": incarnation " + std::to_string(highest) +
                     " is taken; claim a higher one than that");
  }
  HF_TRYV(CreateFolderIfMissing(fs_, IncarnationFolder(job)));
  HF_TRYV(fs_.SyncFolder(JobFolder(job)));
  const std::string name = IncarnationFileName(record.number());
  Status published = PublishExclusive(fs_, IncarnationFolder(job), name, json);
  if (published || published.error().code != Errc::kAlreadyExists) {
    return published;
  }
  HF_TRY(const auto there, ReadIncarnation(job, record.number()));
  if (there && there->token() == record.token() && there->job_uid() == record.job_uid()) {
    // Ours, claimed before an answer was lost, and perhaps updated since.
    return fs_.SyncFolder(IncarnationFolder(job));
  }
  return published;
}

Status PersistentTier::UpdateIncarnation(const std::string& job,
                                         const proto::IncarnationFile& record) {
  HF_TRY(const std::string json, layout::EncodeIncarnationFile(record));
  HF_TRY(const auto there, ReadIncarnation(job, record.number()));
  if (!there) {
    return Error(
        Errc::kNotFound,
        JobFolder(job) + ": incarnation " + std::to_string(record.number()) + " was never claimed");
  }
  if (there->token() != record.token() || there->job_uid() != record.job_uid()) {
    return Error(Errc::kFenced,
                 JobFolder(job) + ": incarnation " + std::to_string(record.number()) +
                     " belongs to another start of the job; stop");
  }
  HF_TRYV(CheckEpoch(job, record.number()));
  return ReplaceAtomically(fs_, IncarnationFolder(job), IncarnationFileName(record.number()), json);
}

}  // namespace holdfast::storage_tiers
