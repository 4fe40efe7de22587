// A real daemon, a real client library, real signals.

#include "tests/daemon/daemon_process.h"

#include <csignal>
#include <filesystem>
#include <string>

#include <gtest/gtest.h>

#include "tests/daemon/test_trainer.h"

namespace holdfast {
namespace {

using tests::DaemonProcess;
using tests::TestTrainer;

int Count(const std::string& text, const std::string& what) {
  int count = 0;
  for (auto at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) {
    ++count;
  }
  return count;
}

class DaemonProcessTest : public testing::Test {
 protected:
  void TearDown() override {
    if (HasFailure()) {
      std::fputs(daemon_.Log().c_str(), stderr);
    }
  }

  DaemonProcess daemon_;
};

TEST_F(DaemonProcessTest, TermEndsItWithZeroAndRemovesTheSocket) {
  ASSERT_TRUE(daemon_.StartAndWait());
  EXPECT_TRUE(std::filesystem::exists(daemon_.socket()));
  daemon_.Signal(SIGHUP);
  EXPECT_TRUE(daemon_.Alive());
  daemon_.Signal(SIGTERM);
  EXPECT_EQ(daemon_.WaitForEnd(), 0);
  EXPECT_FALSE(std::filesystem::exists(daemon_.socket()));
}

// What users get, 2 and 3: a sealed snapshot outlives daemon and trainer.
TEST_F(DaemonProcessTest, ASealedSnapshotSurvivesKillNineOfDaemonAndTrainer) {
  ASSERT_TRUE(daemon_.StartAndWait());
  {
    TestTrainer trainer;
    ASSERT_EQ(trainer.Join(daemon_.socket(), "job"), "");
    ASSERT_EQ(trainer.Restore(), -1) << trainer.error();
    for (std::int64_t step = 1; step <= 3; ++step) {
      ASSERT_TRUE(trainer.SnapshotAndWait(step)) << trainer.error();
    }
    EXPECT_EQ(daemon_.KillAndWait(), 128 + SIGKILL);
  }
  ASSERT_TRUE(daemon_.StartAndWait());
  TestTrainer next;
  ASSERT_EQ(next.Join(daemon_.socket(), "job"), "");
  EXPECT_EQ(next.Restore(), 3) << next.error();
  EXPECT_TRUE(next.Holds(3));
  EXPECT_EQ(next.source(), "arena");
}

TEST_F(DaemonProcessTest, ATrainerGoesOnAfterARestartOfTheDaemon) {
  ASSERT_TRUE(daemon_.StartAndWait());
  TestTrainer trainer;
  ASSERT_EQ(trainer.Join(daemon_.socket(), "job"), "");
  ASSERT_EQ(trainer.Restore(), -1) << trainer.error();
  ASSERT_TRUE(trainer.SnapshotAndWait(1)) << trainer.error();
  daemon_.KillAndWait();
  ASSERT_TRUE(daemon_.StartAndWait());
  bool sealed = false;
  for (std::int64_t step = 2; step < 8 && !sealed; ++step) {
    sealed = trainer.SnapshotAndWait(step);
  }
  EXPECT_TRUE(sealed) << trainer.error();
}

TEST_F(DaemonProcessTest, AFlushedSnapshotSurvivesTheLossOfTheArena) {
  ASSERT_TRUE(daemon_.StartAndWait());
  {
    TestTrainer trainer;
    ASSERT_EQ(trainer.Join(daemon_.socket(), "job", daemon_.root()), "");
    ASSERT_EQ(trainer.Restore(), -1) << trainer.error();
    ASSERT_TRUE(trainer.SnapshotAndWait(7)) << trainer.error();
    hf_drained drained{};
    const Outcome outcome = trainer.client().Drain(60'000, &drained);
    ASSERT_TRUE(outcome.ok()) << outcome.message;
    ASSERT_EQ(drained.durable, 1U) << drained.reason;
  }
  daemon_.KillAndWait();
  for (const auto& entry : std::filesystem::directory_iterator(daemon_.arena())) {
    std::filesystem::remove_all(entry.path());
  }
  ASSERT_TRUE(daemon_.StartAndWait());
  TestTrainer next;
  ASSERT_EQ(next.Join(daemon_.socket(), "job", daemon_.root()), "");
  EXPECT_EQ(next.Restore(), 7) << next.error();
  EXPECT_TRUE(next.Holds(7));
  EXPECT_EQ(next.source(), "persistent " + daemon_.root());
}

// L: a root that vanishes is said once, costs no snapshot in memory, and heals by itself.
TEST_F(DaemonProcessTest, ARootThatVanishesIsSaidOnceAndHeals) {
  ASSERT_TRUE(daemon_.StartAndWait());
  TestTrainer trainer;
  ASSERT_EQ(trainer.Join(daemon_.socket(), "job", daemon_.root()), "");
  ASSERT_EQ(trainer.Restore(), -1) << trainer.error();
  std::filesystem::rename(daemon_.root(), daemon_.root() + ".away");
  ASSERT_TRUE(trainer.SnapshotAndWait(1)) << trainer.error();
  ASSERT_TRUE(trainer.SnapshotAndWait(2)) << trainer.error();
  hf_drained drained{};
  ASSERT_TRUE(trainer.client().Drain(2'500, &drained).ok());
  EXPECT_EQ(drained.durable, 0U);
  EXPECT_EQ(Count(daemon_.Log(), "tier.sick"), 1) << daemon_.Log();
  std::filesystem::rename(daemon_.root() + ".away", daemon_.root());
  ASSERT_TRUE(trainer.client().Drain(60'000, &drained).ok());
  EXPECT_EQ(drained.durable, 1U) << drained.reason;
  EXPECT_EQ(Count(daemon_.Log(), "tier.healed"), 1) << daemon_.Log();
}

TEST_F(DaemonProcessTest, ASecondDaemonOfTheSameStateFolderIsRefused) {
  ASSERT_TRUE(daemon_.StartAndWait());
  DaemonProcess second;
  DaemonProcess::Start start;
  start.flags = {"--state-dir", daemon_.state_dir()};
  second.Spawn(start);
  EXPECT_EQ(second.WaitForEnd(), 3);
  EXPECT_NE(second.Log().find("start.failed"), std::string::npos) << second.Log();
  EXPECT_TRUE(daemon_.Alive());
}

TEST_F(DaemonProcessTest, ASecondDaemonOfTheSameArenaIsRefused) {
  ASSERT_TRUE(daemon_.StartAndWait());
  DaemonProcess second;
  DaemonProcess::Start start;
  start.flags = {"--arena", daemon_.arena()};
  second.Spawn(start);
  EXPECT_EQ(second.WaitForEnd(), 3);
  EXPECT_NE(second.Log().find(std::to_string(daemon_.pid())), std::string::npos) << second.Log();
}

TEST_F(DaemonProcessTest, ASocketThatAnotherDaemonServesIsNotTaken) {
  ASSERT_TRUE(daemon_.StartAndWait());
  DaemonProcess second;
  DaemonProcess::Start start;
  start.flags = {"--socket", daemon_.socket()};
  second.Spawn(start);
  EXPECT_EQ(second.WaitForEnd(), 3);
  EXPECT_TRUE(std::filesystem::exists(daemon_.socket()));
}

TEST_F(DaemonProcessTest, TheSocketOfADeadDaemonIsReplaced) {
  ASSERT_TRUE(daemon_.StartAndWait());
  daemon_.KillAndWait();
  ASSERT_TRUE(std::filesystem::exists(daemon_.socket()));
  EXPECT_TRUE(daemon_.StartAndWait());
}

TEST_F(DaemonProcessTest, WrongConfigurationEndsItWithTwo) {
  DaemonProcess::Start start;
  start.config = "[flush]\nconcurency = 2\n";
  daemon_.Spawn(start);
  EXPECT_EQ(daemon_.WaitForEnd(), 2);
  EXPECT_NE(daemon_.Log().find("flush.concurrency"), std::string::npos) << daemon_.Log();
}

TEST_F(DaemonProcessTest, AnArenaFolderThatCannotBeMadeEndsItWithThree) {
  DaemonProcess::Start start;
  start.flags = {"--arena", "/dev/shm/no-such-folder-of-holdfast/arena"};
  daemon_.Spawn(start);
  EXPECT_EQ(daemon_.WaitForEnd(), 3);
  EXPECT_FALSE(std::filesystem::exists(daemon_.socket()));
}

TEST_F(DaemonProcessTest, ASocketPathThatIsTooLongIsSaid) {
  DaemonProcess::Start start;
  start.flags = {"--socket", "/tmp/" + std::string(120, 'x')};
  daemon_.Spawn(start);
  EXPECT_EQ(daemon_.WaitForEnd(), 3);
  EXPECT_NE(daemon_.Log().find("clients.socket"), std::string::npos) << daemon_.Log();
}

}  // namespace
}  // namespace holdfast
