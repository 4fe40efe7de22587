// Errors of the training itself that it has not fetched when the library is called: they are its
// own to find, whatever the library does meanwhile.
#include <gtest/gtest.h>

#include "client/copy_cuda/copy_cuda.h"
#include "tests/client/copy_cuda/sim_trainer.h"

namespace holdfast::client {
namespace {

class CudaPendingErrorTest : public testing::Test {
 protected:
  // A call of the training's that failed; nobody has looked.
  static void Provoke() {
    void* memory = nullptr;
    cuda_sim::FailCall("cudaMalloc", 1, kTrainings);
    EXPECT_EQ(cudaMalloc(&memory, 100), kTrainings);
  }

  static void ExpectPending(const char* call) {
    EXPECT_EQ(cudaPeekAtLastError(), kTrainings) << call;
  }

  void TearDown() override {
    EXPECT_EQ(cuda_sim::Violations(), std::vector<std::string>{});
    EXPECT_EQ(cuda_sim::Leaks().Total(), 0);
  }

  static constexpr cudaError_t kTrainings = cudaErrorInvalidConfiguration;

  struct FreshSimulator {
    FreshSimulator() {
      cuda_sim::Options options;
      options.devices = 2;
      cuda_sim::Reset(options);
    }
  } simulator_;  // before the trainer's streams are made
};

TEST_F(CudaPendingErrorTest, IsThereAfterEveryCallAndSnapshotsAreWhole) {
  SimTrainer trainer(10, 2, true);
  CudaCopyEngine engine(CudaCopyOptions{});
  Provoke();
  ASSERT_FALSE(engine.Adopt(trainer.Plan()).has_error());
  ExpectPending("Adopt");
  trainer.PinSlots(&engine, 3);
  for (std::int64_t step = 1; step <= 3; ++step) {
    ASSERT_FALSE(trainer.Snapshot(&engine, step).has_error());
    ExpectPending("Start");
    trainer.Forward();
    engine.WaitFence({});
    ExpectPending("WaitFence");
    trainer.Update();
    const CopyOutcome outcome = trainer.WaitDone(step);
    EXPECT_EQ(outcome.kind, CopyOutcome::Kind::kCopied) << outcome.reason;
    EXPECT_TRUE(trainer.Landed(step) == trainer.Expected(step));
    Provoke();  // the trainer of the test fetches what there is when it waits
  }
  engine.Stop();
  ExpectPending("Stop");
}

// Which calls of the library fail, and are no failure of it: an error that waits must outlast them,
// if not with its code, which a later error of the runtime replaces.
TEST_F(CudaPendingErrorTest, IsNotFetchedByTheLibraryForACallOfItsOwnThatFailed) {
  for (const char* call : {"cudaDeviceGetPCIBusId",
                           "cudaHostAlloc",
                           "cudaMalloc",
                           "cudaEventCreateWithFlags",
                           "cudaStreamIsCapturing",
                           "cudaEventRecord",
                           "cudaStreamWaitEvent",
                           "cudaThreadExchangeStreamCaptureMode"}) {
    SimTrainer trainer(10, 1, false);
    CudaCopyEngine engine(CudaCopyOptions{});
    Provoke();
    cuda_sim::FailCall(call, 1, cudaErrorUnknown);
    if (engine.Adopt(trainer.Plan()).has_value()) {
      EXPECT_NE(cudaPeekAtLastError(), cudaSuccess) << call << " in Adopt";
      static_cast<void>(trainer.Snapshot(&engine, 1));
      EXPECT_NE(cudaPeekAtLastError(), cudaSuccess) << call << " in Start";
      engine.WaitFence({});
      EXPECT_NE(cudaPeekAtLastError(), cudaSuccess) << call << " in WaitFence";
    }
    EXPECT_NE(cudaPeekAtLastError(), cudaSuccess) << call << " in Adopt";
    engine.Stop();
    EXPECT_NE(cudaGetLastError(), cudaSuccess) << call << " in Stop";
  }
}

// An error of a device that has failed for good: every call of the training's says it, before and
// after those of the library.
TEST_F(CudaPendingErrorTest, OfADeadDeviceIsSaidToWhoeverAsks) {
  SimTrainer trainer(11, 1, false);
  CudaCopyEngine engine(CudaCopyOptions{});
  ASSERT_FALSE(engine.Adopt(trainer.Plan()).has_error());
  ASSERT_FALSE(trainer.Snapshot(&engine, 1).has_error());
  static_cast<void>(cuda_sim::FaultInStream(trainer.Stream(0), cudaErrorIllegalAddress));
  const auto expect_said = [](const char* after) {
    EXPECT_EQ(cudaGetLastError(), cudaErrorIllegalAddress) << after;
    EXPECT_EQ(cudaDeviceSynchronize(), cudaErrorIllegalAddress) << after;
  };
  EXPECT_EQ(cudaStreamSynchronize(trainer.Stream(0)), cudaErrorIllegalAddress);
  engine.WaitFence({});
  expect_said("WaitFence");
  EXPECT_TRUE(trainer.Snapshot(&engine, 2).has_error());
  expect_said("Start");
  EXPECT_TRUE(engine.Adopt(trainer.Plan()).has_error());
  expect_said("Adopt");
  engine.Stop();
  expect_said("Stop");
}

}  // namespace
}  // namespace holdfast::client
