// Trainers that write their state while it is copied, on the simulated runtime (I7).  Races on
// device memory are the point here: not for ThreadSanitizer.
#include <gtest/gtest.h>

#include "client/copy_cuda/copy_cuda.h"
#include "common/mix64.h"
#include "tests/client/copy_cuda/sim_trainer.h"

namespace holdfast::client {
namespace {

class CudaTornCopyTest : public testing::Test {
 protected:
  static void Reset(std::uint64_t seed, int devices = 1) {
    cuda_sim::Options options;
    options.seed = seed;
    options.devices = devices;
    options.max_delay = std::chrono::microseconds(Mix64(seed) % 40);
    cuda_sim::Reset(options);
  }

  static CudaCopyOptions SmallWindows(std::uint32_t verify_every) {
    CudaCopyOptions options;
    options.threads = 2;
    options.window_bytes = 2 * kKiB;  // four at a time
    options.verify_every = verify_every;
    return options;
  }

  enum class Verdict { kWhole, kTorn, kMissed };  // missed: copied, with bytes of another step

  // Waits for a snapshot.
  static Verdict Judge(SimTrainer* trainer, std::int64_t step) {
    const CopyOutcome outcome = trainer->WaitDone(step);
    if (outcome.kind == CopyOutcome::Kind::kCopied) {
      return trainer->Landed(step) == trainer->Expected(step) ? Verdict::kWhole : Verdict::kMissed;
    }
    EXPECT_EQ(outcome.kind, CopyOutcome::Kind::kTorn) << outcome.reason;
    EXPECT_NE(outcome.reason.find("was written while step"), std::string::npos) << outcome.reason;
    return Verdict::kTorn;
  }
};

// A whole update that missed the fence: the sample finds it, unless the first tensor that is
// written is written just then, and its sampled block last.
TEST_F(CudaTornCopyTest, AnUpdateBeforeTheFenceIsFoundByTheSample) {
  int torn = 0;
  int missed = 0;
  for (std::uint64_t seed = 1; seed <= 250 && !HasFailure(); ++seed) {
    Reset(seed);
    SimTrainer trainer(seed, 1, false);
    CudaCopyEngine engine(SmallWindows(0));
    ASSERT_FALSE(engine.Adopt(trainer.Plan()).has_error());
    for (std::int64_t step = 1; step <= 3; ++step) {
      ASSERT_FALSE(trainer.Snapshot(&engine, step).has_error());
      trainer.Update();
      engine.WaitFence({});
      const Verdict verdict = Judge(&trainer, step);
      torn += verdict == Verdict::kTorn;
      missed += verdict == Verdict::kMissed;
    }
    engine.Stop();
  }
  EXPECT_GT(torn, 100) << "the updates never met a copy: nothing was tested";
  EXPECT_LE(missed * 50, torn);
}

// One element of one tensor, by a stream that nobody named: the device's digests find it always.
TEST_F(CudaTornCopyTest, AnyChangedElementIsFoundByTheDigests) {
  int torn = 0;
  for (std::uint64_t seed = 1; seed <= 250 && !HasFailure(); ++seed) {
    Reset(seed);
    SimTrainer trainer(seed, 1, false);
    CudaCopyEngine engine(SmallWindows(1));
    ASSERT_FALSE(engine.Adopt(trainer.Plan()).has_error());
    cudaStream_t other = nullptr;
    ASSERT_EQ(cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking), cudaSuccess);
    ASSERT_FALSE(trainer.Snapshot(&engine, 1).has_error());
    trainer.SynchronizeAll();  // the snapshot has begun on the device
    trainer.WriteOneElement(other);
    ASSERT_EQ(cudaStreamSynchronize(other), cudaSuccess);
    engine.WaitFence({});
    const Verdict verdict = Judge(&trainer, 1);
    EXPECT_NE(verdict, Verdict::kMissed) << "sealed rubbish: " << seed;
    torn += verdict == Verdict::kTorn;
    engine.Stop();
    ASSERT_EQ(cudaStreamDestroy(other), cudaSuccess);
  }
  EXPECT_GT(torn, 75) << "the writes never met a copy: nothing was tested";
}

// The copies wait until the element is written, so that it lands with each tensor that is not
// gathered at the snapshot's begin.
TEST_F(CudaTornCopyTest, EveryDeviceIsDigestedInEachSnapshotWhoseTurnItIs) {
  constexpr int kSteps = 3;
  int torn = 0;
  for (std::uint64_t seed = 1; seed <= 120 && !HasFailure(); ++seed) {
    Reset(seed, 2);
    SimTrainer trainer(seed, 2, false);
    CudaCopyEngine engine(SmallWindows(2));
    ASSERT_FALSE(engine.Adopt(trainer.Plan()).has_error());
    trainer.PinSlots(&engine, kSteps);
    ASSERT_EQ(cudaSetDevice(1), cudaSuccess);
    cudaStream_t other = nullptr;
    ASSERT_EQ(cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking), cudaSuccess);
    for (std::int64_t step = 1; step <= kSteps; ++step) {
      cuda_sim::HoldCopiesToHost(true);
      ASSERT_FALSE(trainer.Snapshot(&engine, step).has_error());
      trainer.SynchronizeAll();  // the snapshot has begun on the devices
      trainer.WriteOneElement(other, 1);
      ASSERT_EQ(cudaStreamSynchronize(other), cudaSuccess);
      cuda_sim::HoldCopiesToHost(false);
      engine.WaitFence({});
      const Verdict verdict = Judge(&trainer, step);
      if (step % 2 == 1) {
        EXPECT_NE(verdict, Verdict::kMissed) << "sealed rubbish: " << seed << ", step " << step;
        torn += verdict == Verdict::kTorn;
      }
    }
    engine.Stop();
    ASSERT_EQ(cudaStreamDestroy(other), cudaSuccess);
  }
  EXPECT_GT(torn, 20) << "the writes never met a copy: nothing was tested";
}

}  // namespace
}  // namespace holdfast::client
