#include <array>
#include <cerrno>
#include <charconv>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "storage_tiers/slot_file_quarantine.h"

namespace holdfast::storage_tiers {
namespace {

enum class Finding { kNotHere, kHere, kHidden };

bool IsNumber(std::string_view text) {
  return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
}

// Names in a folder; the errno if it cannot be read.
Result<std::vector<std::string>> List(const std::string& path) {
  const std::unique_ptr<DIR, int (*)(DIR*)> folder(::opendir(path.c_str()), ::closedir);
  if (!folder) {
    return ErrnoError(errno, "open " + path);
  }
  std::vector<std::string> names;
  errno = 0;
  // NOLINTNEXTLINE(concurrency-mt-unsafe): the stream is this function's own
  while (const dirent* entry = ::readdir(folder.get())) {
    names.emplace_back(entry->d_name);
    errno = 0;
  }
  if (errno != 0) {
    return ErrnoError(errno, "read " + path);
  }
  return names;
}

Result<std::string> ReadAll(const std::string& path) {
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.valid()) {
    return ErrnoError(errno, "open " + path);
  }
  std::string text;
  std::array<char, 64 * kKiB> buffer;
  while (true) {
    const ssize_t got = ::read(file.get(), buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) {
      continue;
    }
    if (got < 0) {
      return ErrnoError(errno, "read " + path);
    }
    if (got == 0) {
      return text;
    }
    text.append(buffer.data(), static_cast<std::size_t>(got));
  }
}

std::string_view NextWord(std::string_view* line) {
  const std::size_t start = std::min(line->find_first_not_of(' '), line->size());
  line->remove_prefix(start);
  const std::string_view word = line->substr(0, line->find(' '));
  line->remove_prefix(word.size());
  return word;
}

// A line is "7f00-7f10 rw-s 00000000 00:19 1234  /path": device in hexadecimal, inode in decimal.
bool MapsLineNames(std::string_view line, FileIdentity file) {
  for (int skipped = 0; skipped < 3; ++skipped) {
    (void)NextWord(&line);
  }
  const std::string_view device = NextWord(&line);
  const std::string_view inode = NextWord(&line);
  const std::size_t colon = device.find(':');
  if (colon == std::string_view::npos) {
    return false;
  }
  unsigned device_major = 0;
  unsigned device_minor = 0;
  ino_t number = 0;
  std::from_chars(device.data(), device.data() + colon, device_major, 16);
  std::from_chars(device.data() + colon + 1, device.data() + device.size(), device_minor, 16);
  std::from_chars(inode.data(), inode.data() + inode.size(), number);
  return number == file.inode && ::makedev(device_major, device_minor) == file.device;
}

// A process that ended while we looked holds nothing.
Finding FindingOf(const Error& error) {
  const bool gone = error.sys_errno == ENOENT || error.sys_errno == ESRCH;
  return gone ? Finding::kNotHere : Finding::kHidden;
}

Finding FindMapping(const std::string& process, FileIdentity file) {
  const Result<std::string> maps = ReadAll(process + "/maps");
  if (!maps) {
    return FindingOf(maps.error());
  }
  std::string_view rest = maps.value();
  while (!rest.empty()) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    if (MapsLineNames(line, file)) {
      return Finding::kHere;
    }
    rest.remove_prefix(std::min(line.size() + 1, rest.size()));
  }
  return Finding::kNotHere;
}

// "except": a descriptor that is not counted, or empty.
Finding FindDescriptor(const std::string& process, FileIdentity file, std::string_view except) {
  const Result<std::vector<std::string>> names = List(process + "/fd");
  if (!names) {
    return FindingOf(names.error());
  }
  std::string path = process + "/fd/";
  const std::size_t folder_length = path.size();
  for (const std::string& name : names.value()) {
    struct stat status = {};
    path.resize(folder_length);
    path += name;
    if (!IsNumber(name) || name == except || ::stat(path.c_str(), &status) != 0) {
      continue;
    }
    if (FileIdentity{status.st_dev, status.st_ino} == file) {
      return Finding::kHere;
    }
  }
  return Finding::kNotHere;
}

// Only the initial PID namespace sees every process; its inode number is a constant of the kernel.
bool SeesAllProcesses(const std::string& proc) {
  constexpr std::string_view kInitialNamespace = "pid:[4026531836]";
  std::array<char, 64> target;
  const ssize_t length = ::readlink((proc + "/self/ns/pid").c_str(), target.data(), target.size());
  return length > 0 &&
         std::string_view(target.data(), static_cast<std::size_t>(length)) == kInitialNamespace;
}

}  // namespace

Result<bool> FindInProc(const std::string& proc, FileIdentity file, int own_fd) {
  HF_TRY(const std::vector<std::string> names, List(proc));
  const std::string own_pid = std::to_string(::getpid());
  const std::string own_fd_name = std::to_string(own_fd);
  bool hidden_strangers = !SeesAllProcesses(proc);
  std::string process = proc + "/";
  const std::size_t folder_length = process.size();
  for (const std::string& name : names) {
    if (!IsNumber(name)) {
      continue;
    }
    process.resize(folder_length);
    process += name;
    const Finding mapping = FindMapping(process, file);
    const Finding descriptor =
        FindDescriptor(process, file, name == own_pid ? own_fd_name : std::string_view());
    if (mapping == Finding::kHere || descriptor == Finding::kHere) {
      return true;
    }
    if (mapping == Finding::kHidden || descriptor == Finding::kHidden) {
      struct stat status = {};
      if (::stat(process.c_str(), &status) == 0 && status.st_uid == ::geteuid()) {
        return true;
      }
      hidden_strangers = true;
    }
  }
  if (hidden_strangers) {
    return Error(Errc::kUnavailable,
                 "cannot tell whether a slot file is still mapped: its file system grants no "
                 "leases and not all processes can be seen; put the arena on tmpfs");
  }
  return false;
}

}  // namespace holdfast::storage_tiers
