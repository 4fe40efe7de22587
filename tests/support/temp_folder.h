// A fresh folder for one test, removed with the object.
//
// Threads: the test's.
#pragma once

#include <string>

namespace holdfast {

class TempFolder {
 public:
  enum class Where {
    kMemory,      // tmpfs, as arenas want it; TEST_TMPDIR where /dev/shm is none
    kTestTmpdir,  // of Bazel, which removes it where a death test's program cannot
    kShort,       // /tmp: a socket's path has at most 107 bytes
  };

  explicit TempFolder(Where where = Where::kMemory);
  ~TempFolder();

  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;

  // Without links in it.
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace holdfast
