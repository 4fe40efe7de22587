// The fakes must lose what a disk may lose, or the tests built on them prove nothing.
#include <cerrno>
#include <set>
#include <string>

#include <gtest/gtest.h>

#include "storage_tiers/posix_file_system.h"
#include "tests/support/fault_file_system.h"
#include "tests/support/power_cut_file_system.h"

namespace holdfast::testing {
namespace {

using storage_tiers::Exists;
using storage_tiers::ReadSmallFile;

constexpr std::uint64_t kNothing = PowerCutFileSystem::kNothingUnsyncedSurvives;
constexpr std::uint64_t kEverything = PowerCutFileSystem::kEverythingSurvives;

class PowerCutFileSystemTest : public ::testing::Test {
 protected:
  std::unique_ptr<storage_tiers::File> Create(const std::string& path, std::string_view text) {
    auto file = fs_.OpenForWrite(path);
    EXPECT_TRUE(file);
    EXPECT_TRUE(file.value()->WriteAt(0, AsBytes(text)));
    return std::move(file).value();
  }

  void CreateDurable(const std::string& path, std::string_view text) {
    ASSERT_TRUE(Create(path, text)->Sync());
    ASSERT_TRUE(fs_.SyncFolder("/"));
  }

  PowerCutFileSystem fs_;
};

TEST_F(PowerCutFileSystemTest, ASyncedFileWithoutASyncedNameIsGone) {
  ASSERT_TRUE(Create("/a", "x")->Sync());

  fs_.Restore(kNothing);

  EXPECT_FALSE(Exists(fs_, "/a").value());
}

TEST_F(PowerCutFileSystemTest, ASyncedNameOfAnUnsyncedFileIsEmpty) {
  Create("/a", "x");
  ASSERT_TRUE(fs_.SyncFolder("/"));

  fs_.Restore(kNothing);

  EXPECT_EQ(ReadSmallFile(fs_, "/a", 10).value(), "");
}

TEST_F(PowerCutFileSystemTest, WhatWasSyncedStays) {
  CreateDurable("/a", "x");

  fs_.Restore(kNothing);

  EXPECT_EQ(ReadSmallFile(fs_, "/a", 10).value(), "x");
}

TEST_F(PowerCutFileSystemTest, UnsyncedRenamesLinksAndRemovalsAreUndone) {
  CreateDurable("/a", "a");
  CreateDurable("/b", "b");
  CreateDurable("/c", "c");
  ASSERT_TRUE(fs_.Rename("/a", "/b"));
  ASSERT_TRUE(fs_.Link("/c", "/d"));
  ASSERT_TRUE(fs_.Unlink("/c"));

  fs_.Restore(kNothing);

  EXPECT_EQ(ReadSmallFile(fs_, "/a", 10).value(), "a");
  EXPECT_EQ(ReadSmallFile(fs_, "/b", 10).value(), "b");
  EXPECT_EQ(ReadSmallFile(fs_, "/c", 10).value(), "c");
  EXPECT_FALSE(Exists(fs_, "/d").value());
}

TEST_F(PowerCutFileSystemTest, EverythingMaySurvive) {
  Create("/a", "x");
  ASSERT_TRUE(fs_.Rename("/a", "/b"));

  fs_.Restore(kEverything);

  EXPECT_EQ(ReadSmallFile(fs_, "/b", 10).value(), "x");
}

TEST_F(PowerCutFileSystemTest, SectorsOfAWriteSurviveOneByOne) {
  const std::string old(4096, 'o');
  std::set<std::string> outcomes;
  for (std::uint64_t seed = 2; seed < 20; ++seed) {
    const std::string path = "/f" + std::to_string(seed);
    CreateDurable(path, old);
    auto file = fs_.OpenForWrite(path + "x");
    ASSERT_TRUE(file);
    ASSERT_TRUE(file.value()->Truncate(4096));
    ASSERT_TRUE(file.value()->Sync());
    ASSERT_TRUE(fs_.SyncFolder("/"));
    ASSERT_TRUE(file.value()->WriteAt(0, AsBytes(old)));
    fs_.Restore(seed);
    outcomes.insert(ReadSmallFile(fs_, path + "x", 4096).value());
  }

  EXPECT_GT(outcomes.size(), 5u);
}

TEST_F(PowerCutFileSystemTest, AfterTheCutEveryCallFailsUntilTheNextStart) {
  fs_.CutAfter(1);
  auto file = fs_.OpenForWrite("/a");
  ASSERT_TRUE(file);

  EXPECT_EQ(file.value()->WriteAt(0, AsBytes("x")).error().sys_errno, EIO);
  EXPECT_TRUE(fs_.power_is_off());
  EXPECT_FALSE(fs_.Stat("/"));
  fs_.Restore(kNothing);
  EXPECT_TRUE(fs_.Stat("/"));
  EXPECT_FALSE(file.value()->Sync()) << "a file of the time before the cut";
}

TEST(FaultFileSystemTest, FailsTheChosenCallOnly) {
  PowerCutFileSystem base;
  FaultFileSystem fs(base);
  fs.FailCall(2, ENOSPC);

  EXPECT_TRUE(fs.CreateFolder("/a"));
  EXPECT_EQ(fs.CreateFolder("/b").error().code, Errc::kNoSpace);
  EXPECT_TRUE(fs.CreateFolder("/c"));
  EXPECT_FALSE(Exists(base, "/b").value());
}

TEST(FaultFileSystemTest, AShortenedWriteLeavesHalf) {
  PowerCutFileSystem base;
  FaultFileSystem fs(base);
  fs.ShortenMatching([](const FileSystemCall& call) { return call.operation == "WriteAt"; },
                     ENOSPC);
  auto file = fs.OpenForWrite("/a");
  ASSERT_TRUE(file);

  EXPECT_EQ(file.value()->WriteAt(0, AsBytes("12345678")).error().code, Errc::kNoSpace);

  EXPECT_EQ(ReadSmallFile(base, "/a", 10).value(), "1234");
}

}  // namespace
}  // namespace holdfast::testing
