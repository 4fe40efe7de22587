// What the engine does beside a training that captures a CUDA graph, played on the simulated
// runtime: a call that the capture's mode forbids would break the capture.
#include <atomic>
#include <thread>

#include <gtest/gtest.h>

#include "client/copy_cuda/copy_cuda.h"
#include "client/copy_cuda/slot_registration.h"
#include "tests/client/copy_cuda/sim_trainer.h"

namespace holdfast::client {
namespace {

class CudaEngineCaptureTest : public testing::Test {
 protected:
  void ExpectCaptureWhole() {
    EXPECT_EQ(cuda_sim::EndCapture(trainer_.Stream(0)), cudaSuccess);
    EXPECT_EQ(cuda_sim::Violations(), std::vector<std::string>{});
  }

  struct FreshSimulator {
    FreshSimulator() { cuda_sim::Reset({}); }
  } simulator_;  // before the trainer's streams are made

  SimTrainer trainer_{3, 1, false};
};

TEST_F(CudaEngineCaptureTest, ASlotIsPinnedInTheBackgroundOfACapture) {
  CudaCopyEngine engine(CudaCopyOptions{});
  ASSERT_FALSE(engine.Adopt(trainer_.Plan()).has_error());
  cuda_sim::BeginCapture(trainer_.Stream(0));
  std::atomic<bool> ready = false;
  auto slot = MakeSlot(trainer_.Layout());
  ASSERT_FALSE(engine.Prepare(slot, [&](const Status&) { ready = true; }).has_error());
  while (!ready) {
    std::this_thread::yield();
  }
  ExpectCaptureWhole();
  EXPECT_EQ(engine.State().pinned_slots, 1U);
  EXPECT_EQ(engine.State().unpinned_slots, 0U);
  slot.reset();
  engine.Stop();
}

// As the connection's thread does with slots that were revoked.
TEST_F(CudaEngineCaptureTest, ASlotIsGivenBackInTheBackgroundOfACapture) {
  auto slot = MakeSlot(trainer_.Layout());
  slot->SetPin(SlotRegistration::Make(*slot, 0).value());
  cuda_sim::BeginCapture(trainer_.Stream(0));
  std::thread([&] { slot.reset(); }).join();
  ExpectCaptureWhole();
}

TEST_F(CudaEngineCaptureTest, ALayoutMayBeAdoptedAndDroppedByTheThreadThatCaptures) {
  CudaCopyEngine engine(CudaCopyOptions{});
  cuda_sim::BeginCapture(trainer_.Stream(0));
  EXPECT_FALSE(engine.Adopt(trainer_.Plan()).has_error());
  engine.Stop();
  ExpectCaptureWhole();
  // The thread's own mode is what it was.
  cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
  ASSERT_EQ(cudaThreadExchangeStreamCaptureMode(&mode), cudaSuccess);
  EXPECT_EQ(mode, cudaStreamCaptureModeGlobal);
  ASSERT_EQ(cudaThreadExchangeStreamCaptureMode(&mode), cudaSuccess);
}

}  // namespace
}  // namespace holdfast::client
