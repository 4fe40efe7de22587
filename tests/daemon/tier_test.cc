// A root that hangs or fails costs its callers a time limit, never the daemon.

#include "daemon/tier.h"

#include <cerrno>
#include <chrono>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include <boost/asio/io_context.hpp>
#include <gtest/gtest.h>
#include <unistd.h>

#include "daemon/tier_set.h"
#include "storage_tiers/posix_file_system.h"
#include "tests/common/run_coroutine.h"
#include "tests/support/fault_file_system.h"

namespace holdfast::daemon {
namespace {

namespace asio = boost::asio;
using std::chrono::milliseconds;
using tests::RunCoroutine;

std::string MakeRoot(const std::string& name) {
  std::string path = ::testing::TempDir() + "/" + name + std::to_string(::getpid());
  std::filesystem::create_directories(path);
  return path;
}

class TierTest : public ::testing::Test {
 protected:
  static TierOptions Options() {
    TierOptions options;
    options.flush_concurrency = 1;
    options.call_limit = milliseconds(50);
    return options;
  }

  // Gives every tier a fault file system; the newest is faults_.
  TierSet::MakeFileSystem Maker() {
    return [this] {
      auto made = std::make_unique<holdfast::testing::FaultFileSystem>(base_);
      faults_ = made.get();
      return made;
    };
  }

  Status ReadJob(Tier& tier) {
    auto call = [](TierFiles& files) -> Status {
      HF_TRYV(files.tier.ReadJob("job"));
      return Ok();
    };
    return RunCoroutine(io_, tier.Call("read", milliseconds(100), std::move(call)));
  }

  static bool Always(const holdfast::testing::FileSystemCall&) { return true; }

  storage_tiers::PosixFileSystem base_;
  holdfast::testing::FaultFileSystem* faults_ = nullptr;
  asio::io_context io_{1};
  TierSet tiers_{io_.get_executor(), Options(), 2, Maker()};
};

TEST_F(TierTest, AHungCallIsGivenUpAndTheTierHealsByItself) {
  const auto tier = tiers_.Open(MakeRoot("hang"), proto::SHARED).value();
  faults_->HangMatching(Always);
  const Status hung = ReadJob(*tier);
  ASSERT_FALSE(hung.has_value());
  EXPECT_EQ(hung.error().code, Errc::kTimeout);
  EXPECT_TRUE(tier->sickness().has_value());
  EXPECT_EQ(tier->counters().timeouts, 1U);
  faults_->Clear();
  faults_->Release();
  EXPECT_TRUE(ReadJob(*tier).has_value());
  EXPECT_FALSE(tier->sickness().has_value());
}

// I12, I9: callers of a dead file system do not pile up.
TEST_F(TierTest, WhileAllThreadsHangFurtherCallsAreRefusedAtOnce) {
  const auto tier = tiers_.Open(MakeRoot("dead"), proto::SHARED).value();
  faults_->HangMatching(Always);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(ReadJob(*tier).error().code, Errc::kTimeout);
  }
  EXPECT_EQ(tier->pending(), 3U);
  EXPECT_EQ(ReadJob(*tier).error().code, Errc::kUnavailable);
  EXPECT_EQ(tier->pending(), 3U);
  faults_->Clear();
  faults_->Release();
  while (tier->pending() > 0) {
    std::this_thread::yield();
  }
  EXPECT_TRUE(ReadJob(*tier).has_value());
}

TEST_F(TierTest, AFailingTierIsSickUntilACallSucceeds) {
  const std::string root = MakeRoot("fail");
  const auto tier = tiers_.Open(root, proto::SHARED).value();
  faults_->FailMatching(Always, EIO);
  EXPECT_EQ(ReadJob(*tier).error().code, Errc::kIoError);
  ASSERT_TRUE(tier->sickness().has_value());
  faults_->Clear();
  EXPECT_TRUE(ReadJob(*tier).has_value());
  EXPECT_FALSE(tier->sickness().has_value());
}

// What stands between a snapshot and its tier: each is seen, and each heals by itself.
TEST_F(TierTest, FullReadOnlyAndAFailingFsyncAreSicknessesThatHeal) {
  const auto tier = tiers_.Open(MakeRoot("sick"), proto::SHARED).value();
  const auto ensure = [&] {
    auto call = [](TierFiles& files) { return files.tier.EnsureJob("job", std::string(16, 'u')); };
    return RunCoroutine(io_, tier->Call("make", milliseconds(500), std::move(call)));
  };
  const auto writes = [](const holdfast::testing::FileSystemCall& call) {
    return call.operation == "CreateFolder" || call.operation == "WriteAt";
  };
  const auto syncs = [](const holdfast::testing::FileSystemCall& call) {
    return call.operation == "SyncFolder" || call.operation == "Sync";
  };
  ASSERT_TRUE(ReadJob(*tier).has_value());
  for (const int error : {ENOSPC, EROFS, EIO}) {
    faults_->FailMatching(error == EIO ? holdfast::testing::FaultFileSystem::Matches(syncs)
                                       : holdfast::testing::FaultFileSystem::Matches(writes),
                          error);
    EXPECT_FALSE(ensure().has_value());
    EXPECT_TRUE(tier->sickness().has_value()) << error;
    faults_->Clear();
    EXPECT_TRUE(ensure().has_value());
    EXPECT_FALSE(tier->sickness().has_value()) << error;
    std::filesystem::remove_all(tier->root() + "/job");
  }
}

// A full or read-only file system lists and makes folders: its health must not flap with each try.
TEST_F(TierTest, AfterAFailedFlushOnlyAFlushHeals) {
  const auto tier = tiers_.Open(MakeRoot("full"), proto::SHARED).value();
  const auto call = [&](TierWork work, bool fails) {
    auto function = [fails](TierFiles&) -> Status {
      return fails ? Status(Error(Errc::kNoSpace, "no space left on device")) : Ok();
    };
    const Status status =
        RunCoroutine(io_, tier->Call("work", milliseconds(500), std::move(function), work));
    EXPECT_EQ(status.has_value(), !fails);
    return !tier->sickness().has_value();
  };
  EXPECT_FALSE(call(TierWork::kFlush, true));
  EXPECT_FALSE(call(TierWork::kLook, false));
  EXPECT_FALSE(call(TierWork::kChange, false));
  EXPECT_FALSE(call(TierWork::kChange, true));
  EXPECT_FALSE(call(TierWork::kChange, false)) << "the flush is still what failed";
  EXPECT_TRUE(call(TierWork::kFlush, false));
  EXPECT_FALSE(call(TierWork::kChange, true));
  EXPECT_FALSE(call(TierWork::kLook, false));
  EXPECT_TRUE(call(TierWork::kChange, false));
}

TEST_F(TierTest, AMissingRootIsASicknessThatHealsWhenItComesBack) {
  const std::string root = MakeRoot("gone");
  const auto tier = tiers_.Open(root, proto::SHARED).value();
  std::filesystem::remove_all(root);
  EXPECT_EQ(ReadJob(*tier).error().code, Errc::kUnavailable);
  EXPECT_TRUE(tier->sickness().has_value());
  std::filesystem::create_directories(root);
  EXPECT_TRUE(ReadJob(*tier).has_value());
  EXPECT_FALSE(tier->sickness().has_value());
}

TEST_F(TierTest, ErrorsThatSayNothingOfTheFileSystemDoNotMakeItSick) {
  const auto tier = tiers_.Open(MakeRoot("fenced"), proto::SHARED).value();
  auto call = [](TierFiles&) -> Status { return Error(Errc::kFenced, "a newer incarnation"); };
  const Status status =
      RunCoroutine(io_, tier->Call("publish", milliseconds(100), std::move(call)));
  EXPECT_EQ(status.error().code, Errc::kFenced);
  EXPECT_NE(status.error().message.find(tier->root()), std::string::npos);
  EXPECT_FALSE(tier->sickness().has_value());
}

// I6: two tries of one flush never write at the same time, also where the first was given up.
TEST_F(TierTest, AKeyIsTakenOnceUntilItsHolderIsGone) {
  const auto tier = tiers_.Open(MakeRoot("key"), proto::SHARED).value();
  auto first = tier->TakeKey("flush 1");
  ASSERT_NE(first, nullptr);
  EXPECT_EQ(tier->TakeKey("flush 1"), nullptr);
  EXPECT_NE(tier->TakeKey("flush 2"), nullptr);
  first.reset();
  EXPECT_NE(tier->TakeKey("flush 1"), nullptr);
}

TEST_F(TierTest, OneRootHasOneTierInEverySpelling) {
  const std::string root = MakeRoot("spelling");
  EXPECT_EQ(tiers_.Open(root, proto::SHARED).value(),
            tiers_.Open("/" + root + "//", proto::NODE).value());
  EXPECT_FALSE(tiers_.Open("relative", proto::SHARED).has_value());
}

TEST_F(TierTest, AnIdleRootMakesRoomAndABusyOneDoesNot) {
  auto first = tiers_.Open(MakeRoot("one"), proto::SHARED).value();
  auto second = tiers_.Open(MakeRoot("two"), proto::SHARED).value();
  EXPECT_EQ(tiers_.Open(MakeRoot("three"), proto::SHARED).error().code, Errc::kUnavailable);
  first.reset();
  EXPECT_TRUE(tiers_.Open(MakeRoot("three"), proto::SHARED).has_value());
  EXPECT_EQ(tiers_.all().size(), 2U);
}

TEST(IsBelowTest, ComponentsCountNotLetters) {
  EXPECT_TRUE(IsBelow("/a/b", "/a"));
  EXPECT_TRUE(IsBelow("/a", "/a"));
  EXPECT_TRUE(IsBelow("/a", "/"));
  EXPECT_FALSE(IsBelow("/ab", "/a"));
  EXPECT_FALSE(IsBelow("/", "/a"));
}

}  // namespace
}  // namespace holdfast::daemon
