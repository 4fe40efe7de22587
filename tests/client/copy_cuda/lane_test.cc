// A snapshot's way through a lane, step by step, on the simulated runtime.
#include "client/copy_cuda/lane.h"

#include <set>
#include <thread>

#include <gtest/gtest.h>

#include "client/copy_cuda/slot_registration.h"
#include "tests/client/copy_cuda/sim_trainer.h"
#include "tests/support/cuda_sim/gate.h"

namespace holdfast::client {
namespace {

using std::chrono::milliseconds;

constexpr ByteCount kWindowBytes = 512;

// Hands a job on to the test, with its slot pinned.
class Catcher final : public CopyEngine {
 public:
  std::shared_ptr<CopyJob> job;

  Status Adopt(std::shared_ptr<const CopyPlan> /*plan*/) override { return Ok(); }

  Status Prepare(std::shared_ptr<SlotMapping> /*slot*/, SlotReady /*ready*/) override {
    return Ok();
  }

  Status Start(std::shared_ptr<CopyJob> started, JobDone /*done*/) override {
    job = std::move(started);
    HF_TRY(auto pin, SlotRegistration::Make(*job->slot, 0));
    job->slot->SetPin(std::move(pin));
    return Ok();
  }

  [[nodiscard]] std::string Busy() const override { return ""; }

  bool WaitFence(std::span<const DeviceStream> /*streams*/) override { return true; }

  void Stop() override {}
};

class LaneTest : public testing::Test {
 protected:
  void SetUp() override {
    cuda_sim::Options options;
    options.max_delay = milliseconds(1);  // so that a snapshot takes some 20 ms
    cuda_sim::Reset(options);
    trainer_ = std::make_unique<SimTrainer>(11, 1, false);
    lane_ = Lane::Make(0, 0.5).value();
    ASSERT_FALSE(lane_->Adopt(trainer_->Plan(), kWindowBytes, kMiB, 2).has_error());
    ASSERT_GT(lane_->Plan().Windows().size(), 20U);
  }

  void TearDown() override {
    lane_.reset();
    catcher_.job.reset();
    trainer_.reset();
    EXPECT_EQ(cuda_sim::Violations(), std::vector<std::string>{});
    EXPECT_EQ(cuda_sim::Leaks().Total(), 0);
  }

  // Begun in the order of the trainer's stream.
  std::unique_ptr<Flight> Begin(std::int64_t step) {
    EXPECT_FALSE(trainer_->Snapshot(&catcher_, step).has_error());
    auto flight = std::make_unique<Flight>(lane_.get(), catcher_.job, lane_->rooms().Take());
    flight->Begin(trainer_->Stream(0), false);
    return flight;
  }

  // As the engine does it: the fence, the end, and what is learnt of it.  Every Landed() after the
  // fence has opened is kept.  The update comes to the fence before the copies are done, by more
  // than staging must be worth; "late" keeps it back until they are.
  std::set<ByteCount> Fence(Flight* flight, cuda_sim::Gate* late = nullptr) {
    cuda_sim::HoldCopiesToHost(late == nullptr);
    while (!flight->Released()) {
      flight->Advance(true, true);
    }
    std::vector<HeldBack> held;
    held.push_back(flight->HoldBack(trainer_->Stream(0)).value());
    while (late == nullptr && cudaEventQuery(held.front().before.get()) != cudaSuccess) {
      std::this_thread::yield();
    }
    std::this_thread::sleep_for(2 * kWorthStaging);
    cuda_sim::HoldCopiesToHost(false);
    std::set<ByteCount> landed;
    while (!flight->Ended()) {
      flight->Advance(true, true);
      landed.insert(flight->Landed());
    }
    if (late != nullptr) {
      late->Open();
    }
    EXPECT_FALSE(flight->Failure().has_value());
    EXPECT_EQ(flight->Landed(), trainer_->Plan()->ImageBytes());
    trainer_->SynchronizeAll();
    flight->NoteWait(held);
    lane_->Tidy();
    lane_->rooms().Return(flight->room());
    return landed;
  }

  // Everything of it.
  static void Issue(Flight* flight) {
    while (!flight->Issued()) {
      flight->Advance(true, true);
    }
  }

  void AwaitEnd(Flight* flight) {
    while (!flight->Ended()) {
      flight->Advance(true, true);
    }
    EXPECT_FALSE(flight->Failure().has_value());
    lane_->rooms().Return(flight->room());
  }

  // What windows have copied of an image; the engine's workers place the rest.
  std::string OfWindows(const std::string& image) {
    std::string bytes;
    for (const TensorPiece& piece : lane_->Plan().Pieces()) {
      bytes += image.substr(trainer_->Plan()->Tensors()[piece.tensor].offset + piece.offset,
                            piece.bytes);
    }
    return bytes;
  }

  // Snapshots whose update comes at once, until they are staged.
  void LearnThatStagingHelps() {
    for (std::int64_t step = 1; step <= 2; ++step) {
      Fence(Begin(step).get());
    }
  }

  Catcher catcher_;
  std::unique_ptr<SimTrainer> trainer_;
  std::unique_ptr<Lane> lane_;
};

// What was staged would else be digested only when all of it has landed.
TEST_F(LaneTest, EachStagedWindowIsToldAsItLands) {
  LearnThatStagingHelps();
  const auto flight = Begin(3);
  EXPECT_GT(Fence(flight.get()).size(), 8U);
}

TEST_F(LaneTest, TheFenceOpensBeforeTheStagedWindowsAreIssued) {
  LearnThatStagingHelps();
  const auto flight = Begin(3);
  while (!flight->Released()) {
    flight->Advance(true, true);
  }
  EXPECT_FALSE(flight->Issued());
  Fence(flight.get());
}

// The host comes to the fence at once, its device long after the copies would have been done.
TEST_F(LaneTest, AnUpdateThatWouldNotHaveWaitedIsNotStagedAgain) {
  LearnThatStagingHelps();
  const auto late = Begin(3);
  cuda_sim::Gate gate;
  ASSERT_EQ(gate.Hold(trainer_->Stream(0)), cudaSuccess);
  Fence(late.get(), &gate);
  const auto next = Begin(4);
  next->Advance(false, true);
  EXPECT_TRUE(next->Issued()) << "windows are held back for staging";
  Fence(next.get());
}

TEST_F(LaneTest, AnUpdateThatWouldHaveWaitedIsStagedAgain) {
  LearnThatStagingHelps();
  for (std::int64_t step = 3; step <= 5; ++step) {
    const auto flight = Begin(step);
    flight->Advance(false, true);
    EXPECT_FALSE(flight->Issued()) << "step " << step << " is not staged";
    Fence(flight.get());
  }
}

// Iterations shorter than the copies: more than the link carries is not asked of it, and it has
// something to carry while the update writes.  I7: what is staged is not written over before it has
// left for the host.
TEST_F(LaneTest, BehindAnotherSnapshotOnlyTheTailIsStaged) {
  LearnThatStagingHelps();
  const std::size_t windows = lane_->Plan().Windows().size();
  cuda_sim::HoldCopiesToHost(true);
  const auto first = Begin(3);
  Issue(first.get());
  EXPECT_GT(first->StagedWindows(), windows / 2);
  ASSERT_TRUE(first->HoldBack(trainer_->Stream(0)).has_value());
  trainer_->Update();
  const auto second = Begin(4);
  Issue(second.get());
  const HeldBack held = second->HoldBack(trainer_->Stream(0)).value();
  EXPECT_GE(second->StagedWindows(), 1U);
  EXPECT_LE(second->StagedWindows(), windows / 8 + 1);
  trainer_->Update();
  EXPECT_EQ(cudaEventQuery(held.after.get()), cudaErrorNotReady) << "the link is behind";
  cuda_sim::HoldCopiesToHost(false);
  AwaitEnd(first.get());
  AwaitEnd(second.get());
  trainer_->SynchronizeAll();
  const auto third = Begin(5);
  Issue(third.get());
  EXPECT_GT(third->StagedWindows(), windows / 2) << "nothing lies in its way any more";
  AwaitEnd(third.get());
  trainer_->SynchronizeAll();
  for (std::int64_t step = 3; step <= 5; ++step) {
    EXPECT_TRUE(OfWindows(trainer_->Landed(step)) == OfWindows(trainer_->Expected(step)))
        << "step " << step;
  }
}

// The host comes to the fence when the snapshot before has left, as after an update that waited for
// the link; its own copies began before that.
TEST_F(LaneTest, OnlyTheTailIsStagedWhereTheLinkWasBehindAtTheBegin) {
  LearnThatStagingHelps();
  cuda_sim::HoldCopiesToHost(true);
  const auto first = Begin(3);
  Issue(first.get());
  const auto second = Begin(4);
  ASSERT_EQ(cudaStreamSynchronize(trainer_->Stream(0)), cudaSuccess);
  std::this_thread::sleep_for(milliseconds(1));
  cuda_sim::HoldCopiesToHost(false);
  AwaitEnd(first.get());
  Issue(second.get());
  EXPECT_GE(second->StagedWindows(), 1U);
  EXPECT_LE(second->StagedWindows(), lane_->Plan().Windows().size() / 8 + 1);
  AwaitEnd(second.get());
}

}  // namespace
}  // namespace holdfast::client
