#include <atomic>
#include <cerrno>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "storage_tiers/atomic_publish.h"
#include "storage_tiers/posix_file_system.h"
#include "tests/support/fault_file_system.h"
#include "tests/support/power_cut_file_system.h"
#include "tests/support/temp_folder.h"

namespace holdfast::storage_tiers {
namespace {

using ::holdfast::testing::FaultFileSystem;
using ::holdfast::testing::FileSystemCall;
using ::holdfast::testing::PowerCutFileSystem;

std::string ContentOf(FileSystem& fs, const std::string& path) {
  const auto text = ReadSmallFile(fs, path, 1000);
  return text ? text.value() : "<" + text.error().ToString() + ">";
}

TEST(PublishTest, AnExistingNameKeepsItsContents) {
  PowerCutFileSystem fs;
  ASSERT_TRUE(PublishExclusive(fs, "/", "a", "first"));

  EXPECT_EQ(PublishExclusive(fs, "/", "a", "second").error().code, Errc::kAlreadyExists);
  EXPECT_EQ(PublishExclusive(fs, "/", "a", "other").error().code, Errc::kAlreadyExists);

  EXPECT_EQ(ContentOf(fs, "/a"), "first");
  EXPECT_EQ(fs.List("/").value().size(), 1u) << "temporary files stayed behind";
}

TEST(PublishTest, TheSameContentsAgainIsSuccessAndDurable) {
  PowerCutFileSystem fs;
  FaultFileSystem faulty(fs);
  faulty.FailMatching([](const FileSystemCall& call) { return call.operation == "SyncFolder"; },
                      EIO);
  ASSERT_FALSE(PublishExclusive(faulty, "/", "a", "x"));  // linked, not synced

  ASSERT_TRUE(PublishExclusive(fs, "/", "a", "x"));
  fs.Restore(PowerCutFileSystem::kNothingUnsyncedSurvives);

  EXPECT_EQ(ContentOf(fs, "/a"), "x");
}

// After a power cut at any step: nothing, or all of it; after Ok: all of it.
TEST(PublishTest, APowerCutAtAnyStepLeavesAllOrNothing) {
  for (std::uint64_t seed = 0; seed < 30; ++seed) {
    bool done = false;
    for (std::uint64_t cut = 0; !done; ++cut) {
      PowerCutFileSystem fs;
      fs.CutAfter(cut);
      done = PublishExclusive(fs, "/", "a", "contents").has_value();
      fs.Restore(seed);
      const auto text = ReadSmallFile(fs, "/a", 100);
      if (text || done) {
        ASSERT_EQ(ContentOf(fs, "/a"), "contents") << "seed " << seed << " cut " << cut;
      }
      ASSERT_TRUE(PublishExclusive(fs, "/", "a", "contents"));
    }
  }
}

TEST(PublishTest, APowerCutWhileReplacingLeavesTheOldOrTheNew) {
  for (std::uint64_t seed = 0; seed < 30; ++seed) {
    bool done = false;
    for (std::uint64_t cut = 0; !done; ++cut) {
      PowerCutFileSystem fs;
      ASSERT_TRUE(ReplaceAtomically(fs, "/", "a", "old"));
      fs.CutAfter(cut);
      done = ReplaceAtomically(fs, "/", "a", "new").has_value();
      fs.Restore(seed);
      const std::string text = ContentOf(fs, "/a");
      ASSERT_TRUE(text == "new" || (text == "old" && !done))
          << text << " seed " << seed << " cut " << cut;
    }
  }
}

TEST(PublishTest, AFailureAtAnyCallIsReportedAndCanBeRepeated) {
  for (const int error : {EIO, ENOSPC, EROFS}) {
    for (std::uint64_t call = 1;; ++call) {
      PowerCutFileSystem base;
      FaultFileSystem fs(base);
      fs.FailCall(call, error);
      const Status published = PublishExclusive(fs, "/", "a", "contents");
      if (fs.calls() < call) {
        break;
      }
      // Removing the temporary file afterwards is the only failure that does not matter.
      if (published) {
        EXPECT_EQ(ContentOf(base, "/a"), "contents");
      }
      fs.Clear();
      ASSERT_TRUE(PublishExclusive(fs, "/", "a", "contents")) << "call " << call;
      EXPECT_EQ(ContentOf(base, "/a"), "contents");
    }
  }
}

TEST(PublishTest, ATemporaryFileTakenByACleanUpIsWrittenAgain) {
  PowerCutFileSystem base;
  FaultFileSystem fs(base);
  fs.FailCall(4, ENOENT);  // OpenForWrite, WriteAt, Sync, Link

  EXPECT_TRUE(PublishExclusive(fs, "/", "a", "contents"));

  EXPECT_EQ(ContentOf(base, "/a"), "contents");
}

TEST(PublishTest, OfManyRacingWritersOneWinsAndAllAgree) {
  PosixFileSystem fs;
  const TempFolder temp(TempFolder::Where::kTestTmpdir);
  const std::string& folder = temp.path();
  constexpr int kWriters = 8;
  std::atomic<int> winners = 0;
  std::atomic<int> losers = 0;
  std::vector<std::thread> threads;
  threads.reserve(kWriters);
  for (int i = 0; i < kWriters; ++i) {
    threads.emplace_back([&, i] {
      const Status published = PublishExclusive(fs, folder, "a", "writer " + std::to_string(i));
      if (published) {
        ++winners;
      } else if (published.error().code == Errc::kAlreadyExists) {
        ++losers;
      }
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }

  EXPECT_EQ(winners, 1);
  EXPECT_EQ(losers, kWriters - 1);
  EXPECT_EQ(fs.List(folder).value().size(), 1u);
}

}  // namespace
}  // namespace holdfast::storage_tiers
