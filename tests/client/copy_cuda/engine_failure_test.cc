// What can go wrong around the CUDA copy engine, played on the simulated runtime.
#include <gtest/gtest.h>

#include "client/copy_cuda/copy_cuda.h"
#include "client/copy_cuda/lane_plan.h"
#include "common/crc32c.h"
#include "common/mix64.h"
#include "tests/client/copy_cuda/sim_trainer.h"
#include "tests/client/few_threads.h"
#include "tests/support/sanitized.h"

namespace holdfast::client {
namespace {

using std::chrono::microseconds;

constexpr std::uint64_t kSeeds = UnlessSanitized(400, 100);

cuda_sim::Options SimOf(std::uint64_t seed, int devices = 1) {
  cuda_sim::Options options;
  options.seed = seed;
  options.devices = devices;
  options.max_delay = microseconds(Mix64(seed) % 30);
  return options;
}

CudaCopyOptions SmallWindows() {
  CudaCopyOptions options;
  options.threads = 2;
  options.window_bytes = 8 * kKiB;
  return options;
}

// What the engine calls for a snapshot.
constexpr const char* kCalls[] = {"cudaEventCreateWithFlags",
                                  "cudaEventQuery",
                                  "cudaEventRecord",
                                  "cudaGetDevice",
                                  "cudaMemcpyAsync",
                                  "cudaMemcpyBatchAsync",
                                  "cudaSetDevice",
                                  "cudaStreamIsCapturing",
                                  "cudaStreamWaitEvent",
                                  "cudaThreadExchangeStreamCaptureMode"};

class CudaEngineFailureTest : public testing::Test {
 protected:
  void TearDown() override { EXPECT_EQ(cuda_sim::Violations(), std::vector<std::string>{}); }

  // Whether the slot of a snapshot that counts as copied holds the state at its step.
  static void ExpectNothingWrong(SimTrainer* trainer, std::int64_t step, std::uint64_t seed) {
    const CopyOutcome outcome = trainer->WaitDone(step);
    if (outcome.kind == CopyOutcome::Kind::kCopied) {
      const std::string expected = trainer->Expected(step);
      EXPECT_TRUE(trainer->Landed(step) == expected) << "seed " << seed << " sealed rubbish";
      EXPECT_TRUE(outcome.chunk_crc32c == ChunkDigests(AsBytes(expected))) << "seed " << seed;
    } else {
      EXPECT_NE(outcome.reason, "") << "seed " << seed;
    }
  }

  // One of three snapshots, or more, meets "times" errors in a row of one call.  How many failed.
  static int FailedOfThree(std::uint64_t seed, int times) {
    cuda_sim::Reset(SimOf(seed));
    int failed = 0;
    {
      SimTrainer trainer(seed, 1, seed % 3 == 0);
      CudaCopyEngine engine(SmallWindows());
      EXPECT_FALSE(engine.Adopt(trainer.Plan()).has_error());
      if (engine.Pins()) {  // some tensor is on the device
        // Without it the runtime waits in each call for its copies.
        trainer.PinSlots(&engine, 5 + times);
      }
      for (int i = 0; i < times; ++i) {
        cuda_sim::FailCall(kCalls[seed % std::size(kCalls)],
                           1 + static_cast<int>(Mix64(seed) % 12),
                           cudaErrorUnknown);
      }
      for (std::int64_t step = 1; step <= 3; ++step) {
        failed += !Step(&engine, &trainer, step, seed);
      }
      // The errors may be still to come; the one after them is good in any case.
      bool good = false;
      for (std::int64_t step = 8; step < 10 + times && !good; ++step) {
        good = Step(&engine, &trainer, step, seed);
      }
      EXPECT_TRUE(good) << "seed " << seed;
      engine.Stop();
    }
    EXPECT_EQ(cuda_sim::Violations(), std::vector<std::string>{}) << "seed " << seed;
    EXPECT_EQ(cuda_sim::Leaks().Total(), 0) << "seed " << seed;
    return failed;
  }

  // Whether the snapshot was copied.
  static bool Step(CudaCopyEngine* engine,
                   SimTrainer* trainer,
                   std::int64_t step,
                   std::uint64_t seed) {
    const bool begun = trainer->Snapshot(engine, step).has_value();
    EXPECT_EQ(cudaPeekAtLastError(), cudaSuccess) << "an error of ours was left to the trainer";
    trainer->Forward();
    engine->WaitFence({});
    EXPECT_EQ(cudaPeekAtLastError(), cudaSuccess) << "an error of ours was left to the trainer";
    trainer->Update();
    if (!begun) {
      return false;
    }
    ExpectNothingWrong(trainer, step, seed);
    return trainer->WaitDone(step).kind == CopyOutcome::Kind::kCopied;
  }
};

// I7, I12: an error at any call of the runtime fails that snapshot and no other, hangs nobody, and
// leaves nothing behind; what was issued before it has landed when the snapshot is told to be over.
TEST_F(CudaEngineFailureTest, AnErrorAtAnyCallCostsOneSnapshot) {
  int failed = 0;
  for (std::uint64_t seed = 1; seed <= kSeeds && !HasFailure(); ++seed) {
    failed += FailedOfThree(seed, 1);
  }
  EXPECT_GT(failed, static_cast<int>(kSeeds / 4)) << "the errors never met the engine";
}

// I7: a call that is refused again and again on a device that works on.
TEST_F(CudaEngineFailureTest, AnErrorThatStaysForSomeCallsLetsNothingLandAfterTheEnd) {
  int failed = 0;
  for (std::uint64_t seed = 1; seed <= kSeeds && !HasFailure(); ++seed) {
    failed += FailedOfThree(seed, 2 + static_cast<int>(seed / std::size(kCalls) % 5));
  }
  EXPECT_GT(failed, static_cast<int>(kSeeds / 4)) << "the errors never met the engine";
}

// I7: however often it is refused to say whether the copies have landed, it is not believed while
// the device does other things.
TEST_F(CudaEngineFailureTest, QueriesThatAreRefusedOverAndOverAreNotTakenForTheEnd) {
  constexpr int kRefused = 40;
  cuda_sim::Reset(SimOf(2));
  SimTrainer trainer(2, 1, false);
  CudaCopyEngine engine(SmallWindows());
  ASSERT_FALSE(engine.Adopt(trainer.Plan()).has_error());
  trainer.PinSlots(&engine, 1);
  for (int i = 0; i < kRefused; ++i) {
    cuda_sim::FailCall("cudaEventQuery", 1, cudaErrorUnknown);
    cuda_sim::FailCall("cudaStreamQuery", 1, cudaErrorUnknown);
  }
  cuda_sim::HoldCopiesToHost(true);
  ASSERT_FALSE(trainer.Snapshot(&engine, 1).has_error());
  engine.WaitFence({});
  trainer.Update();
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while (!trainer.Done(1) && cuda_sim::CallCount("cudaStreamQuery") <= kRefused &&
         std::chrono::steady_clock::now() < deadline) {
    std::this_thread::sleep_for(microseconds(100));
  }
  EXPECT_FALSE(trainer.Done(1));
  cuda_sim::HoldCopiesToHost(false);
  ExpectNothingWrong(&trainer, 1, 2);
  EXPECT_EQ(trainer.WaitDone(1).kind, CopyOutcome::Kind::kCopied);
  engine.Stop();
}

// A device that has failed for good, alone or beside one that has not: every snapshot fails, nobody
// hangs, and the training finds its own error where it was.  What the other one copies has landed
// before the snapshot ends (I7).
TEST_F(CudaEngineFailureTest, ADeadDeviceEndsSnapshotsAndNothingElse) {
  for (std::uint64_t seed = 1; seed <= kSeeds / 2 && !HasFailure(); ++seed) {
    const int devices = 1 + static_cast<int>(seed % 2);
    cuda_sim::Reset(SimOf(seed, devices));
    SimTrainer trainer(seed, devices, false);
    cudaStream_t const failing = trainer.Stream(devices - 1);
    CudaCopyEngine engine(SmallWindows());
    ASSERT_FALSE(engine.Adopt(trainer.Plan()).has_error());
    trainer.PinSlots(&engine, 4);
    std::vector<std::int64_t> begun;
    for (std::int64_t step = 1; step <= 4; ++step) {
      if (step == 2) {
        static_cast<void>(cuda_sim::FaultInStream(failing, cudaErrorIllegalAddress));
      }
      if (trainer.Snapshot(&engine, step).has_value()) {
        begun.push_back(step);
      }
      engine.WaitFence({});
      trainer.Update();
    }
    for (const std::int64_t step : begun) {
      const CopyOutcome outcome = trainer.WaitDone(step);
      EXPECT_TRUE(step == 1 || outcome.kind != CopyOutcome::Kind::kCopied) << "seed " << seed;
    }
    EXPECT_EQ(cudaStreamSynchronize(failing), cudaErrorIllegalAddress);
    engine.Stop();
    EXPECT_EQ(cuda_sim::Violations(), std::vector<std::string>{}) << "seed " << seed;
  }
}

// The slots of a process whose memory lock limit is too small: copies go through pageable memory.
TEST_F(CudaEngineFailureTest, SlotsThatCannotBePinnedAreFilledAllTheSame) {
  cuda_sim::Reset(SimOf(1));
  SimTrainer trainer(1, 1, false);
  CudaCopyEngine engine(SmallWindows());
  ASSERT_FALSE(engine.Adopt(trainer.Plan()).has_error());
  cuda_sim::FailCall("cudaHostRegister", 1, cudaErrorMemoryAllocation);
  std::atomic<int> ready{0};
  for (int i = 0; i < 2; ++i) {
    ASSERT_FALSE(engine
                     .Prepare(MakeSlot(trainer.Layout()),
                              [&](const Status& status) { ready += status.has_value(); })
                     .has_error());
  }
  while (ready < 2) {
    std::this_thread::yield();
  }
  EXPECT_EQ(engine.State().unpinned_slots, 1U);
  EXPECT_EQ(engine.State().pinned_slots, 1U);
  EXPECT_NE(engine.State().note.find("cudaHostRegister"), std::string::npos);
  ASSERT_FALSE(trainer.Snapshot(&engine, 1).has_error());
  engine.WaitFence({});
  trainer.Update();
  ExpectNothingWrong(&trainer, 1, 1);
  EXPECT_EQ(trainer.WaitDone(1).kind, CopyOutcome::Kind::kCopied);
  engine.Stop();
}

// The rate is what a user sees of it: slots pinned or not, buffers pinned or not.
TEST_F(CudaEngineFailureTest, CopiesIntoMemoryThatIsNotPinnedAreCountedWithTheirTime) {
  for (const bool pinned : {true, false}) {
    cuda_sim::Reset(SimOf(1));
    SimTrainer trainer(1, 1, false);
    CudaCopyEngine engine(SmallWindows());
    ASSERT_FALSE(engine.Adopt(trainer.Plan()).has_error());
    if (pinned) {
      trainer.PinSlots(&engine, 1);
    }
    ASSERT_FALSE(trainer.Snapshot(&engine, 1).has_error());
    engine.WaitFence({});
    trainer.Update();
    ExpectNothingWrong(&trainer, 1, 1);
    engine.Stop();
    const LanePlan plan(trainer.Plan(), 0, 8 * kKiB);
    ByteCount large = 0;
    for (const CopyWindow& window : plan.Windows()) {
      large += window.bytes;
    }
    ASSERT_GT(large, 0U);
    EXPECT_EQ(engine.State().unpinned.bytes, pinned ? 0 : large);
    EXPECT_EQ(engine.State().unpinned.took.count() > 0, !pinned);
  }
}

// The memory lock limit again, for the engine's own buffers: no error for the training, one note.
TEST_F(CudaEngineFailureTest, BuffersThatCannotBePinnedMakeSnapshotsSlowerAndNothingElse) {
  for (std::uint64_t seed = 1; seed <= 60 && !HasFailure(); ++seed) {
    cuda_sim::Reset(SimOf(seed));
    {
      SimTrainer trainer(seed, 1, seed % 3 == 0);
      CudaCopyEngine engine(SmallWindows());
      const int refused =
          1 + static_cast<int>(seed % 6);  // of six: the last room, which is used, has two
      for (int i = 0; i < refused; ++i) {
        cuda_sim::FailCall("cudaHostAlloc", 1, cudaErrorMemoryAllocation);
      }
      const Status adopted = engine.Adopt(trainer.Plan());
      ASSERT_FALSE(adopted.has_error()) << adopted.error().ToString();
      EXPECT_EQ(cudaPeekAtLastError(), cudaSuccess) << "an error of ours was left to the trainer";
      ASSERT_TRUE(engine.Pins());
      trainer.PinSlots(&engine, 4);
      for (std::int64_t step = 1; step <= 4; ++step) {
        EXPECT_TRUE(Step(&engine, &trainer, step, seed)) << "seed " << seed;
      }
      engine.Stop();
      const EngineState state = engine.State();
      EXPECT_EQ(state.note,
                "buffers cannot be pinned, so snapshots wait for their copies: cudaHostAlloc: "
                "cudaErrorMemoryAllocation (out of memory)");
      EXPECT_EQ(refused >= 5, state.unpinned.bytes > 0) << "seed " << seed;
    }
    EXPECT_EQ(cuda_sim::Violations(), std::vector<std::string>{}) << "seed " << seed;
    EXPECT_EQ(cuda_sim::Leaks().Total(), 0) << "seed " << seed;
  }
}

TEST_F(CudaEngineFailureTest, ASnapshotInAGraphCaptureIsRefusedAndTheGraphIsWhole) {
  cuda_sim::Reset(SimOf(3));
  SimTrainer trainer(3, 1, false);
  CudaCopyEngine engine(SmallWindows());
  ASSERT_FALSE(engine.Adopt(trainer.Plan()).has_error());
  ASSERT_FALSE(trainer.Snapshot(&engine, 1).has_error());
  cuda_sim::BeginCapture(trainer.Stream(0));
  engine.WaitFence({});  // the host waits: the graph must not hold a wait for our event
  const Status refused = trainer.Snapshot(&engine, 2);
  ASSERT_TRUE(refused.has_error());
  EXPECT_EQ(refused.error().code, Errc::kInvalidArgument);
  EXPECT_NE(refused.error().message.find("CUDA graph"), std::string::npos);
  EXPECT_EQ(cuda_sim::EndCapture(trainer.Stream(0)), cudaSuccess);
  EXPECT_EQ(cuda_sim::Violations(), std::vector<std::string>{});
  EXPECT_EQ(trainer.WaitDone(1).kind, CopyOutcome::Kind::kCopied);
  engine.Stop();
}

TEST_F(CudaEngineFailureTest, ATrainerWithoutDriverIsToldWhy) {
  cuda_sim::Reset(SimOf(5));
  SimTrainer trainer(5, 1, false);
  CudaCopyEngine engine(SmallWindows());
  cuda_sim::FailCall("cudaSetDevice", 1, cudaErrorInsufficientDriver);
  const Status adopted = engine.Adopt(trainer.Plan());
  ASSERT_TRUE(adopted.has_error());
  EXPECT_EQ(adopted.error().code, Errc::kUnavailable);
  engine.Stop();
}

// A full pids cgroup must not end the trainer.  The engine needs its copy thread and a worker.
TEST_F(CudaEngineFailureTest, ThreadsThatAreRefusedCostSpeedOrSnapshotsAndNothingElse) {
  for (int granted = 0; granted <= 3; ++granted) {
    cuda_sim::Reset(SimOf(3));
    SimTrainer trainer(3, 1, true);
    CudaCopyOptions options = SmallWindows();
    options.threads = 4;
    options.start_thread = FewThreads(granted);
    CudaCopyEngine engine(options);
    const Status adopted = engine.Adopt(trainer.Plan());
    ASSERT_EQ(adopted.has_error(), granted < 2) << granted;
    if (granted < 2) {
      EXPECT_EQ(adopted.error().code, Errc::kIoError);
      EXPECT_EQ(adopted.error().message,
                "the copy engine for devices: cannot start a thread: there are no more");
      const Status queued =
          engine.Prepare(MakeSlot(trainer.Layout()), [](const Status&) { ADD_FAILURE(); });
      EXPECT_TRUE(queued.has_error()) << "nobody would ever answer";
      continue;
    }
    trainer.PinSlots(&engine, 2);
    for (std::int64_t step = 1; step <= 2; ++step) {
      EXPECT_TRUE(Step(&engine, &trainer, step, 3)) << granted;
    }
    engine.Stop();
  }
}

TEST_F(CudaEngineFailureTest, TooMuchToGatherIsRefusedWithTheNumbers) {
  cuda_sim::Reset(SimOf(6));
  SimTrainer trainer(6, 1, false);
  CudaCopyOptions options = SmallWindows();
  options.most_gathered = 256;
  CudaCopyEngine engine(options);
  const Status adopted = engine.Adopt(trainer.Plan());
  ASSERT_TRUE(adopted.has_error());
  EXPECT_EQ(adopted.error().code, Errc::kNoSpace);
  EXPECT_NE(adopted.error().message.find("256 B"), std::string::npos) << adopted.error().message;
  engine.Stop();
}

}  // namespace
}  // namespace holdfast::client
