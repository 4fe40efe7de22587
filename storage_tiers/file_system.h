// The one seam between Holdfast's durable files and the operating system.
//
// Everything that the persistent tier does to a disk goes through these two classes, so that tests
// can fail any single call, hang it, or cut the power between any two of them and then look at what
// a new start finds.  Code that calls open(2) beside this seam cannot be tested that way.
//
// Threads:   blocking; worker threads only, never the io thread.  A FileSystem is safe from many
//            threads, a File from one at a time.
// Ownership: a File borrows nothing from its FileSystem after it was opened.
// Errors:    ErrnoError of the failed call, with the path in the message; what a call that failed
//            left behind stands at each call.
// Durability: nothing is durable before Sync (contents) *and* SyncFolder of the folder that holds
//            the name.  After a failed Sync the contents are unknown for ever: a second Sync may
//            succeed without having written them, so the file must be removed and written again.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/bytes.h"
#include "common/result.h"
#include "common/units.h"

namespace holdfast {
class BandwidthBudget;
}

namespace holdfast::storage_tiers {

enum class FileKind { kFile, kFolder, kOther };  // kOther: a symbolic link, a device, a socket

struct FileInfo {
  FileKind kind = FileKind::kOther;
  ByteCount size_bytes = 0;
};

struct FolderEntry {
  std::string name;  // one path component; never "." or ".."
  FileKind kind = FileKind::kOther;
};

// How an image is moved.  The defaults are what saturated one NVMe drive from a tmpfs mapping.
struct ImageIoOptions {
  // A multiple of 1 MiB (kChunkBytes), so that no chunk is split over two blocks; at most 64 MiB.
  ByteCount block_bytes = 4 * kMiB;
  unsigned blocks_in_flight = 8;  // 1 to 64
  // A hung file system must not hang the daemon: no block finished for so long is kTimeout.
  std::chrono::milliseconds progress_timeout{60'000};
  // fsync reports no progress, so its limit covers the whole call.
  std::chrono::milliseconds sync_timeout{600'000};
  // Looked at before every block; once true the call ends with kCancelled.  Must outlive the call.
  const std::atomic<bool>* cancel = nullptr;
  // Bytes are taken from it before they are submitted.  Must outlive the call.
  BandwidthBudget* budget = nullptr;
  // Sees each block on the calling thread: before it is written (in order), or after it was read
  // (in any order).  An error ends the transfer and is what the call returns.
  std::function<Status(ByteCount offset, ByteView block)> inspect;
  // Whoever keeps the memory valid.  A transfer that timed out may leave requests in the kernel
  // that still read or write the memory; this is then held until the last of them has ended, so a
  // slot can never be reused under a late write.
  std::shared_ptr<const void> keep_alive;
};

// kInvalidArgument names the first option out of its range.
[[nodiscard]] Status ValidateImageIoOptions(const ImageIoOptions& options);

class File {
 public:
  File() = default;
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  virtual ~File() = default;

  // All of "bytes" or an error; after an error any part of the range may have changed.
  [[nodiscard]] virtual Status WriteAt(ByteCount offset, ByteView bytes) = 0;

  // Fills all of "out".  kCorruption where the file ends earlier: lengths come from records, so a
  // file that is too short was damaged.
  [[nodiscard]] virtual Status ReadAt(ByteCount offset, MutableByteView out) = 0;

  // Reserves disk space for the first "size" bytes; the file's size may grow up to it.  kNoSpace
  // here is cheap, in the middle of a write it is not.  Ok where the file system cannot reserve.
  [[nodiscard]] virtual Status Preallocate(ByteCount size) = 0;

  [[nodiscard]] virtual Status Truncate(ByteCount size) = 0;

  // Contents and size durable.  The name is not: see FileSystem::SyncFolder.
  [[nodiscard]] virtual Status Sync() = 0;

  [[nodiscard]] virtual Result<ByteCount> Size() = 0;
};

class FileSystem {
 public:
  FileSystem() = default;
  FileSystem(const FileSystem&) = delete;
  FileSystem& operator=(const FileSystem&) = delete;
  virtual ~FileSystem() = default;

  // Creates the file; kAlreadyExists if the name is taken.  There is no call that opens an existing
  // file for writing: nothing that a manifest names may ever be written over (I6).
  [[nodiscard]] virtual Result<std::unique_ptr<File>> OpenForWrite(const std::string& path) = 0;

  // Regular files only; a symbolic link as the last component is refused.
  [[nodiscard]] virtual Result<std::unique_ptr<File>> OpenForRead(const std::string& path) = 0;

  // Sorted by name.  kCorruption above kMaxFolderEntries.
  [[nodiscard]] virtual Result<std::vector<FolderEntry>> List(const std::string& path) = 0;

  // Of the name itself, not of what a symbolic link points to.
  [[nodiscard]] virtual Result<FileInfo> Stat(const std::string& path) = 0;

  // kAlreadyExists if the name is taken, also by a folder.
  [[nodiscard]] virtual Status CreateFolder(const std::string& path) = 0;

  // Atomic; replaces a file of the name "to".
  [[nodiscard]] virtual Status Rename(const std::string& from, const std::string& to) = 0;

  // A second name for the same file; kAlreadyExists if "to" is taken, whatever it is.  This, not
  // Rename, publishes: of two racing callers exactly one succeeds.
  [[nodiscard]] virtual Status Link(const std::string& from, const std::string& to) = 0;

  // A file's name; kNotFound if there is none.
  [[nodiscard]] virtual Status Unlink(const std::string& path) = 0;

  // An empty folder.
  [[nodiscard]] virtual Status RemoveFolder(const std::string& path) = 0;

  // The names in the folder durable: creations, links, renames and removals.
  [[nodiscard]] virtual Status SyncFolder(const std::string& path) = 0;

  // What a user without privileges can still write.
  [[nodiscard]] virtual Result<ByteCount> FreeSpace(const std::string& path) = 0;

  // Creates "path" exclusively, writes all of "image", gives the file its exact length and syncs
  // its contents.  After an error the file may exist in any state: the caller unlinks it.
  // Here a plain loop of WriteAt, which is what the fakes of the tests use.
  [[nodiscard]] virtual Status WriteImage(const std::string& path,
                                          ByteView image,
                                          const ImageIoOptions& options);

  // Fills "destination" from the start of the file.  kCorruption if the file's size is another.
  // After an error the destination's contents are unspecified, and after kTimeout late reads may
  // still land in it: only keep_alive says when it may be reused.
  [[nodiscard]] virtual Status ReadImage(const std::string& path,
                                         MutableByteView destination,
                                         const ImageIoOptions& options);
};

// A folder of a persistent tier holds ranks, steps or incarnations; more names than this in one is
// damage or an attack, and would be read into memory whole.
inline constexpr std::size_t kMaxFolderEntries = 1'000'000;

// "<folder>/<name>".
[[nodiscard]] std::string JoinPath(std::string_view folder, std::string_view name);

// The part before the last '/'; "/" for a name directly below the root, "." for a bare name.
[[nodiscard]] std::string ParentFolder(std::string_view path);

// True for kNotFound, false for another state of "path"; other errors as they are.
[[nodiscard]] Result<bool> Exists(FileSystem& fs, const std::string& path);

// Ok if the folder exists afterwards, whoever made it.  Does not sync: a racing creator may not
// have synced the name either, so the caller always syncs the parent.
[[nodiscard]] Status CreateFolderIfMissing(FileSystem& fs, const std::string& path);

// Nothing where there is no such folder.
[[nodiscard]] Result<std::vector<FolderEntry>> ListIfPresent(FileSystem& fs,
                                                             const std::string& path);

// Ok if the name does not exist afterwards.
[[nodiscard]] Status UnlinkIfPresent(FileSystem& fs, const std::string& path);

// Removes a folder and all below it, symbolic links as names, never what they point to.  Stops at
// the first error; what is left can be removed by calling again, and what is gone already is fine.
// kCorruption below 16 levels.
[[nodiscard]] Status RemoveTree(FileSystem& fs, const std::string& path);

// The whole of a small file; kCorruption above "limit" bytes, without having read them.
[[nodiscard]] Result<std::string> ReadSmallFile(FileSystem& fs,
                                                const std::string& path,
                                                ByteCount limit);

}  // namespace holdfast::storage_tiers
