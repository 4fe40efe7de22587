// The CUDA copy engine on the simulated runtime, orders explored by seed (I7).
#include <gtest/gtest.h>

#include "client/copy_cuda/copy_cuda.h"
#include "common/crc32c.h"
#include "common/mix64.h"
#include "tests/client/copy_cuda/sim_trainer.h"

namespace holdfast::client {
namespace {

#if __has_feature(thread_sanitizer) || __has_feature(address_sanitizer)
constexpr std::uint64_t kSeeds = 250;
#else
constexpr std::uint64_t kSeeds = 1000;
#endif

CudaCopyOptions OptionsOf(std::uint64_t seed) {
  CudaCopyOptions options;
  options.threads = 1 + seed % 3;
  options.verify_every = seed % 3;
  options.window_bytes = (ByteCount{4} << (seed % 4)) * kKiB;
  options.staging_share = seed % 5 == 0 ? 0 : 0.5;
  return options;
}

cuda_sim::Options SimOf(std::uint64_t seed) {
  cuda_sim::Options options;
  options.seed = seed;
  options.devices = 1 + static_cast<int>(seed % 2);
  options.max_delay = std::chrono::microseconds(Mix64(seed) % 40);
  return options;
}

// Four steps as a training does them, the host as far ahead of the device as it likes.
void Train(std::uint64_t seed, std::vector<CopyOutcome>* outcomes, int* wrong) {
  SimTrainer trainer(seed, SimOf(seed).devices, seed % 4 == 1);
  CudaCopyEngine engine(OptionsOf(seed));
  ASSERT_FALSE(engine.Adopt(trainer.Plan()).has_error());
  std::vector<std::int64_t> begun;
  for (std::int64_t step = 1; step <= 4; ++step) {
    if (engine.Busy().empty()) {
      ASSERT_FALSE(trainer.Snapshot(&engine, step).has_error());
      begun.push_back(step);
    }
    trainer.Forward();
    engine.WaitFence({});
    trainer.Update();
  }
  ASSERT_FALSE(begun.empty());
  for (const std::int64_t step : begun) {
    outcomes->push_back(trainer.WaitDone(step));
    if (outcomes->back().kind != CopyOutcome::Kind::kCopied) {
      continue;
    }
    const std::string expected = trainer.Expected(step);
    *wrong += trainer.Landed(step) != expected ||
              outcomes->back().chunk_crc32c != ChunkDigests(AsBytes(expected));
  }
  engine.Stop();
}

class CudaEngineSeedTest : public testing::Test {
 protected:
  void ExpectClean(std::uint64_t seed) {
    EXPECT_EQ(cuda_sim::Violations(), std::vector<std::string>{}) << "seed " << seed;
    EXPECT_EQ(cuda_sim::Leaks().Total(), 0) << "seed " << seed;
  }
};

TEST_F(CudaEngineSeedTest, EveryOrderGivesTheStateAtTheSnapshot) {
  for (std::uint64_t seed = 1; seed <= kSeeds && !HasFailure(); ++seed) {
    cuda_sim::Reset(SimOf(seed));
    std::vector<CopyOutcome> outcomes;
    int wrong = 0;
    Train(seed, &outcomes, &wrong);
    EXPECT_EQ(wrong, 0) << "seed " << seed;
    for (const CopyOutcome& outcome : outcomes) {
      EXPECT_EQ(outcome.kind, CopyOutcome::Kind::kCopied) << "seed " << seed << outcome.reason;
    }
    ExpectClean(seed);
  }
}

}  // namespace
}  // namespace holdfast::client
