#include "tests/support/temp_folder.h"

#include <chrono>
#include <filesystem>
#include <system_error>
#include <thread>

#include <gtest/gtest.h>
#include <linux/magic.h>
#include <sys/vfs.h>
#include <unistd.h>

namespace holdfast {
namespace {

std::string Parent(TempFolder::Where where) {
  struct statfs status = {};
  const bool tmpfs = ::statfs("/dev/shm", &status) == 0 && status.f_type == TMPFS_MAGIC &&
                     ::access("/dev/shm", W_OK) == 0;
  if (where == TempFolder::Where::kMemory && tmpfs) {
    return "/dev/shm";
  }
  return where == TempFolder::Where::kShort
             ? "/tmp"
             : std::filesystem::canonical(::testing::TempDir()).string();
}

}  // namespace

TempFolder::TempFolder(Where where) : path_(Parent(where) + "/hftest-XXXXXX") {
  if (::mkdtemp(path_.data()) == nullptr) {
    ADD_FAILURE() << "mkdtemp " << path_;
  }
}

TempFolder::~TempFolder() {
  // What a test left hanging on purpose may still be making its last file.
  std::error_code error;
  for (int tries = 0; tries < 100; ++tries) {
    if (std::filesystem::remove_all(path_, error); !error) {
      return;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  ADD_FAILURE() << "remove " << path_ << ": " << error.message();
}

}  // namespace holdfast
