// A persistent tier as the core sees it: files, manifests and incarnation records in maps.
//
// Threads:   one.
// Ownership: value type; outlives every daemon of the test.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "common/result.h"
#include "daemon/core/action.h"
#include "daemon/core/node_core.h"

namespace holdfast::daemon {

class FakeTier {
 public:
  struct File {
    std::string content;
    proto::Sidecar sidecar;
    std::optional<std::string> static_content;  // where this snapshot's folder has it
  };

  struct JobFolder {
    JobUid uid;
    std::map<std::uint64_t, proto::IncarnationFile> incarnations;
    std::map<SnapshotKey, std::map<Rank, File>> files;
    std::map<SnapshotKey, std::uint32_t> manifests;  // world size
    std::set<SnapshotKey> damaged_manifests;
  };

  // While it fails, every call answers kIoError.
  void SetFailing(bool failing) { failing_ = failing; }

  // While it is not mounted there is an empty folder in its place, which takes writes.
  void SetMounted(bool mounted);
  bool HasJob(const std::string& job_name) const;

  bool failing() const { return failing_; }

  JobFolder& Folder(const std::string& job_name) { return folders_[job_name]; }

  bool Published(const std::string& job_name, const SnapshotKey& id) const;
  // Published, and every file's content is what its sidecar says.
  bool Restorable(const std::string& job_name, const SnapshotKey& id) const;
  bool AnyRestorable(const std::string& job_name) const;

  // The folder is there before the first file.
  void BeginFlush(const FlushShard& action);
  Status Flush(const FlushShard& action,
               const std::string& content,
               const std::optional<std::string>& static_content = std::nullopt);
  // Snapshots of the job with a folder and no manifest.
  std::set<SnapshotKey> Unfinished(const std::string& job_name) const;
  // kInternal where a rank's file is missing: the core must not ask for it (I6).
  Status Publish(const PublishManifest& action);
  Status Delete(const DeleteDurable& action);
  Result<std::vector<TierSnapshot>> List(const ListTier& action) const;
  Result<proto::Sidecar> Open(const OpenShardFile& action) const;
  std::string Content(const OpenShardFile& action) const;
  std::string StaticContent(const OpenShardFile& action) const;
  void Damage(const std::string& job_name, const SnapshotKey& id, Rank rank);
  void LoseStatic(const std::string& job_name, const SnapshotKey& id, Rank rank);
  void Mend(const std::string& job_name, const SnapshotKey& id, Rank rank);

 private:
  // Own and shared bytes are what the sidecar says.
  static bool IsWhole(const JobFolder& folder, const File& file);
  static std::string StaticContentOf(const JobFolder& folder, const File& file);
  static bool IsOwner(const JobFolder& folder, const SnapshotKey& id);
  bool Fenced(const std::string& job_name, const Epoch& epoch) const;

  // Of the file system, mounted or not; null if it has no such job.
  const JobFolder* Lying(const std::string& job_name) const;

  std::map<std::string, JobFolder> folders_;
  std::map<std::string, JobFolder> hidden_;  // of the file system while it is not mounted
  bool mounted_ = true;
  bool failing_ = false;
};

}  // namespace holdfast::daemon
