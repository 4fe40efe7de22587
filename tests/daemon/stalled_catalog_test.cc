// L: a daemon whose catalog cannot be written for a while makes training skip snapshots; afterwards
// they go on, whatever was asked meanwhile.

#include <fstream>
#include <string>

#include <gtest/gtest.h>
#include <unistd.h>

#include "holdfast/client.h"
#include "tests/daemon/daemon_process.h"
#include "tests/daemon/raw_client.h"
#include "tests/daemon/raw_trainer.h"
#include "tests/daemon/test_trainer.h"

namespace holdfast {
namespace {

using tests::DaemonProcess;
using tests::RawClient;
using tests::TestTrainer;

constexpr int kRequests = 4;  // clients.max_requests

class StalledCatalogTest : public testing::Test {
 protected:
  void SetUp() override {
    LetWrite(true);
    DaemonProcess::Start start;
    start.config = "[clients]\nmax_requests = " + std::to_string(kRequests) + "\n";
    start.failpoints = "catalog.apply.before=wait:" + Gate();
    ASSERT_TRUE(daemon_.StartAndWait(start));
  }

  void TearDown() override {
    LetWrite(true);
    EXPECT_EQ(hf_arm_failpoints(""), HF_OK);
    EXPECT_TRUE(daemon_.Alive());
    if (HasFailure()) {
      std::fputs(daemon_.Log().c_str(), stderr);
    }
  }

  [[nodiscard]] std::string Gate() const { return daemon_.folder() + "/gate"; }

  void LetWrite(bool let) {
    if (let) {
      std::ofstream(Gate()) << "open";
    } else {
      ASSERT_EQ(::unlink(Gate().c_str()), 0);
    }
  }

  // Later answers of all sessions wait behind this record.
  void Stall(RawClient* other) {
    LetWrite(false);
    proto::ClientMessage open;
    open.mutable_open_incarnation()->set_job_name("other");
    open.mutable_open_incarnation()->set_world_size(1);
    ASSERT_TRUE(other->Send(open));
    proto::ClientMessage list;
    list.mutable_list();
    // Once one request more is refused than may wait, the record is on its way.  The first few may
    // be answered before that.
    constexpr int kAnsweredBefore = 20;
    bool refused = false;
    for (int i = 0; i < kRequests + kAnsweredBefore && !refused; ++i) {
      refused = !other->Send(list);
    }
    for (int i = 0; i <= kAnsweredBefore && !refused; ++i) {
      refused = other->Receive().has_error();
    }
    ASSERT_TRUE(refused);
  }

  // While it cannot be written "step" is copied, some steps after it are missed, and it is sealed.
  void StallAtTheSealOf(std::int64_t step, TestTrainer* trainer) {
    ASSERT_TRUE(trainer->client().WaitReady(20'000).ok());
    RawClient other(daemon_.socket());
    other.Hello();
    ASSERT_NO_FATAL_FAILURE(Stall(&other));
    ASSERT_EQ(hf_arm_failpoints("client.copy.chunk=stall"), HF_OK);
    ASSERT_TRUE(trainer->Begin(step)) << trainer->error();
    for (std::int64_t missed = step + 1; missed < step + 9; ++missed) {
      EXPECT_FALSE(trainer->Begin(missed));
    }
    ASSERT_EQ(hf_arm_failpoints(""), HF_OK);
    ASSERT_TRUE(trainer->client().Fence().ok());
    EXPECT_FALSE(trainer->client().WaitSealed(step, 200).ok()) << "the catalog is not stalled";
    LetWrite(true);
  }

  DaemonProcess daemon_;
};

TEST_F(StalledCatalogTest, SnapshotsGoOnAfterASealAmongMissedSteps) {
  TestTrainer trainer;
  ASSERT_EQ(trainer.Join(daemon_.socket(), "job"), "");
  ASSERT_EQ(trainer.Restore(), -1) << trainer.error();
  for (std::int64_t step = 1; step <= 3; ++step) {
    ASSERT_TRUE(trainer.SnapshotAndWait(step)) << trainer.error();
  }
  // More often than a rank has slots.
  for (std::int64_t step = 10; step < 50; step += 10) {
    ASSERT_NO_FATAL_FAILURE(StallAtTheSealOf(step, &trainer));
    EXPECT_TRUE(trainer.client().WaitSealed(step, 20'000).ok()) << step;
    ASSERT_TRUE(trainer.SnapshotAndWait(step + 9)) << step << ": " << trainer.error();
  }
}

}  // namespace
}  // namespace holdfast
