#include "tests/support/fault_file_system.h"

#include <cerrno>
#include <chrono>
#include <utility>

namespace holdfast::testing {

using storage_tiers::File;
using storage_tiers::FileInfo;
using storage_tiers::FolderEntry;

namespace {

// A bound for tests that forget Release().
constexpr std::chrono::seconds kLongestHang{60};

class FaultFile final : public File {
 public:
  FaultFile(FaultFileSystem& fs, std::unique_ptr<File> base, std::string path)
      : fs_(fs), base_(std::move(base)), path_(std::move(path)) {}

  Status WriteAt(ByteCount offset, ByteView bytes) override {
    bool shortened = false;
    Status before = fs_.Before("WriteAt", path_, &shortened);
    if (shortened) {
      HF_TRYV(base_->WriteAt(offset, bytes.first(bytes.size() / 2)));
    }
    HF_TRYV(std::move(before));
    return base_->WriteAt(offset, bytes);
  }

  Status ReadAt(ByteCount offset, MutableByteView out) override {
    bool shortened = false;
    Status before = fs_.Before("ReadAt", path_, &shortened);
    if (shortened) {
      HF_TRYV(base_->ReadAt(offset, out.first(out.size() / 2)));
    }
    HF_TRYV(std::move(before));
    return base_->ReadAt(offset, out);
  }

  Status Preallocate(ByteCount size) override {
    HF_TRYV(fs_.Before("Preallocate", path_));
    return base_->Preallocate(size);
  }

  Status Truncate(ByteCount size) override {
    HF_TRYV(fs_.Before("Truncate", path_));
    return base_->Truncate(size);
  }

  Status Sync() override {
    HF_TRYV(fs_.Before("Sync", path_));
    return base_->Sync();
  }

  Result<ByteCount> Size() override {
    HF_TRYV(fs_.Before("Size", path_));
    return base_->Size();
  }

 private:
  FaultFileSystem& fs_;
  const std::unique_ptr<File> base_;
  const std::string path_;
};

}  // namespace

void FaultFileSystem::FailCall(std::uint64_t number, int error_number) {
  const std::lock_guard lock(mu_);
  const std::uint64_t target = calls_ + number;
  rules_.push_back({[target](const FileSystemCall& call) { return call.number == target; },
                    Effect::kFail,
                    error_number});
}

void FaultFileSystem::FailMatching(Matches matches, int error_number) {
  const std::lock_guard lock(mu_);
  rules_.push_back({std::move(matches), Effect::kFail, error_number});
}

void FaultFileSystem::ShortenMatching(Matches matches, int error_number) {
  const std::lock_guard lock(mu_);
  rules_.push_back({std::move(matches), Effect::kShorten, error_number});
}

void FaultFileSystem::HangMatching(Matches matches) {
  const std::lock_guard lock(mu_);
  released_ = false;
  rules_.push_back({std::move(matches), Effect::kHang, 0});
}

void FaultFileSystem::Release() {
  const std::lock_guard lock(mu_);
  released_ = true;
  changed_.notify_all();
}

bool FaultFileSystem::WaitUntilHanging(std::chrono::milliseconds limit) {
  std::unique_lock lock(mu_);
  return changed_.wait_for(lock, limit, [&] { return hanging_ > 0; });
}

void FaultFileSystem::Clear() {
  const std::lock_guard lock(mu_);
  rules_.clear();
  calls_ = 0;
}

std::uint64_t FaultFileSystem::calls() const {
  const std::lock_guard lock(mu_);
  return calls_;
}

Status FaultFileSystem::Before(std::string_view operation,
                               const std::string& path,
                               bool* shortened) {
  std::unique_lock lock(mu_);
  const FileSystemCall call{++calls_, operation, path};
  for (const Rule& rule : rules_) {
    if (!rule.matches(call)) {
      continue;
    }
    if (rule.effect == Effect::kHang) {
      ++hanging_;
      changed_.notify_all();
      changed_.wait_for(lock, kLongestHang, [&] { return released_; });
      --hanging_;
      return Ok();
    }
    if (rule.effect == Effect::kShorten) {
      if (shortened == nullptr) {
        continue;
      }
      *shortened = true;
    }
    return ErrnoError(rule.error_number, std::string(operation) + " " + path + " (injected)");
  }
  return Ok();
}

Result<std::unique_ptr<File>> FaultFileSystem::OpenForWrite(const std::string& path) {
  HF_TRYV(Before("OpenForWrite", path));
  HF_TRY(auto file, base_.OpenForWrite(path));
  return std::make_unique<FaultFile>(*this, std::move(file), path);
}

Result<std::unique_ptr<File>> FaultFileSystem::OpenForRead(const std::string& path) {
  HF_TRYV(Before("OpenForRead", path));
  HF_TRY(auto file, base_.OpenForRead(path));
  return std::make_unique<FaultFile>(*this, std::move(file), path);
}

Result<std::vector<FolderEntry>> FaultFileSystem::List(const std::string& path) {
  HF_TRYV(Before("List", path));
  return base_.List(path);
}

Result<FileInfo> FaultFileSystem::Stat(const std::string& path) {
  HF_TRYV(Before("Stat", path));
  return base_.Stat(path);
}

Status FaultFileSystem::CreateFolder(const std::string& path) {
  HF_TRYV(Before("CreateFolder", path));
  return base_.CreateFolder(path);
}

Status FaultFileSystem::Rename(const std::string& from, const std::string& to) {
  HF_TRYV(Before("Rename", from));
  return base_.Rename(from, to);
}

Status FaultFileSystem::Link(const std::string& from, const std::string& to) {
  HF_TRYV(Before("Link", to));
  return base_.Link(from, to);
}

Status FaultFileSystem::Unlink(const std::string& path) {
  HF_TRYV(Before("Unlink", path));
  return base_.Unlink(path);
}

Status FaultFileSystem::RemoveFolder(const std::string& path) {
  HF_TRYV(Before("RemoveFolder", path));
  return base_.RemoveFolder(path);
}

Status FaultFileSystem::SyncFolder(const std::string& path) {
  HF_TRYV(Before("SyncFolder", path));
  return base_.SyncFolder(path);
}

Result<ByteCount> FaultFileSystem::FreeSpace(const std::string& path) {
  HF_TRYV(Before("FreeSpace", path));
  return base_.FreeSpace(path);
}

}  // namespace holdfast::testing
