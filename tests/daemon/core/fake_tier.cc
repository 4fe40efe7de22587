#include "tests/daemon/core/fake_tier.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "tests/daemon/core/fake_arena.h"

namespace holdfast::daemon {
namespace {

constexpr char kFlipped[] = " (bits flipped)";

Error Failing() {
  return Error(Errc::kIoError, "the file system is away");
}

Error NotThere() {
  return Error(Errc::kUnavailable, "no job.json; is it mounted?");
}

bool Matches(const FakeTier::File& file) {
  const proto::ImageDigest& image = file.sidecar.images(0);
  const auto digests = FakeArena::Digests(file.content, image.length_bytes());
  return std::equal(
      digests.begin(), digests.end(), image.chunk_crc32c().begin(), image.chunk_crc32c().end());
}

}  // namespace

void FakeTier::SetMounted(bool mounted) {
  if (mounted_ == mounted) {
    return;
  }
  mounted_ = mounted;
  if (mounted) {
    folders_ = std::exchange(hidden_, {});
  } else {
    hidden_ = std::exchange(folders_, {});
  }
}

bool FakeTier::HasJob(const std::string& job_name) const {
  const auto folder = folders_.find(job_name);
  return folder != folders_.end() && !folder->second.uid.empty();
}

const FakeTier::JobFolder* FakeTier::Lying(const std::string& job_name) const {
  const auto& folders = mounted_ ? folders_ : hidden_;
  const auto folder = folders.find(job_name);
  return folder == folders.end() ? nullptr : &folder->second;
}

bool FakeTier::Published(const std::string& job_name, const SnapshotKey& id) const {
  const JobFolder* folder = Lying(job_name);
  return folder != nullptr && folder->manifests.contains(id);
}

bool FakeTier::Restorable(const std::string& job_name, const SnapshotKey& id) const {
  if (!Published(job_name, id)) {
    return false;
  }
  const auto& files = Lying(job_name)->files.at(id);
  return std::all_of(
      files.begin(), files.end(), [](const auto& file) { return Matches(file.second); });
}

bool FakeTier::AnyRestorable(const std::string& job_name) const {
  const JobFolder* folder = Lying(job_name);
  return folder != nullptr &&
         std::any_of(folder->manifests.begin(), folder->manifests.end(), [&](const auto& entry) {
           return Restorable(job_name, entry.first);
         });
}

bool FakeTier::Fenced(const std::string& job_name, const Epoch& epoch) const {
  const auto folder = folders_.find(job_name);
  return folder != folders_.end() && !folder->second.incarnations.empty() &&
         folder->second.incarnations.rbegin()->first > epoch.number;
}

void FakeTier::BeginFlush(const FlushShard& action) {
  if (!failing_ && (!action.expected || HasJob(action.job_name))) {
    folders_[action.job_name].uid = action.job_uid;
    folders_[action.job_name].files[action.id];
  }
}

std::set<SnapshotKey> FakeTier::Unfinished(const std::string& job_name) const {
  std::set<SnapshotKey> ids;
  if (const JobFolder* folder = Lying(job_name); folder != nullptr) {
    for (const auto& [id, files] : folder->files) {
      if (!folder->manifests.contains(id)) {
        ids.insert(id);
      }
    }
  }
  return ids;
}

Status FakeTier::Flush(const FlushShard& action, const std::string& content) {
  if (failing_) {
    return Failing();
  }
  if (action.expected && !HasJob(action.job_name)) {
    return NotThere();
  }
  File file{content, action.sidecar};
  if (!Matches(file)) {
    return Error(Errc::kCorruption, "chunk 0 does not match its digest");  // I5
  }
  JobFolder& folder = folders_[action.job_name];
  folder.uid = action.job_uid;
  folder.files[action.id][action.rank] = std::move(file);
  return Ok();
}

Status FakeTier::Publish(const PublishManifest& action) {
  if (failing_) {
    return Failing();
  }
  if (Fenced(action.job_name, action.epoch)) {
    return Error(Errc::kFenced, "a higher incarnation is recorded");
  }
  JobFolder& folder = folders_[action.job_name];
  if (folder.files[action.id].size() != action.world_size) {
    return Error(Errc::kInternal, "a manifest would name files that are not there (I6)");
  }
  folder.manifests[action.id] = action.world_size;
  return Ok();
}

Status FakeTier::Delete(const DeleteDurable& action) {
  if (failing_) {
    return Failing();
  }
  if (Fenced(action.job_name, action.epoch)) {
    return Error(Errc::kFenced, "a higher incarnation is recorded");
  }
  JobFolder& folder = folders_[action.job_name];
  folder.manifests.erase(action.id);
  return folder.files.erase(action.id) > 0 ? Status(Ok())
                                           : Status(Error(Errc::kNotFound, "not there"));
}

Result<std::vector<TierSnapshot>> FakeTier::List(const ListTier& action) const {
  if (failing_) {
    return Failing();
  }
  if (action.expected && !HasJob(action.job_name)) {
    return NotThere();
  }
  std::vector<TierSnapshot> found;
  if (const auto folder = folders_.find(action.job_name); folder != folders_.end()) {
    for (const auto& [id, world] : folder->second.manifests) {
      TierSnapshot snapshot{id, world, {}, std::nullopt};
      if (folder->second.damaged_manifests.contains(id)) {
        snapshot.problem = Error(Errc::kCorruption, "the manifest is damaged");
        found.push_back(std::move(snapshot));
        continue;
      }
      for (const auto& [rank, file] : folder->second.files.at(id)) {
        snapshot.image_bytes.push_back(file.sidecar.images(0).length_bytes());
      }
      found.push_back(std::move(snapshot));
    }
  }
  return found;
}

Result<proto::Sidecar> FakeTier::Open(const OpenShardFile& action) const {
  if (failing_) {
    return Failing();
  }
  if (!Published(action.job_name, action.id)) {
    return Error(Errc::kNotFound, "no manifest of it");
  }
  return folders_.at(action.job_name).files.at(action.id).at(action.rank).sidecar;
}

std::string FakeTier::Content(const OpenShardFile& action) const {
  const auto folder = folders_.find(action.job_name);
  if (folder == folders_.end() || !folder->second.files.contains(action.id)) {
    return "no file";
  }
  return folder->second.files.at(action.id).at(action.rank).content;
}

void FakeTier::Damage(const std::string& job_name, const SnapshotKey& id, Rank rank) {
  folders_.at(job_name).files.at(id).at(rank).content += kFlipped;
}

void FakeTier::Mend(const std::string& job_name, const SnapshotKey& id, Rank rank) {
  std::string& content = folders_.at(job_name).files.at(id).at(rank).content;
  content.resize(content.size() - std::strlen(kFlipped));
}

}  // namespace holdfast::daemon
