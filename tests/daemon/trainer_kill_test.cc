// kill -9 of a real trainer at every failpoint of the client library: the daemon serves on, what
// was answered as sealed comes back bit for bit, and nothing half-done is left.

#include <csignal>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "holdfast/holdfast.h"
#include "tests/daemon/daemon_process.h"
#include "tests/daemon/kill_points.h"
#include "tests/daemon/root_check.h"
#include "tests/daemon/test_trainer.h"

namespace holdfast {
namespace {

using tests::DaemonProcess;
using tests::KillPoint;
using tests::kTrainerKillPoints;
using tests::TestTrainer;

constexpr int kNotKilled = 1;
constexpr int kCannotJoin = 2;

class TrainerKillTest : public testing::TestWithParam<KillPoint> {
 protected:
  void SetUp() override {
    ASSERT_TRUE(daemon_.StartAndWait());
    ASSERT_EQ(::pipe(sealed_), 0);
  }

  void TearDown() override {
    ::close(sealed_[0]);
    ::close(sealed_[1]);
    if (HasFailure()) {
      std::fputs(daemon_.Log().c_str(), stderr);
    }
  }

  // Restores and trains "first" to "last" in a process of its own, and says what was sealed; how
  // that process ended.
  int TrainInAProcess(std::int64_t first, std::int64_t last, const std::string& failpoints) {
    const pid_t child = ::fork();
    if (child == 0) {
      ::_exit(Train(first, last, failpoints));
    }
    int status = 0;
    EXPECT_EQ(::waitpid(child, &status, 0), child);
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  }

  int Train(std::int64_t first, std::int64_t last, const std::string& failpoints) {
    TestTrainer trainer;
    if (!trainer.Join(daemon_.socket(), "job", daemon_.root(), 1).empty() ||
        hf_arm_failpoints(failpoints.c_str()) != HF_OK || !trainer.Restore().has_value()) {
      return kCannotJoin;
    }
    for (std::int64_t step = first; step <= last; ++step) {
      if (trainer.SnapshotAndWait(step) && ::write(sealed_[1], &step, sizeof step) != sizeof step) {
        return kCannotJoin;
      }
    }
    return kNotKilled;
  }

  // The newest step that a killed process was told to be sealed.
  std::int64_t NewestSealed() {
    ::close(std::exchange(sealed_[1], -1));
    std::int64_t newest = -1;
    while (::read(sealed_[0], &newest, sizeof newest) == sizeof newest) {
    }
    return newest;
  }

  DaemonProcess daemon_;
  int sealed_[2] = {-1, -1};
};

// I1, I7, I12.
TEST_P(TrainerKillTest, NothingSealedIsLostAndTheNextIncarnationGoesOn) {
  ASSERT_EQ(TrainInAProcess(1, 2, ""), kNotKilled);
  const std::string failpoints =
      std::string(GetParam().failpoint) + "=kill@" + std::to_string(GetParam().passage);
  EXPECT_EQ(TrainInAProcess(3, 8, failpoints), 128 + SIGKILL) << "the failpoint was never passed";
  const std::int64_t sealed = NewestSealed();
  ASSERT_GE(sealed, 2);
  TestTrainer next;
  ASSERT_EQ(next.Join(daemon_.socket(), "job", daemon_.root(), 1), "");
  const auto restored = next.Restore();
  ASSERT_TRUE(restored.has_value()) << next.error();
  EXPECT_GE(*restored, sealed);
  EXPECT_TRUE(next.Holds(*restored));
  // Twice: what the first publish may not delete yet, since the root does not know of the restore's
  // end, the second does.
  ASSERT_TRUE(next.TrainUntilDurable(101).has_value()) << next.error();
  ASSERT_TRUE(next.TrainUntilDurable(111).has_value()) << next.error();
  EXPECT_EQ(tests::WaitForCleanRoot(daemon_.root()), std::vector<std::string>());
  std::string said;
  EXPECT_EQ(tests::VerifyRoot(daemon_.root(), &said), 0) << said;
  EXPECT_TRUE(daemon_.Alive());
}

INSTANTIATE_TEST_SUITE_P(AtEach,
                         TrainerKillTest,
                         testing::ValuesIn(kTrainerKillPoints),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace holdfast
