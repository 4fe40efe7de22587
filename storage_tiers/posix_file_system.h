// FileSystem over the calls of the operating system; images move through io_uring with O_DIRECT.
//
// Where io_uring is refused (old kernels, seccomp in containers) the same transfers run with pread
// and pwrite, and where the file system refuses O_DIRECT (tmpfs on older kernels, some network file
// systems) they run through the page cache.  Each is logged once: it costs speed, never safety.
//
// Threads:   any worker thread; a call can block for as long as the file system hangs, except
//            WriteImage and ReadImage, which keep their time limits where io_uring is available.
// Ownership: owns nothing but two flags; files stay valid after it is destroyed.
// Errors:    kAlreadyExists, kNotFound, kNoSpace, kPermission, kIoError from errno;
// kInvalidArgument
//            from folder synchronisation means that the file system cannot keep our promises and
//            must not be used as a persistent tier.
// Durability: as FileSystem says; Sync is fsync, never fdatasync, since the size matters.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include <sys/types.h>

#include "storage_tiers/file_system.h"

namespace holdfast::storage_tiers {

struct PosixFileSystemOptions {
  // Training state is private to the daemon's user and group; umask may take more bits away.
  mode_t file_mode = 0640;
  mode_t folder_mode = 0750;
  bool allow_direct = true;  // false: always through the page cache
  bool allow_uring = true;   // false: always pread and pwrite
};

class PosixFileSystem final : public FileSystem {
 public:
  explicit PosixFileSystem(const PosixFileSystemOptions& options = {});

  [[nodiscard]] Result<std::unique_ptr<File>> OpenForWrite(const std::string& path) override;
  [[nodiscard]] Result<std::unique_ptr<File>> OpenForRead(const std::string& path) override;
  [[nodiscard]] Result<std::vector<FolderEntry>> List(const std::string& path) override;
  [[nodiscard]] Result<FileInfo> Stat(const std::string& path) override;
  [[nodiscard]] Status CreateFolder(const std::string& path) override;
  [[nodiscard]] Status Rename(const std::string& from, const std::string& to) override;
  [[nodiscard]] Status Link(const std::string& from, const std::string& to) override;
  [[nodiscard]] Status Unlink(const std::string& path) override;
  [[nodiscard]] Status RemoveFolder(const std::string& path) override;
  [[nodiscard]] Status SyncFolder(const std::string& path) override;
  [[nodiscard]] Result<ByteCount> FreeSpace(const std::string& path) override;
  [[nodiscard]] Status WriteImage(const std::string& path,
                                  ByteView image,
                                  const ImageIoOptions& options) override;
  [[nodiscard]] Status ReadImage(const std::string& path,
                                 MutableByteView destination,
                                 const ImageIoOptions& options) override;

  // Whether an image was moved in a slower way than the options allow, since the system refused.
  [[nodiscard]] bool uring_refused() const { return said_no_uring_; }

  [[nodiscard]] bool direct_refused() const { return said_no_direct_; }

 private:
  // Constant after construction.
  const PosixFileSystemOptions options_;
  // Set at the first fallback, which is logged.
  std::atomic<bool> said_no_uring_ = false;
  std::atomic<bool> said_no_direct_ = false;
};

}  // namespace holdfast::storage_tiers
