// What the kernel says of this process: its descriptors and its mappings.
//
// Threads: one at a time.  Without an allocation, so that the forked child of a process with
// threads may ask too.
#pragma once

#include <cstddef>
#include <cstdio>
#include <cstring>

#include <fcntl.h>
#include <unistd.h>

namespace holdfast::client {

// How many descriptors are of files whose name has "name" in it.
inline int DescriptorsOf(const char* name) {
  int count = 0;
  for (int fd = 0; fd < 1024; ++fd) {
    char link[64];
    char target[512];
    std::snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    const ssize_t bytes = ::readlink(link, target, sizeof target - 1);
    target[bytes < 0 ? 0 : bytes] = '\0';
    count += std::strstr(target, name) != nullptr ? 1 : 0;
  }
  return count;
}

// How many mappings are of such files, with these rights ("rw-s"; "": any).
inline int MappingsOf(const char* name, const char* rights = "") {
  static char text[4 << 20];
  const int maps = ::open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
  std::size_t size = 0;
  ssize_t bytes = 0;
  while ((bytes = ::read(maps, text + size, sizeof text - 1 - size)) > 0) {
    size += static_cast<std::size_t>(bytes);
  }
  ::close(maps);
  text[size] = '\0';
  int count = 0;
  char* line = text;
  while (char* const end = std::strchr(line, '\n')) {
    *end = '\0';
    const bool meant = std::strstr(line, name) != nullptr && std::strstr(line, rights) != nullptr;
    count += meant ? 1 : 0;
    line = end + 1;
  }
  return count;
}

}  // namespace holdfast::client
