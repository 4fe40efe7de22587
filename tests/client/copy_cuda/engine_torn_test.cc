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
  static void Reset(std::uint64_t seed) {
    cuda_sim::Options options;
    options.seed = seed;
    options.max_delay = std::chrono::microseconds(Mix64(seed) % 40);
    cuda_sim::Reset(options);
  }

  static CudaCopyOptions SmallWindows(std::uint32_t verify_every) {
    CudaCopyOptions options;
    options.threads = 2;
    options.window_bytes = 8 * kKiB;
    options.verify_every = verify_every;
    return options;
  }

  // Waits for a snapshot; whether it is torn.  Never copied with other bytes than those of its
  // step.
  static bool IsTorn(SimTrainer* trainer, std::int64_t step, std::uint64_t seed) {
    const CopyOutcome outcome = trainer->WaitDone(step);
    if (outcome.kind == CopyOutcome::Kind::kCopied) {
      EXPECT_TRUE(trainer->Landed(step) == trainer->Expected(step)) << "sealed rubbish: " << seed;
      return false;
    }
    EXPECT_EQ(outcome.kind, CopyOutcome::Kind::kTorn) << outcome.reason;
    EXPECT_NE(outcome.reason.find("was written while step"), std::string::npos) << outcome.reason;
    return true;
  }
};

// A whole update that missed the fence: the sample alone finds it.
TEST_F(CudaTornCopyTest, AnUpdateBeforeTheFenceIsFoundByTheSample) {
  int torn = 0;
  for (std::uint64_t seed = 1; seed <= 250 && !HasFailure(); ++seed) {
    Reset(seed);
    SimTrainer trainer(seed, 1, false);
    CudaCopyEngine engine(SmallWindows(0));
    ASSERT_FALSE(engine.Adopt(trainer.Plan()).has_error());
    for (std::int64_t step = 1; step <= 3; ++step) {
      ASSERT_FALSE(trainer.Snapshot(&engine, step).has_error());
      trainer.Update();
      engine.WaitFence({});
      torn += IsTorn(&trainer, step, seed);
    }
    engine.Stop();
  }
  EXPECT_GT(torn, 100) << "the updates never met a copy: nothing was tested";
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
    torn += IsTorn(&trainer, 1, seed);
    engine.Stop();
    ASSERT_EQ(cudaStreamDestroy(other), cudaSuccess);
  }
  EXPECT_GT(torn, 75) << "the writes never met a copy: nothing was tested";
}

}  // namespace
}  // namespace holdfast::client
