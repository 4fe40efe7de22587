#include "transport/certificate_files.h"

#include <cerrno>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/random.h"
#include "common/units.h"
#include "transport/owned_fd.h"

namespace holdfast::transport {
namespace {

constexpr std::size_t kMaxPemBytes = kMiB;

Status WriteAll(int fd, std::string_view contents, const std::string& path) {
  while (!contents.empty()) {
    const ssize_t count = ::write(fd, contents.data(), contents.size());
    if (count < 0) {
      if (errno == EINTR) {
        continue;
      }
      return ErrnoError(errno, "write " + path);
    }
    contents.remove_prefix(static_cast<std::size_t>(count));
  }
  if (::fsync(fd) != 0) {
    return ErrnoError(errno, "sync " + path);
  }
  return Ok();
}

Status SyncFolder(const std::string& folder) {
  const OwnedFd fd(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.Valid() || ::fsync(fd.Get()) != 0) {
    return ErrnoError(errno, "sync the folder " + folder);
  }
  return Ok();
}

Status WriteTemporary(const std::string& path, std::string_view contents, mode_t mode) {
  const OwnedFd fd(
      ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode));
  if (!fd.Valid()) {
    return ErrnoError(errno, "create " + path);
  }
  return WriteAll(fd.Get(), contents, path);
}

}  // namespace

Status WriteNewFile(const std::string& folder,
                    const std::string& name,
                    std::string_view contents,
                    bool private_key) {
  const std::string path = folder + "/" + name;
  const std::string temporary = folder + "/.tmp-" + name + "-" + ToHex(AsBytes(RandomUid()));
  Status status = WriteTemporary(temporary, contents, private_key ? 0600 : 0644);
  // link and not rename: a name that is taken stays its owner's.
  if (status.has_value() && ::link(temporary.c_str(), path.c_str()) != 0) {
    status = errno == EEXIST ? Error(Errc::kAlreadyExists,
                                     path +
                                         " exists already and is not replaced; move it away, or "
                                         "use another folder")
                             : ErrnoError(errno, "give " + path + " its name");
  }
  ::unlink(temporary.c_str());
  if (status.has_value()) {
    status = SyncFolder(folder);
  }
  return status;
}

Status MakeFolder(const std::string& folder) {
  if (::mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST) {
    return ErrnoError(errno, "make the folder " + folder);
  }
  return Ok();
}

Result<std::string> ReadPemFile(const std::string& file, bool private_key) {
  const OwnedFd fd(::open(file.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.Valid()) {
    return ErrnoError(errno, "open " + file);
  }

  struct stat info {};

  if (::fstat(fd.Get(), &info) != 0) {
    return ErrnoError(errno, "look at " + file);
  }
  if (!S_ISREG(info.st_mode)) {
    return Error(Errc::kInvalidArgument, file + " is no file");
  }
  if (private_key && (info.st_mode & S_IRWXO) != 0) {
    return Error(Errc::kPermission,
                 "every user of this machine may read the private key " + file + ": chmod 600 it");
  }
  std::string text;
  char buffer[16 * kKiB];
  while (text.size() <= kMaxPemBytes) {
    const ssize_t count = ::read(fd.Get(), buffer, sizeof buffer);
    if (count < 0) {
      if (errno == EINTR) {
        continue;
      }
      return ErrnoError(errno, "read " + file);
    }
    if (count == 0) {
      return text;
    }
    text.append(buffer, static_cast<std::size_t>(count));
  }
  return Error(Errc::kInvalidArgument, file + " is too large to hold keys or certificates");
}

}  // namespace holdfast::transport
