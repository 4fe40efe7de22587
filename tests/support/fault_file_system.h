// A FileSystem that fails, shortens or hangs chosen calls, and passes all others on.
//
// Threads:   any; rules may be added while calls run.
// Ownership: borrows the FileSystem behind it.
// Lifecycle: Release() before it is destroyed if a call hangs in it.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "storage_tiers/file_system.h"

namespace holdfast::testing {

// One call as a rule sees it.  "operation" is the method's name ("WriteAt", "SyncFolder", ...).
struct FileSystemCall {
  std::uint64_t number = 0;  // from 1, over all files
  std::string_view operation;
  std::string_view path;
};

class FaultFileSystem final : public storage_tiers::FileSystem {
 public:
  using Matches = std::function<bool(const FileSystemCall&)>;

  explicit FaultFileSystem(storage_tiers::FileSystem& base) : base_(base) {}

  // Call "number" (from 1, counted from now) fails with this errno before it does anything.
  void FailCall(std::uint64_t number, int error_number);

  // Every call that matches fails so.
  void FailMatching(Matches matches, int error_number);

  // A matching WriteAt writes the first half of its bytes and then fails, as a disk that fills up;
  // a matching ReadAt reads the first half, then fails.
  void ShortenMatching(Matches matches, int error_number);

  // A matching call blocks until Release(), then goes on as if nothing had been.
  void HangMatching(Matches matches);
  void Release();

  // True once a call hangs; false after "limit" (real time, a bound for a test that went wrong).
  [[nodiscard]] bool WaitUntilHanging(std::chrono::milliseconds limit);

  // Forgets all rules and counts from 1 again.
  void Clear();

  [[nodiscard]] std::uint64_t calls() const;

  [[nodiscard]] Result<std::unique_ptr<storage_tiers::File>> OpenForWrite(
      const std::string& path) override;
  [[nodiscard]] Result<std::unique_ptr<storage_tiers::File>> OpenForRead(
      const std::string& path) override;
  [[nodiscard]] Result<std::vector<storage_tiers::FolderEntry>> List(
      const std::string& path) override;
  [[nodiscard]] Result<storage_tiers::FileInfo> Stat(const std::string& path) override;
  [[nodiscard]] Status CreateFolder(const std::string& path) override;
  [[nodiscard]] Status Rename(const std::string& from, const std::string& to) override;
  [[nodiscard]] Status Link(const std::string& from, const std::string& to) override;
  [[nodiscard]] Status Unlink(const std::string& path) override;
  [[nodiscard]] Status RemoveFolder(const std::string& path) override;
  [[nodiscard]] Status SyncFolder(const std::string& path) override;
  [[nodiscard]] Result<ByteCount> FreeSpace(const std::string& path) override;

  // What the files made by this class ask before they pass a call on.  *shortened, where given,
  // says that half of the bytes are moved before the returned error is.
  [[nodiscard]] Status Before(std::string_view operation,
                              const std::string& path,
                              bool* shortened = nullptr);

 private:
  enum class Effect { kFail, kShorten, kHang };

  struct Rule {
    Matches matches;
    Effect effect = Effect::kFail;
    int error_number = 0;
  };

  storage_tiers::FileSystem& base_;
  mutable std::mutex mu_;
  std::condition_variable changed_;
  // Guarded by mu_.
  std::vector<Rule> rules_;
  std::uint64_t calls_ = 0;
  std::uint64_t hanging_ = 0;
  bool released_ = false;
};

}  // namespace holdfast::testing
