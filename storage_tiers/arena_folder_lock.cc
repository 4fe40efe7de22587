#include "storage_tiers/arena_folder_lock.h"

#include <array>
#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string_view>
#include <utility>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

namespace holdfast::storage_tiers {
namespace {

constexpr mode_t kPrivateFolder = 0700;
constexpr mode_t kPrivateFile = 0600;
constexpr mode_t kPermissionBits = 07777;
constexpr mode_t kOthers = 0077;

std::string Octal(mode_t mode) {
  std::string text;
  for (int shift = 9; shift >= 0; shift -= 3) {
    text += static_cast<char>('0' + ((mode >> shift) & 7));
  }
  return text;
}

// What the holder wrote; empty in the moment before it did.
std::string PidIn(int fd) {
  std::array<char, 32> text;
  const ssize_t got = ::pread(fd, text.data(), text.size(), 0);
  const std::string_view read(text.data(), got > 0 ? static_cast<std::size_t>(got) : 0);
  return std::string(read.substr(0, read.find_first_not_of("0123456789")));
}

// What a person has to do; the kernel's own words name neither the folder that is missing nor whose
// rights are.
Error CannotMake(const std::string& path, int error) {
  const std::string parent = path.substr(0, path.rfind('/'));
  if (error == ENOENT || error == ENOTDIR) {
    return Error(
        Errc::kNotFound,
        path + " cannot be made, since there is no folder " + parent +
            ": create that one (for an arena: mount its tmpfs there), or name another path",
        error);
  }
  if (error == EACCES || error == EPERM || error == EROFS) {
    return Error(Errc::kPermission,
                 path + " cannot be made: uid " + std::to_string(::geteuid()) +
                     " may not write to " + parent +
                     (error == EROFS ? ", which is read-only" : "") +
                     ": create it for this user (install -d -m 0700 -o USER " + path +
                     "), or name another path",
                 error);
  }
  return ErrnoError(error, "create " + path);
}

Error InUse(const std::string& what, const std::string& folder, const std::string& pid) {
  return Error(Errc::kAlreadyExists,
               what + " " + folder + " is in use by " +
                   (pid.empty() ? "another process" : "process " + pid) +
                   ": stop that one, or give this one a folder of its own");
}

}  // namespace

Result<FolderLock> FolderLock::Take(int folder_fd,
                                    const std::string& folder,
                                    const std::string& what) {
  const std::string path = folder + "/lock";
  Descriptor file(
      ::openat(folder_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, kPrivateFile));
  if (!file.valid()) {
    return ErrnoError(errno, "open " + path);
  }
  while (::flock(file.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK) {
      return InUse(what, folder, PidIn(file.get()));
    }
    if (errno != EINTR) {
      return ErrnoError(errno, "lock " + path);
    }
  }
  // For the message above only, so failures (a full disk) do not matter.
  const std::string pid = std::to_string(::getpid()) + "\n";
  if (::ftruncate(file.get(), 0) == 0) {
    [[maybe_unused]] const ssize_t written = ::pwrite(file.get(), pid.data(), pid.size(), 0);
  }
  return FolderLock(std::move(file));
}

std::optional<std::int32_t> FolderLock::HolderOf(const std::string& folder) {
  const Descriptor file(
      ::open((folder + "/lock").c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  struct stat status = {};
  if (!file.valid() || ::fstat(file.get(), &status) != 0) {
    return std::nullopt;
  }
  const std::string pid = PidIn(file.get());
  // "1: FLOCK  ADVISORY  WRITE 4242 fe:00:2154546 0 EOF".  The device is not compared: some file
  // systems show another one here than stat does; pid and inode are enough.
  const std::string inode = ":" + std::to_string(status.st_ino);
  std::ifstream locks("/proc/locks");
  for (std::string line; std::getline(locks, line);) {
    std::istringstream words(line);
    std::string number;
    std::string kind;
    std::string mode;
    std::string access;
    std::string holder;
    std::string where;
    words >> number >> kind >> mode >> access >> holder >> where;
    if (kind == "FLOCK" && holder == pid && where.ends_with(inode)) {
      return static_cast<std::int32_t>(std::strtol(pid.c_str(), nullptr, 10));
    }
  }
  return std::nullopt;
}

Result<Descriptor> OpenPrivateFolder(int parent_fd, const std::string& path, bool create) {
  if (create && ::mkdirat(parent_fd, path.c_str(), kPrivateFolder) != 0 && errno != EEXIST) {
    return CannotMake(path, errno);
  }
  Descriptor folder(
      ::openat(parent_fd, path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW));
  if (!folder.valid()) {
    return ErrnoError(errno, "open folder " + path);
  }
  struct stat status = {};
  if (::fstat(folder.get(), &status) != 0) {
    return ErrnoError(errno, "fstat of " + path);
  }
  if (status.st_uid != ::geteuid()) {
    return Error(Errc::kPermission,
                 path + " belongs to uid " + std::to_string(status.st_uid) + ", we run as " +
                     std::to_string(::geteuid()) + ": give it to this user (chown -R " +
                     std::to_string(::geteuid()) + " " + path + "), or run as its owner");
  }
  if ((status.st_mode & kOthers) != 0) {
    return Error(Errc::kPermission,
                 path + " has mode " + Octal(status.st_mode & kPermissionBits) +
                     " and is open to other users: chmod 0700 it");
  }
  return folder;
}

}  // namespace holdfast::storage_tiers
