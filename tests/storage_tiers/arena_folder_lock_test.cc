#include "storage_tiers/arena_folder_lock.h"

#include <filesystem>
#include <fstream>
#include <string>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/temp_folder.h"

namespace holdfast::storage_tiers {
namespace {

namespace fs = std::filesystem;

class ArenaFolderLockTest : public ::testing::Test {
 protected:
  ArenaFolderLockTest() {
    fd_ = Descriptor(::open(folder_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  }

  Result<FolderLock> Take() const { return FolderLock::Take(fd_.get(), folder_, "the arena"); }

  // In a process of its own.
  bool OtherProcessGetsIt() const {
    const pid_t child = ::fork();
    if (child == 0) {
      ::_exit(Take().has_value() ? 0 : 1);
    }
    int status = 0;
    EXPECT_EQ(::waitpid(child, &status, 0), child);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
  }

  TempFolder temp_{TempFolder::Where::kTestTmpdir};
  const std::string folder_ = temp_.path();
  Descriptor fd_;
};

// Two daemons on one arena would hand out each other's slots.
TEST_F(ArenaFolderLockTest, ASecondProcessIsToldWhoHoldsIt) {
  const auto held = Take();
  ASSERT_TRUE(held.has_value()) << held.error().ToString();
  EXPECT_FALSE(OtherProcessGetsIt());
  const auto second = Take();
  ASSERT_FALSE(second.has_value());
  EXPECT_EQ(second.error().code, Errc::kAlreadyExists);
  EXPECT_NE(second.error().message.find(std::to_string(::getpid())), std::string::npos);
}

TEST_F(ArenaFolderLockTest, TheLockEndsWithItsHolderThoughTheFileStays) {
  { ASSERT_TRUE(Take().has_value()); }
  EXPECT_TRUE(fs::exists(folder_ + "/lock"));
  EXPECT_TRUE(OtherProcessGetsIt());
  EXPECT_TRUE(Take().has_value()) << "the other process has ended";
}

TEST_F(ArenaFolderLockTest, WhatALockFileSaysIsNoReasonToRefuse) {
  std::ofstream(folder_ + "/lock") << "4294967296 and more text than a number has\n";
  EXPECT_TRUE(Take().has_value());
}

TEST_F(ArenaFolderLockTest, ALinkInPlaceOfTheLockIsNotFollowed) {
  std::ofstream(folder_ + "/precious") << "bytes";
  fs::create_symlink(folder_ + "/precious", folder_ + "/lock");
  EXPECT_FALSE(Take().has_value());
  EXPECT_EQ(fs::file_size(folder_ + "/precious"), 5U);
}

TEST_F(ArenaFolderLockTest, OnlyAPrivateFolderIsOpened) {
  const std::string path = folder_ + "/private";
  EXPECT_FALSE(OpenPrivateFolder(AT_FDCWD, path, false).has_value());
  EXPECT_TRUE(OpenPrivateFolder(AT_FDCWD, path, true).has_value());
  EXPECT_EQ(fs::status(path).permissions(), fs::perms::owner_all);
  fs::permissions(path, fs::perms::owner_all | fs::perms::group_read);
  const auto open_to_group = OpenPrivateFolder(AT_FDCWD, path, true);
  ASSERT_FALSE(open_to_group.has_value());
  EXPECT_EQ(open_to_group.error().code, Errc::kPermission);
  EXPECT_NE(open_to_group.error().message.find("0740"), std::string::npos)
      << open_to_group.error().message;
  fs::permissions(path, fs::perms::owner_all);
  fs::create_directory_symlink(path, folder_ + "/link");
  EXPECT_FALSE(OpenPrivateFolder(AT_FDCWD, folder_ + "/link", true).has_value());
  EXPECT_FALSE(OpenPrivateFolder(AT_FDCWD, folder_ + "/no/parent", true).has_value());
}

}  // namespace
}  // namespace holdfast::storage_tiers
