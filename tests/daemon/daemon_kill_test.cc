// kill -9 of a real daemon at every failpoint on the way of a snapshot, then a start: whatever was
// answered as sealed comes back bit for bit, and training goes on.

#include <csignal>
#include <filesystem>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/daemon/daemon_process.h"
#include "tests/daemon/kill_points.h"
#include "tests/daemon/root_check.h"
#include "tests/daemon/test_trainer.h"

namespace holdfast {
namespace {

using tests::DaemonProcess;
using tests::kDaemonKillPoints;
using tests::KillPoint;
using tests::Leftovers;
using tests::TestTrainer;
using tests::VerifyRoot;
using tests::WaitForCleanRoot;

// On the root: so each later flush deletes.
constexpr std::uint32_t kKept = 1;

class DaemonKillTest : public testing::TestWithParam<KillPoint> {
 protected:
  void TearDown() override {
    if (HasFailure()) {
      std::fputs(daemon_.Log().c_str(), stderr);
    }
  }

  // Trains until the daemon dies or the steps are over; the newest step that was answered as
  // sealed.
  std::int64_t TrainUntilTheDaemonDies(TestTrainer* trainer) {
    std::int64_t sealed = -1;
    if (!trainer->Join(daemon_.socket(), "job", daemon_.root(), kKept).empty() ||
        !trainer->Restore(5'000).has_value()) {
      return sealed;
    }
    for (std::int64_t step = 1; step <= 6 && daemon_.Alive(); ++step) {
      sealed = trainer->SnapshotAndWait(step, 2'000) ? step : sealed;
      if (step <= 3 && daemon_.Alive()) {
        // So that there are three publishes: the first that may delete is the third.
        hf_drained drained{};
        (void)trainer->client().Drain(2'000, &drained);
      }
    }
    if (daemon_.Alive()) {
      hf_drained drained{};
      (void)trainer->client().Drain(5'000, &drained);
    }
    return sealed;
  }

  // I6, I12: once training has gone on and all is durable, nothing half-done is left.
  void ExpectCleanRoot() {
    EXPECT_EQ(WaitForCleanRoot(daemon_.root()), std::vector<std::string>());
    std::string said;
    EXPECT_EQ(VerifyRoot(daemon_.root(), &said), 0) << said;
  }

  DaemonProcess daemon_;
};

// I3, and what users get (3): a daemon that dies loses nothing that it has answered.
TEST_P(DaemonKillTest, NothingSealedIsLostAndTheNextStartServes) {
  DaemonProcess::Start start;
  start.failpoints =
      std::string(GetParam().failpoint) + "=kill@" + std::to_string(GetParam().passage);
  daemon_.Spawn(start);
  std::int64_t sealed = -1;
  {
    TestTrainer trainer;
    sealed = TrainUntilTheDaemonDies(&trainer);
    EXPECT_EQ(daemon_.WaitForEnd(), 128 + SIGKILL) << "the failpoint was never passed";
  }
  ASSERT_TRUE(daemon_.StartAndWait());
  TestTrainer next;
  ASSERT_EQ(next.Join(daemon_.socket(), "job", daemon_.root(), kKept), "");
  const auto restored = next.Restore();
  ASSERT_TRUE(restored.has_value()) << next.error();
  EXPECT_GE(*restored, sealed);
  if (*restored >= 0) {
    EXPECT_TRUE(next.Holds(*restored));
  }
  // Twice: what the first publish may not delete yet, since the root does not know of the restore's
  // end, the second does.
  ASSERT_TRUE(next.TrainUntilDurable(101).has_value()) << next.error();
  ASSERT_TRUE(next.TrainUntilDurable(111).has_value()) << next.error();
  ExpectCleanRoot();
  daemon_.Signal(SIGTERM);
  EXPECT_EQ(daemon_.WaitForEnd(), 0);
}

INSTANTIATE_TEST_SUITE_P(AtEach,
                         DaemonKillTest,
                         testing::ValuesIn(kDaemonKillPoints),
                         [](const auto& info) { return std::string(info.param.name); });

class DaemonKillInFlushTest : public DaemonKillTest {};

// I12: with the memory gone it can never be finished: the start itself removes it.
TEST_P(DaemonKillInFlushTest, AStartWithoutItsMemoryRemovesIt) {
  DaemonProcess::Start start;
  start.failpoints = std::string(GetParam().failpoint) + "=kill@1";
  daemon_.Spawn(start);
  {
    TestTrainer trainer;
    (void)TrainUntilTheDaemonDies(&trainer);
    ASSERT_EQ(daemon_.WaitForEnd(), 128 + SIGKILL);
  }
  ASSERT_FALSE(Leftovers(daemon_.root()).empty());
  for (const auto& entry : std::filesystem::directory_iterator(daemon_.arena())) {
    std::filesystem::remove_all(entry.path());
  }
  ASSERT_TRUE(daemon_.StartAndWait());
  EXPECT_EQ(WaitForCleanRoot(daemon_.root()), std::vector<std::string>());
}

constexpr KillPoint kFlushCases[] = {
    {"BeforeTheLink", "flush.before_image_link", 1},
    {"BeforeTheSidecar", "flush.before_sidecar", 1},
    {"AfterTheShard", "flush.after_image", 1},
    {"BeforeTheManifest", "publish.before_link", 1},
};

INSTANTIATE_TEST_SUITE_P(AtEach,
                         DaemonKillInFlushTest,
                         testing::ValuesIn(kFlushCases),
                         [](const auto& info) { return std::string(info.param.name); });

// The source of a restore is being opened when the daemon dies.
TEST(DaemonKillInRestoreTest, ARestoreFromATierCanBeTakenUpAgain) {
  DaemonProcess daemon;
  ASSERT_TRUE(daemon.StartAndWait());
  {
    TestTrainer trainer;
    ASSERT_EQ(trainer.Join(daemon.socket(), "job", daemon.root()), "");
    ASSERT_EQ(trainer.Restore(), -1);
    ASSERT_TRUE(trainer.SnapshotAndWait(5)) << trainer.error();
    hf_drained drained{};
    ASSERT_TRUE(trainer.client().Drain(60'000, &drained).ok());
  }
  daemon.KillAndWait();
  for (const auto& entry : std::filesystem::directory_iterator(daemon.arena())) {
    std::filesystem::remove_all(entry.path());
  }
  DaemonProcess::Start start;
  start.failpoints = std::string(tests::kDaemonRestoreKillPoint) + "=kill@1";
  ASSERT_TRUE(daemon.StartAndWait(start));
  {
    TestTrainer trainer;
    ASSERT_EQ(trainer.Join(daemon.socket(), "job", daemon.root()), "");
    (void)trainer.Restore(2'000);
    EXPECT_EQ(daemon.WaitForEnd(), 128 + SIGKILL);
  }
  ASSERT_TRUE(daemon.StartAndWait());
  TestTrainer next;
  ASSERT_EQ(next.Join(daemon.socket(), "job", daemon.root()), "");
  EXPECT_EQ(next.Restore(), 5) << next.error() << daemon.Log();
  EXPECT_TRUE(next.Holds(5));
}

}  // namespace
}  // namespace holdfast
