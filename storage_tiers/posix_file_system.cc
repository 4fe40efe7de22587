#include "storage_tiers/posix_file_system.h"

#include <algorithm>
#include <cerrno>
#include <limits>
#include <optional>
#include <utility>

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "common/log.h"
#include "storage_tiers/file_system_transfer.h"
#include "storage_tiers/uring_descriptor.h"
#include "storage_tiers/uring_io.h"
#include "storage_tiers/uring_queue.h"

namespace holdfast::storage_tiers {

namespace {

// Linux never moves more in one call; asking for more would only invite a short count.
constexpr ByteCount kMaxCallBytes = 1 * kGiB;

// System calls that a signal interrupted before they did anything are simply made again.
template <class Call>
auto Retry(Call call) {
  while (true) {
    const auto value = call();
    if (value != -1 || errno != EINTR) {
      return value;
    }
  }
}

Status FromCall(int value, const char* call, const std::string& path) {
  if (value == -1) {
    return ErrnoError(errno, std::string(call) + " " + path);
  }
  return Ok();
}

FileKind KindOfMode(mode_t mode) {
  if (S_ISREG(mode)) {
    return FileKind::kFile;
  }
  return S_ISDIR(mode) ? FileKind::kFolder : FileKind::kOther;
}

Status CheckOffsets(const std::string& path, ByteCount offset, ByteCount length) {
  const ByteCount limit = std::numeric_limits<off_t>::max();
  if (offset > limit || length > limit - offset) {
    return Error(Errc::kInvalidArgument, path + ": range ends beyond the largest file offset");
  }
  return Ok();
}

Result<Descriptor> OpenDescriptor(const std::string& path, int flags, mode_t mode) {
  Descriptor fd(Retry([&] { return ::open(path.c_str(), flags | O_CLOEXEC | O_NOFOLLOW, mode); }));
  if (!fd.valid()) {
    return ErrnoError(errno, "open " + path);
  }
  return fd;
}

Result<FileInfo> StatDescriptor(const Descriptor& fd, const std::string& path) {
  struct stat st = {};
  HF_TRYV(FromCall(::fstat(fd.get(), &st), "fstat", path));
  return FileInfo{KindOfMode(st.st_mode), static_cast<ByteCount>(st.st_size)};
}

Status PreallocateDescriptor(const Descriptor& fd, const std::string& path, ByteCount size) {
  HF_TRYV(CheckOffsets(path, 0, size));
  if (size == 0) {
    return Ok();
  }
  const int value = Retry([&] { return ::fallocate(fd.get(), 0, 0, static_cast<off_t>(size)); });
  if (value == -1 && (errno == EOPNOTSUPP || errno == ENOSYS)) {
    return Ok();
  }
  return FromCall(value, "fallocate", path);
}

class PosixFile final : public File {
 public:
  PosixFile(Descriptor fd, std::string path) : fd_(std::move(fd)), path_(std::move(path)) {}

  Status WriteAt(ByteCount offset, ByteView bytes) override {
    HF_TRYV(CheckOffsets(path_, offset, bytes.size()));
    const TransferOutcome outcome =
        TransferFully(bytes.size(), [&](ByteCount done, ByteCount rest) {
          return ::pwrite(fd_.get(),
                          bytes.data() + done,
                          std::min(rest, kMaxCallBytes),
                          static_cast<off_t>(offset + done));
        });
    if (outcome.error_number != 0) {
      return ErrnoError(outcome.error_number, "write " + path_);
    }
    if (outcome.done != bytes.size()) {
      return ErrnoError(EIO, "write " + path_ + " accepted no more bytes");
    }
    return Ok();
  }

  Status ReadAt(ByteCount offset, MutableByteView out) override {
    HF_TRYV(CheckOffsets(path_, offset, out.size()));
    const TransferOutcome outcome = TransferFully(out.size(), [&](ByteCount done, ByteCount rest) {
      return ::pread(fd_.get(),
                     out.data() + done,
                     std::min(rest, kMaxCallBytes),
                     static_cast<off_t>(offset + done));
    });
    if (outcome.error_number != 0) {
      return ErrnoError(outcome.error_number, "read " + path_);
    }
    if (outcome.done != out.size()) {
      return Error(Errc::kCorruption,
                   path_ + ": ends after " + std::to_string(offset + outcome.done) + " bytes, " +
                       std::to_string(offset + out.size()) + " expected");
    }
    return Ok();
  }

  Status Preallocate(ByteCount size) override { return PreallocateDescriptor(fd_, path_, size); }

  Status Truncate(ByteCount size) override {
    HF_TRYV(CheckOffsets(path_, 0, size));
    return FromCall(Retry([&] { return ::ftruncate(fd_.get(), static_cast<off_t>(size)); }),
                    "ftruncate",
                    path_);
  }

  Status Sync() override {
    // Not retried after EINTR: what an interrupted fsync has reported and forgotten is unknown.
    return FromCall(::fsync(fd_.get()), "fsync", path_);
  }

  Result<ByteCount> Size() override {
    HF_TRY(const FileInfo info, StatDescriptor(fd_, path_));
    return info.size_bytes;
  }

 private:
  const Descriptor fd_;
  const std::string path_;
};

Result<Descriptor> OpenRegular(const std::string& path, int extra_flags) {
  // O_NONBLOCK: a FIFO under the name must not hang the open; it means nothing for a regular file.
  HF_TRY(Descriptor fd, OpenDescriptor(path, O_RDONLY | O_NONBLOCK | extra_flags, 0));
  HF_TRY(const FileInfo info, StatDescriptor(fd, path));
  if (info.kind != FileKind::kFile) {
    return Error(Errc::kCorruption, path + ": is not a regular file");
  }
  return fd;
}

// nullopt: removed meanwhile, by another node perhaps.
Result<std::optional<FileKind>> KindOfEntry(int folder_fd,
                                            const dirent& entry,
                                            const std::string& folder) {
  // The folder itself says it on most file systems, which saves a call for each name.
  switch (entry.d_type) {
    case DT_REG:
      return std::optional(FileKind::kFile);
    case DT_DIR:
      return std::optional(FileKind::kFolder);
    case DT_UNKNOWN:
      break;
    default:
      return std::optional(FileKind::kOther);
  }
  struct stat st = {};
  if (::fstatat(folder_fd, entry.d_name, &st, AT_SYMLINK_NOFOLLOW) == -1) {
    if (errno == ENOENT) {
      return std::optional<FileKind>();
    }
    return ErrnoError(errno, "stat " + JoinPath(folder, entry.d_name));
  }
  return std::optional(KindOfMode(st.st_mode));
}

struct CloseFolder {
  void operator()(DIR* folder) const { ::closedir(folder); }
};

void SayOnce(std::atomic<bool>& said, const std::string& what) {
  if (!said.exchange(true)) {
    LogInfo("file_system.fallback", what);
  }
}

bool PageAligned(const void* memory) {
  return reinterpret_cast<std::uintptr_t>(memory) % kDirectAlignment == 0;
}

// O_DIRECT where it is wanted and possible; *direct says what came out.
Result<Descriptor> OpenForImage(const std::string& path, int flags, mode_t mode, bool* direct) {
  if (*direct) {
    Result<Descriptor> fd = OpenDescriptor(path, flags | O_DIRECT, mode);
    if (fd || fd.error().sys_errno != EINVAL) {
      return fd;
    }
    *direct = false;
    // open(2) may have created the file before the file system refused the flag.
    if ((flags & O_CREAT) != 0 && ::unlink(path.c_str()) == -1 && errno != ENOENT) {
      return ErrnoError(errno, "unlink " + path);
    }
  }
  return OpenDescriptor(path, flags, mode);
}

Result<std::unique_ptr<IoQueue>> OpenQueue(const PosixFileSystemOptions& options,
                                           const ImageIoOptions& io,
                                           std::atomic<bool>& said) {
  if (options.allow_uring) {
    Result<std::unique_ptr<IoQueue>> ring = OpenUringQueue(io.blocks_in_flight);
    if (ring) {
      return ring;
    }
    SayOnce(said, "io_uring is not available, using pread and pwrite: " + ring.error().message);
  }
  return MakeBlockingQueue();
}

}  // namespace

PosixFileSystem::PosixFileSystem(const PosixFileSystemOptions& options) : options_(options) {}

Result<std::unique_ptr<File>> PosixFileSystem::OpenForWrite(const std::string& path) {
  HF_TRY(Descriptor fd, OpenDescriptor(path, O_RDWR | O_CREAT | O_EXCL, options_.file_mode));
  return std::make_unique<PosixFile>(std::move(fd), path);
}

Result<std::unique_ptr<File>> PosixFileSystem::OpenForRead(const std::string& path) {
  HF_TRY(Descriptor fd, OpenRegular(path, 0));
  return std::make_unique<PosixFile>(std::move(fd), path);
}

Result<std::vector<FolderEntry>> PosixFileSystem::List(const std::string& path) {
  HF_TRY(Descriptor fd, OpenDescriptor(path, O_RDONLY | O_DIRECTORY, 0));
  const std::unique_ptr<DIR, CloseFolder> folder(::fdopendir(fd.get()));
  if (folder == nullptr) {
    return ErrnoError(errno, "open folder " + path);
  }
  const int folder_fd = fd.Release();
  std::vector<FolderEntry> entries;
  while (true) {
    errno = 0;
    // NOLINTNEXTLINE(concurrency-mt-unsafe): the stream is this function's own
    const dirent* entry = ::readdir(folder.get());
    if (entry == nullptr) {
      if (errno != 0) {
        return ErrnoError(errno, "read folder " + path);
      }
      break;
    }
    const std::string_view name = entry->d_name;
    if (name == "." || name == "..") {
      continue;
    }
    if (entries.size() == kMaxFolderEntries) {
      return Error(Errc::kCorruption, path + ": has more names than Holdfast could have made");
    }
    HF_TRY(const std::optional<FileKind> kind, KindOfEntry(folder_fd, *entry, path));
    if (kind) {
      entries.push_back({std::string(name), *kind});
    }
  }
  std::sort(entries.begin(), entries.end(), [](const FolderEntry& a, const FolderEntry& b) {
    return a.name < b.name;
  });
  return entries;
}

Result<FileInfo> PosixFileSystem::Stat(const std::string& path) {
  struct stat st = {};
  HF_TRYV(FromCall(Retry([&] { return ::lstat(path.c_str(), &st); }), "stat", path));
  return FileInfo{KindOfMode(st.st_mode), static_cast<ByteCount>(st.st_size)};
}

Status PosixFileSystem::CreateFolder(const std::string& path) {
  return FromCall(::mkdir(path.c_str(), options_.folder_mode), "mkdir", path);
}

Status PosixFileSystem::Rename(const std::string& from, const std::string& to) {
  return FromCall(::rename(from.c_str(), to.c_str()), "rename", from + " to " + to);
}

Status PosixFileSystem::Link(const std::string& from, const std::string& to) {
  const int value = ::link(from.c_str(), to.c_str());
  if (value == -1 && (errno == EPERM || errno == EOPNOTSUPP || errno == ENOSYS)) {
    return Error(Errc::kPermission,
                 "link " + from + " to " + to +
                     ": this file system has no hard links, which publishing needs; put the tier "
                     "on one that has them",
                 errno);
  }
  return FromCall(value, "link", from + " to " + to);
}

Status PosixFileSystem::Unlink(const std::string& path) {
  return FromCall(::unlink(path.c_str()), "unlink", path);
}

Status PosixFileSystem::RemoveFolder(const std::string& path) {
  return FromCall(::rmdir(path.c_str()), "rmdir", path);
}

Status PosixFileSystem::SyncFolder(const std::string& path) {
  HF_TRY(const Descriptor fd, OpenDescriptor(path, O_RDONLY | O_DIRECTORY, 0));
  return FromCall(::fsync(fd.get()), "fsync folder", path);
}

Result<ByteCount> PosixFileSystem::FreeSpace(const std::string& path) {
  struct statvfs st = {};
  HF_TRYV(FromCall(Retry([&] { return ::statvfs(path.c_str(), &st); }), "statvfs", path));
  const ByteCount unit = st.f_frsize != 0 ? st.f_frsize : st.f_bsize;
  const ByteCount blocks = st.f_bavail;
  if (unit != 0 && blocks > std::numeric_limits<ByteCount>::max() / unit) {
    return std::numeric_limits<ByteCount>::max();
  }
  return blocks * unit;
}

Status PosixFileSystem::WriteImage(const std::string& path,
                                   ByteView image,
                                   const ImageIoOptions& options) {
  HF_TRYV(ValidateImageIoOptions(options));
  HF_TRYV(CheckOffsets(path, 0, AlignUp(image.size(), kDirectAlignment)));
  HF_TRY(auto queue, OpenQueue(options_, options, said_no_uring_));
  const bool want_direct = options_.allow_direct && PageAligned(image.data());
  bool direct = want_direct;
  HF_TRY(Descriptor fd, OpenForImage(path, O_RDWR | O_CREAT | O_EXCL, options_.file_mode, &direct));
  HF_TRYV(PreallocateDescriptor(fd, path, image.size()));
  ImageTransfer transfer{std::move(queue), std::move(fd), path, direct};
  Status written = WriteImageThrough(transfer, image, options);
  if (want_direct && !transfer.direct) {
    SayOnce(said_no_direct_, path + ": the file system refuses O_DIRECT, using the page cache");
  }
  return written;
}

Status PosixFileSystem::ReadImage(const std::string& path,
                                  MutableByteView destination,
                                  const ImageIoOptions& options) {
  HF_TRYV(ValidateImageIoOptions(options));
  HF_TRYV(CheckOffsets(path, 0, AlignUp(destination.size(), kDirectAlignment)));
  HF_TRY(auto queue, OpenQueue(options_, options, said_no_uring_));
  const bool want_direct = options_.allow_direct && PageAligned(destination.data());
  bool direct = want_direct;
  HF_TRY(Descriptor fd, OpenForImage(path, O_RDONLY | O_NONBLOCK, 0, &direct));
  HF_TRY(const FileInfo info, StatDescriptor(fd, path));
  if (info.kind != FileKind::kFile || info.size_bytes != destination.size()) {
    return Error(Errc::kCorruption,
                 path + ": has " + std::to_string(info.size_bytes) + " bytes, " +
                     std::to_string(destination.size()) + " expected");
  }
  ImageTransfer transfer{std::move(queue), std::move(fd), path, direct};
  Status read = ReadImageThrough(transfer, destination, options);
  if (want_direct && !transfer.direct) {
    SayOnce(said_no_direct_, path + ": the file system refuses O_DIRECT, using the page cache");
  }
  return read;
}

}  // namespace holdfast::storage_tiers
