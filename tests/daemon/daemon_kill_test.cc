// kill -9 of a real daemon at every failpoint on the way of a snapshot, then a start: whatever was
// answered as sealed comes back bit for bit, and training goes on.

#include <chrono>
#include <csignal>
#include <filesystem>
#include <set>
#include <string>
#include <thread>

#include <gtest/gtest.h>

#include "tests/daemon/daemon_process.h"
#include "tests/daemon/test_trainer.h"

namespace holdfast {
namespace {

using tests::DaemonProcess;
using tests::TestTrainer;

struct KillCase {
  const char* name;
  const char* failpoint;
  int passage;
};

class DaemonKillTest : public testing::TestWithParam<KillCase> {
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
    if (!trainer->Join(daemon_.socket(), "job", daemon_.root()).empty() ||
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
  ASSERT_EQ(next.Join(daemon_.socket(), "job", daemon_.root()), "");
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
  daemon_.Signal(SIGTERM);
  EXPECT_EQ(daemon_.WaitForEnd(), 0);
}

constexpr KillCase kCases[] = {
    {"FirstRecord", "catalog.before_apply", 1},
    {"ThirdRecord", "catalog.before_apply", 3},
    {"AfterThirdRecord", "catalog.after_apply", 3},
    {"AfterEighthRecord", "catalog.after_apply", 8},
    {"FirstSeal", "seal.before_record", 1},
    {"ThirdSeal", "seal.before_record", 3},
    {"AfterFirstSeal", "seal.after_record", 1},
    {"AfterThirdSeal", "seal.after_record", 3},
    {"BeforeFlush", "flush.before_image", 1},
    {"AfterFlush", "flush.after_image", 1},
    {"AfterSecondFlush", "flush.after_image", 2},
    {"BeforePublish", "flush.before_publish", 1},
    {"BeforeManifest", "publish.before_manifest", 1},
    {"AfterManifest", "publish.after_manifest", 1},
    {"SecondSlot", "slot.prepare", 2},
    {"FirstConnection", "session.accepted", 1},
};

INSTANTIATE_TEST_SUITE_P(AtEach, DaemonKillTest, testing::ValuesIn(kCases), [](const auto& info) {
  return std::string(info.param.name);
});

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

constexpr KillCase kFlushCases[] = {
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
  start.failpoints = "restore.before_load=kill@1";
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
