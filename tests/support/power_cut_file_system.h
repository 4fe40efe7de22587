// A file system in memory that forgets, at a power cut, what was never synced.
//
// Durable is what a disk owes us and nothing more: a file's contents as of its last Sync, a
// folder's names as of its last SyncFolder.  At a cut each later change (each 512-byte sector of a
// write, each size, each name) survives or not by itself, as the seed chooses, because a disk may
// have written any of them in any order.  A rename is one change: both names or none.
//
// A test runs an operation with CutAfter(n) for n = 0, 1, 2, ... until it succeeds, each time
// starts anew with Restore(seed), and looks at what a new process would find.
//
// Threads:   any; one mutex.
// Ownership: owns all contents; files hold on to it by reference and die with the power.
// Errors:    EIO for every call while the power is off, and for files opened before the last cut.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "storage_tiers/file_system.h"

namespace holdfast::testing {

class PowerCutFileSystem final : public storage_tiers::FileSystem {
 public:
  // What becomes of unsynced changes; other seeds choose for each by themselves.
  static constexpr std::uint64_t kNothingUnsyncedSurvives = 0;
  static constexpr std::uint64_t kEverythingSurvives = 1;

  PowerCutFileSystem();
  ~PowerCutFileSystem() override;

  // The power fails once "steps" more steps (calls that change something, or sync) are done: the
  // next step fails, and so does every call after it.
  void CutAfter(std::uint64_t steps);

  // Cuts the power now, if it is not off already, and starts again with what survived.
  void Restore(std::uint64_t seed);

  [[nodiscard]] bool power_is_off() const;

  // Steps done since the last Restore or construction.
  [[nodiscard]] std::uint64_t steps() const;

  // Flips one bit of a file's contents, durably: damage, not a write.
  [[nodiscard]] Status FlipBit(const std::string& path, ByteCount byte, int bit);

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

 private:
  friend class PowerCutFile;

  using Names = std::map<std::string, std::shared_ptr<struct PowerCutNode>>;

  // All below: mu_ is held.
  [[nodiscard]] Status Step();
  [[nodiscard]] Status CheckPower() const;
  [[nodiscard]] Result<std::shared_ptr<PowerCutNode>> Find(const std::string& path) const;
  [[nodiscard]] Result<std::shared_ptr<PowerCutNode>> FindFolder(const std::string& path) const;
  [[nodiscard]] Status AddName(const std::string& path, std::shared_ptr<PowerCutNode> node);

  mutable std::mutex mu_;
  // Guarded by mu_, as are all nodes.
  std::shared_ptr<PowerCutNode> root_;
  std::uint64_t boot_ = 1;  // files of an earlier boot are dead
  std::uint64_t steps_ = 0;
  std::uint64_t cut_after_ = ~std::uint64_t{0};
  bool off_ = false;
};

}  // namespace holdfast::testing
