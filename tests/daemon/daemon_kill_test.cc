// kill -9 of a real daemon at every failpoint on the way of a snapshot, then a start: whatever was
// answered as sealed comes back bit for bit, and training goes on.

#include <chrono>
#include <csignal>
#include <filesystem>
#include <set>
#include <string>
#include <thread>
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
    }
    if (daemon_.Alive()) {
      hf_drained drained{};
      (void)trainer->client().Drain(5'000, &drained);
    }
    return sealed;
  }

  // I6, I12: once training has gone on and all is durable, nothing half-done is left.
  void ExpectCleanRoot(TestTrainer* trainer) {
    hf_drained drained{};
    const Outcome outcome = trainer->client().Drain(30'000, &drained);
    ASSERT_TRUE(outcome.ok()) << outcome.message;
    EXPECT_EQ(drained.durable, 1U) << drained.reason;
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
  bool sealed_again = false;
  for (std::int64_t step = 101; step <= 104 && !sealed_again; ++step) {
    sealed_again = next.SnapshotAndWait(step);
  }
  EXPECT_TRUE(sealed_again) << next.error();
  ExpectCleanRoot(&next);
  daemon_.Signal(SIGTERM);
  EXPECT_EQ(daemon_.WaitForEnd(), 0);
}

INSTANTIATE_TEST_SUITE_P(AtEach,
                         DaemonKillTest,
                         testing::ValuesIn(kDaemonKillPoints),
                         [](const auto& info) { return std::string(info.param.name); });

// Snapshot folders of the job without a manifest, and temporary files.
std::set<std::string> LeftOvers(const std::string& root) {
  namespace fs = std::filesystem;
  std::set<std::string> found;
  for (const auto& entry : fs::recursive_directory_iterator(root)) {
    const std::string name = entry.path().filename();
    const bool snapshot = entry.is_directory() && name.starts_with("step-");
    if ((snapshot && !fs::exists(entry.path() / "manifest.json")) || name.starts_with(".t")) {
      found.insert(entry.path());
    }
  }
  return found;
}

class DaemonKillInFlushTest : public DaemonKillTest {};

// I12: what a flush that was cut short wrote does not stay when something newer is published.
TEST_P(DaemonKillInFlushTest, NothingOfTheFlushStays) {
  DaemonProcess::Start start;
  start.failpoints = std::string(GetParam().failpoint) + "=kill@1";
  daemon_.Spawn(start);
  {
    TestTrainer trainer;
    (void)TrainUntilTheDaemonDies(&trainer);
    ASSERT_EQ(daemon_.WaitForEnd(), 128 + SIGKILL);
  }
  ASSERT_FALSE(LeftOvers(daemon_.root()).empty());
  ASSERT_TRUE(daemon_.StartAndWait());
  TestTrainer next;
  ASSERT_EQ(next.Join(daemon_.socket(), "job", daemon_.root()), "");
  ASSERT_TRUE(next.Restore().has_value()) << next.error();
  for (std::int64_t step = 101; step <= 103; ++step) {
    (void)next.SnapshotAndWait(step);
  }
  hf_drained drained{};
  ASSERT_TRUE(next.client().Drain(60'000, &drained).ok());
  ASSERT_EQ(drained.durable, 1U) << drained.reason;
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (!LeftOvers(daemon_.root()).empty() && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  EXPECT_EQ(LeftOvers(daemon_.root()), std::set<std::string>());
}

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
  ASSERT_FALSE(LeftOvers(daemon_.root()).empty());
  for (const auto& entry : std::filesystem::directory_iterator(daemon_.arena())) {
    std::filesystem::remove_all(entry.path());
  }
  ASSERT_TRUE(daemon_.StartAndWait());
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (!LeftOvers(daemon_.root()).empty() && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  EXPECT_EQ(LeftOvers(daemon_.root()), std::set<std::string>());
}

constexpr tests::KillPoint kFlushCases[] = {
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
