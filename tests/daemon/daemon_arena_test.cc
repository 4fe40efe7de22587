// Starts of a real daemon on an arena that a client or an operator has spoilt.

#include <chrono>
#include <csignal>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/admin_client.h"
#include "tests/daemon/daemon_process.h"
#include "tests/daemon/raw_client.h"
#include "tests/daemon/raw_trainer.h"
#include "tests/daemon/test_trainer.h"

namespace holdfast {
namespace {

using tests::DaemonProcess;
using tests::RawClient;
using tests::TestTrainer;

class DaemonArenaTest : public testing::Test {
 protected:
  void TearDown() override {
    if (HasFailure()) {
      std::fputs(daemon_.Log().c_str(), stderr);
    }
  }

  // A job with one sealed snapshot, whose trainer is gone.
  void SealOne(const std::string& job, std::int64_t step) {
    TestTrainer trainer;
    ASSERT_EQ(trainer.Join(daemon_.socket(), job), "");
    ASSERT_EQ(trainer.Restore(), -1) << trainer.error();
    ASSERT_TRUE(trainer.SnapshotAndWait(step)) << trainer.error();
  }

  void ExpectRestores(const std::string& job, std::int64_t step) {
    TestTrainer trainer;
    ASSERT_EQ(trainer.Join(daemon_.socket(), job), "");
    EXPECT_EQ(trainer.Restore(), step) << trainer.error();
  }

  DaemonProcess daemon_;
};

// I9: a client can hurt its own job only, also across a restart.
TEST_F(DaemonArenaTest, AClientThatGrowsItsSlotByAByteDoesNotStopTheNextDaemon) {
  ASSERT_TRUE(daemon_.StartAndWait());
  SealOne("good", 1);
  RawClient hostile(daemon_.socket());
  hostile.Hello();
  const proto::GrantEvent grant = tests::JoinAndAwaitGrant(&hostile, "hostile", 2'000'000);
  ASSERT_TRUE(hostile.Call(tests::BeginOf(grant, 1)).has_begin());
  ASSERT_TRUE(hostile.Call(tests::SealOf(grant, 1)).has_seal());
  struct stat status = {};
  ASSERT_EQ(::fstat(hostile.fds[0].Get(), &status), 0);
  ASSERT_EQ(::ftruncate(hostile.fds[0].Get(), status.st_size + 1), 0);
  daemon_.KillAndWait();
  ASSERT_TRUE(daemon_.StartAndWait());
  EXPECT_NE(daemon_.Log().find("start.distrusted"), std::string::npos);
  ExpectRestores("good", 1);
}

// A file that cannot be opened is one lost slot.
TEST_F(DaemonArenaTest, ASlotFileThatCannotBeOpenedDoesNotStopTheDaemon) {
  ASSERT_TRUE(daemon_.StartAndWait());
  SealOne("good", 1);
  RawClient hostile(daemon_.socket());
  hostile.Hello();
  const proto::GrantEvent grant = tests::JoinAndAwaitGrant(&hostile, "hostile", 2'000'000);
  ASSERT_TRUE(hostile.Call(tests::BeginOf(grant, 1)).has_begin());
  ASSERT_TRUE(hostile.Call(tests::SealOf(grant, 1)).has_seal());
  ASSERT_EQ(::fchmod(hostile.fds[0].Get(), 0644), 0);
  daemon_.KillAndWait();
  ASSERT_TRUE(daemon_.StartAndWait());
  EXPECT_NE(daemon_.Log().find("start.slot_lost"), std::string::npos);
  ExpectRestores("good", 1);
}

// I3, I7: a wrong state folder must not cost the snapshots of the right one.
TEST_F(DaemonArenaTest, AnArenaThatTheCatalogHasNeverSeenIsLeftAlone) {
  ASSERT_TRUE(daemon_.StartAndWait());
  SealOne("good", 1);
  daemon_.KillAndWait();
  DaemonProcess wrong;
  DaemonProcess::Start start;
  start.flags = {"--arena", daemon_.arena()};
  wrong.Spawn(start);
  EXPECT_EQ(wrong.WaitForEnd(), 3);
  EXPECT_NE(wrong.Log().find("has never seen"), std::string::npos) << wrong.Log();
  EXPECT_NE(wrong.Log().find("--state-dir"), std::string::npos) << wrong.Log();
  EXPECT_NE(wrong.Log().find("--discard-arena"), std::string::npos) << wrong.Log();
  ASSERT_TRUE(daemon_.StartAndWait());
  ExpectRestores("good", 1);
}

// I9: what a live trainer maps stays in the budget, also when its records are given up.
TEST_F(DaemonArenaTest, ADiscardedArenaKeepsCountingWhatIsStillMapped) {
  ASSERT_TRUE(daemon_.StartAndWait());
  SealOne("good", 1);
  auto holder = std::make_unique<RawClient>(daemon_.socket());
  holder->Hello();
  const proto::GrantEvent grant = tests::JoinAndAwaitGrant(holder.get(), "held", 2'000'000);
  daemon_.KillAndWait();
  std::filesystem::remove_all(daemon_.state_dir());
  EXPECT_FALSE(daemon_.StartAndWait()) << "its catalog is lost";
  DaemonProcess::Start start;
  start.flags = {"--discard-arena"};
  ASSERT_TRUE(daemon_.StartAndWait(start));
  auto admin = client::AdminClient::Connect(daemon_.socket(), "test", tests::kLimit).value();
  proto::ClientMessage status;
  status.mutable_status();
  const auto quarantined = [&] {
    return admin->Call(status, tests::kLimit).value().message.status().arena().quarantined_bytes();
  };
  EXPECT_EQ(quarantined(), grant.capacity_bytes());
  holder.reset();
  const auto deadline = std::chrono::steady_clock::now() + tests::kLimit;
  while (quarantined() > 0 && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  EXPECT_EQ(quarantined(), 0U);
  EXPECT_TRUE(std::filesystem::is_empty(daemon_.arena() + "/slots"));
}

// What the machine does not give: the daemon says what to do, and does not start half.
class DaemonEnvironmentTest : public DaemonArenaTest {
 protected:
  void ExpectRefused(const std::vector<std::string>& flags, const std::vector<std::string>& said) {
    DaemonProcess::Start start;
    start.flags = flags;
    daemon_.Spawn(start);
    EXPECT_EQ(daemon_.WaitForEnd(), 3);
    EXPECT_FALSE(std::filesystem::exists(daemon_.socket()));
    for (const std::string& text : said) {
      EXPECT_NE(daemon_.Log().find(text), std::string::npos) << text << " in\n" << daemon_.Log();
    }
  }

  static constexpr uid_t kStranger = 12'345;
};

TEST_F(DaemonEnvironmentTest, AMissingFolderIsNamedWithWhatToDo) {
  ExpectRefused({"--arena", daemon_.folder() + "/none/arena"},
                {"there is no folder " + daemon_.folder() + "/none: create that one"});
}

TEST_F(DaemonEnvironmentTest, AnArenaOfAnotherOwnerIsNamedWithWhatToDo) {
  if (::chown(daemon_.arena().c_str(), kStranger, kStranger) != 0) {
    GTEST_SKIP() << "only root can give folders away";
  }
  ExpectRefused({}, {daemon_.arena() + " belongs to uid 12345", "chown -R"});
}

TEST_F(DaemonEnvironmentTest, AStateFolderOfAnotherOwnerIsNamedWithWhatToDo) {
  std::filesystem::create_directory(daemon_.state_dir());
  if (::chown(daemon_.state_dir().c_str(), kStranger, kStranger) != 0) {
    GTEST_SKIP() << "only root can give folders away";
  }
  ExpectRefused({}, {daemon_.state_dir() + " belongs to uid 12345", "change its owner"});
}

TEST_F(DaemonEnvironmentTest, ATmpfsBelowTheBudgetIsNamedWithBothNumbers) {
  const std::string mount = daemon_.folder() + "/small";
  std::filesystem::create_directory(mount);
  if (::mount("tmpfs", mount.c_str(), "tmpfs", 0, "size=32m,mode=0700") != 0) {
    GTEST_SKIP() << "mounts are not allowed here";
  }
  ExpectRefused({"--arena", mount + "/arena"},
                {"32.0 MiB", "128 MiB", "mount it again with size=134217728", "lower the budget"});
  EXPECT_EQ(::umount(mount.c_str()), 0);
}

}  // namespace
}  // namespace holdfast
