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

}  // namespace

std::string FakeTier::StaticContentOf(const JobFolder& folder, const File& file) {
  if (file.sidecar.images_size() == 1) {
    return "no static image";
  }
  const auto owner = folder.files.find(KeyOf(file.sidecar.images(1).owner()));
  if (owner == folder.files.end() || !owner->second.contains(file.sidecar.rank())) {
    return "its owner is gone";
  }
  return owner->second.at(file.sidecar.rank()).static_content.value_or("its owner has none");
}

bool FakeTier::IsWhole(const JobFolder& folder, const File& file) {
  const bool shares = file.sidecar.images_size() > 1;
  return FakeArena::Matches(file.content, file.sidecar.images(0)) &&
         (!shares || FakeArena::Matches(StaticContentOf(folder, file), file.sidecar.images(1)));
}

// Another snapshot that is published names its static image.
bool FakeTier::IsOwner(const JobFolder& folder, const SnapshotKey& id) {
  return std::any_of(folder.files.begin(), folder.files.end(), [&](const auto& entry) {
    return entry.first != id && folder.manifests.contains(entry.first) &&
           std::any_of(entry.second.begin(), entry.second.end(), [&](const auto& file) {
             const proto::Sidecar& sidecar = file.second.sidecar;
             return sidecar.images_size() > 1 && KeyOf(sidecar.images(1).owner()) == id;
           });
  });
}

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
  const JobFolder& folder = *Lying(job_name);
  const auto& files = folder.files.at(id);
  return std::all_of(
      files.begin(), files.end(), [&](const auto& file) { return IsWhole(folder, file.second); });
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

Status FakeTier::Flush(const FlushShard& action,
                       const std::string& content,
                       const std::optional<std::string>& static_content) {
  if (failing_) {
    return Failing();
  }
  if (action.expected && !HasJob(action.job_name)) {
    return NotThere();
  }
  File file{content, action.sidecar, static_content};
  if (!FakeArena::Matches(file.content, file.sidecar.images(0)) ||
      (static_content.has_value() &&
       !FakeArena::Matches(*static_content, file.sidecar.images(1)))) {
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
  for (const auto& [rank, file] : folder.files[action.id]) {
    const bool shares = file.sidecar.images_size() > 1 && !file.static_content.has_value();
    if (shares && !IsWhole(folder, file)) {
      return Error(Errc::kCorruption, "the owner of the static image of a rank does not hold it");
    }
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
  if (IsOwner(folder, action.id)) {
    return Error(Errc::kUnavailable, "a newer snapshot uses its static image");
  }
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
      TierSnapshot snapshot{id, world, {}, {}, std::nullopt};
      if (folder->second.damaged_manifests.contains(id)) {
        snapshot.problem = Error(Errc::kCorruption, "the manifest is damaged");
        found.push_back(std::move(snapshot));
        continue;
      }
      for (const auto& [rank, file] : folder->second.files.at(id)) {
        snapshot.image_bytes.push_back(file.sidecar.images(0).length_bytes());
        if (file.sidecar.images_size() > 1) {
          snapshot.static_owners[rank] = KeyOf(file.sidecar.images(1).owner());
        }
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

std::string FakeTier::StaticContent(const OpenShardFile& action) const {
  const auto folder = folders_.find(action.job_name);
  if (folder == folders_.end() || !folder->second.files.contains(action.id)) {
    return "no file";
  }
  return StaticContentOf(folder->second, folder->second.files.at(action.id).at(action.rank));
}

void FakeTier::Damage(const std::string& job_name, const SnapshotKey& id, Rank rank) {
  folders_.at(job_name).files.at(id).at(rank).content += kFlipped;
}

void FakeTier::LoseStatic(const std::string& job_name, const SnapshotKey& id, Rank rank) {
  folders_.at(job_name).files.at(id).at(rank).static_content.reset();
}

void FakeTier::Mend(const std::string& job_name, const SnapshotKey& id, Rank rank) {
  std::string& content = folders_.at(job_name).files.at(id).at(rank).content;
  content.resize(content.size() - std::strlen(kFlipped));
}

}  // namespace holdfast::daemon
