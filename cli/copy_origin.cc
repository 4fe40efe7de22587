#include "cli/copy_origin.h"

#include <algorithm>
#include <charconv>
#include <utility>

#include "cli/source_folder.h"
#include "layout/manifest.h"
#include "storage_tiers/persistent_tier_names.h"

namespace holdfast::cli {
namespace {

using storage_tiers::JoinPath;

void SortByNumber(std::vector<proto::IncarnationFile>* records) {
  std::sort(records->begin(), records->end(), [](const auto& a, const auto& b) {
    return a.number() < b.number();
  });
}

class FolderOrigin final : public CopyOrigin {
 public:
  FolderOrigin(storage_tiers::FileSystem& fs, const std::string& root)
      : fs_(fs), source_(fs, root), tier_(fs, root, storage_tiers::TierScope::kShared) {}

  Source& source() override { return source_; }

  Result<proto::Manifest> Manifest(const proto::SnapshotInfo& snapshot) override {
    return tier_.ReadManifest(snapshot.job_name(), snapshot.id());
  }

  Result<std::vector<proto::IncarnationFile>> Incarnations(
      const proto::SnapshotInfo& snapshot) override {
    const std::string& job = snapshot.job_name();
    std::vector<proto::IncarnationFile> records;
    HF_TRY(const std::vector<std::uint64_t> numbers, Numbers(job));
    for (const std::uint64_t number : numbers) {
      HF_TRY(auto record, tier_.ReadIncarnation(job, number));
      if (record) {
        records.push_back(std::move(*record));
      }
    }
    SortByNumber(&records);
    return records;
  }

 private:
  Result<std::vector<std::uint64_t>> Numbers(const std::string& job) {
    const std::string folder =
        JoinPath(JoinPath(tier_.root(), job), storage_tiers::kIncarnationsFolderName);
    std::vector<std::uint64_t> numbers;
    const auto entries = fs_.List(folder);
    if (!entries && entries.error().code == Errc::kNotFound) {
      return numbers;
    }
    HF_TRYV(entries);
    for (const storage_tiers::FolderEntry& entry : entries.value()) {
      const std::string_view name = entry.name;
      if (!name.ends_with(storage_tiers::kIncarnationSuffix)) {
        continue;
      }
      const std::string_view digits =
          name.substr(0, name.size() - storage_tiers::kIncarnationSuffix.size());
      std::uint64_t number = 0;
      const auto [stop, error] =
          std::from_chars(digits.data(), digits.data() + digits.size(), number);
      if (error == std::errc() && stop == digits.data() + digits.size() && number > 0) {
        numbers.push_back(number);
      }
    }
    return numbers;
  }

  storage_tiers::FileSystem& fs_;
  FolderSource source_;
  storage_tiers::PersistentTier tier_;
};

class StateOrigin final : public CopyOrigin {
 public:
  explicit StateOrigin(std::unique_ptr<StateSource> state) : state_(std::move(state)) {}

  Source& source() override { return *state_; }

  Result<proto::Manifest> Manifest(const proto::SnapshotInfo& snapshot) override {
    proto::Manifest manifest;
    manifest.set_format_version(layout::kManifestFormatVersion);
    *manifest.mutable_id() = snapshot.id();
    manifest.set_job_name(snapshot.job_name());
    manifest.set_world_size(snapshot.world_size());
    for (const proto::IncarnationRecord& record : state_->contents().incarnations) {
      if (record.job_uid() == snapshot.id().job_uid() &&
          record.number() == snapshot.id().incarnation() && record.decision().has_choice()) {
        *manifest.mutable_parent() = record.decision().choice();
      }
    }
    return manifest;
  }

  Result<std::vector<proto::IncarnationFile>> Incarnations(
      const proto::SnapshotInfo& snapshot) override {
    std::vector<proto::IncarnationFile> files;
    for (const proto::IncarnationRecord& record : state_->contents().incarnations) {
      if (record.job_uid() != snapshot.id().job_uid()) {
        continue;
      }
      proto::IncarnationFile file;
      file.set_format_version(1);
      file.set_job_uid(record.job_uid());
      file.set_number(record.number());
      file.set_token(record.token());
      file.set_world_size(record.world_size());
      *file.mutable_member_node_uuids() = record.member_node_uuids();
      *file.mutable_decision() = record.decision();
      files.push_back(std::move(file));
    }
    SortByNumber(&files);
    return files;
  }

 private:
  const std::unique_ptr<StateSource> state_;
};

}  // namespace

std::unique_ptr<CopyOrigin> OriginInFolder(storage_tiers::FileSystem& fs, const std::string& root) {
  return std::make_unique<FolderOrigin>(fs, root);
}

std::unique_ptr<CopyOrigin> OriginInState(std::unique_ptr<StateSource> state) {
  return std::make_unique<StateOrigin>(std::move(state));
}

}  // namespace holdfast::cli
