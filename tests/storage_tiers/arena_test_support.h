// Folders in memory and child processes for tests of the arena.
//
// Threads: tests with one thread; a child is forked from it and runs only async-signal-safe calls
//          and what it was given.
#pragma once

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <utility>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/magic.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

namespace holdfast::storage_tiers {

// A forked child that does "work", reports that it is ready, and waits to be ended.
class Child {
 public:
  // Of the parent's descriptors the child keeps only "kept" (and standard streams).
  Child(int kept, const std::function<void()>& work) {
    int ready[2];
    if (::pipe(ready) != 0) {
      ADD_FAILURE() << "pipe";
      return;
    }
    pid_ = ::fork();
    if (pid_ == 0) {
      CloseAllBut(kept, ready[1]);
      work();
      const char byte = 1;
      (void)!::write(ready[1], &byte, 1);
      while (true) {
        ::pause();
      }
    }
    ::close(ready[1]);
    char byte = 0;
    EXPECT_EQ(::read(ready[0], &byte, 1), 1) << "the child died early";
    ::close(ready[0]);
  }

  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  ~Child() { Kill(); }

  [[nodiscard]] pid_t pid() const { return pid_; }

  void Kill() {
    if (pid_ > 0) {
      ::kill(pid_, SIGKILL);
      ::waitpid(pid_, nullptr, 0);
      pid_ = -1;
    }
  }

 private:
  static void CloseAllBut(int first, int second) {
    for (int fd = 3; fd < 1024; ++fd) {
      if (fd != first && fd != second) {
        ::close(fd);
      }
    }
  }

  pid_t pid_ = -1;
};

// Runs "body" in a child that has a tmpfs of "bytes" mounted at the path that body gets.  Returns
// false where mounts are not allowed; failures in body fail the test.
inline bool RunInSmallTmpfs(std::size_t bytes,
                            const std::function<void(const std::string&)>& body) {
  constexpr int kNotAllowed = 77;
  const std::string mount_point = ::testing::TempDir() + "/small-tmpfs";
  std::filesystem::create_directories(mount_point);
  const auto uid = std::to_string(::geteuid());
  const pid_t pid = ::fork();
  if (pid == 0) {
    bool mounted = ::unshare(CLONE_NEWNS) == 0;
    if (!mounted && ::unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0) {
      std::ofstream("/proc/self/uid_map") << "0 " << uid << " 1\n";
      mounted = ::geteuid() == 0;
    }
    mounted = mounted && ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0;
    mounted =
        mounted &&
        ::mount(
            "none", mount_point.c_str(), "tmpfs", 0, ("size=" + std::to_string(bytes)).c_str()) ==
            0;
    if (!mounted) {
      ::_exit(kNotAllowed);
    }
    body(mount_point);
    ::_exit(::testing::Test::HasFailure() ? 1 : 0);
  }
  int status = 0;
  EXPECT_EQ(::waitpid(pid, &status, 0), pid);
  if (WIFEXITED(status) && WEXITSTATUS(status) == kNotAllowed) {
    return false;
  }
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << "status " << status;
  return true;
}

inline void WriteFile(const std::string& path, const std::string& text) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << text;
}

}  // namespace holdfast::storage_tiers
