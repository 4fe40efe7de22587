// The engine of a library that was built without nvcc: copies in place of its kernels (I7).
#include <gtest/gtest.h>

#include "client/copy_cuda/copy_cuda.h"
#include "client/copy_cuda/device_code.h"
#include "tests/client/copy_cuda/seed_exploration.h"
#include "tests/client/copy_cuda/sim_trainer.h"

namespace holdfast::client {
namespace {

TEST(CudaEngineWithoutDeviceCodeTest, SealsWhatTheStateWasInAnyOrder) {
  ASSERT_FALSE(HasDeviceCode());
  for (std::uint64_t seed = 1; seed <= 100 && !testing::Test::HasFailure(); ++seed) {
    EXPECT_EQ(ExploreSeed(seed), std::vector<std::string>{}) << "seed " << seed;
  }
}

// The first block of each tensor is compared, so a whole update is found there too.
TEST(CudaEngineWithoutDeviceCodeTest, FindsAnUpdateBeforeTheFence) {
  int torn = 0;
  for (std::uint64_t seed = 1; seed <= 40; ++seed) {
    cuda_sim::Options options;
    options.seed = seed;
    cuda_sim::Reset(options);
    SimTrainer trainer(seed, 1, false);
    CudaCopyEngine engine(CudaCopyOptions{});
    ASSERT_FALSE(engine.Adopt(trainer.Plan()).has_error());
    ASSERT_FALSE(trainer.Snapshot(&engine, 1).has_error());
    trainer.Update();
    engine.WaitFence({});
    const CopyOutcome outcome = trainer.WaitDone(1);
    torn += outcome.kind == CopyOutcome::Kind::kTorn ? 1 : 0;
    engine.Stop();
  }
  EXPECT_GT(torn, 0);
}

// Which digests cannot be had must be known to whoever asked for them, once.
TEST(CudaEngineWithoutDeviceCodeTest, SaysThatTheSampleStandsInForDigests) {
  for (const std::uint32_t every : {0U, 1U, 10U}) {
    cuda_sim::Reset({});
    SimTrainer trainer(1, 1, false);
    CudaCopyOptions options;
    options.verify_every = every;
    CudaCopyEngine engine(options);
    ASSERT_FALSE(engine.Adopt(trainer.Plan()).has_error());
    ASSERT_FALSE(engine.Adopt(trainer.Plan()).has_error());
    EXPECT_EQ(engine.State().note,
              every == 0 ? ""
                         : "verify: this build has no device code, so copies are checked by the "
                           "sample only");
    engine.Stop();
  }
}

}  // namespace
}  // namespace holdfast::client
