// A driver that is older than the runtime: state on devices is refused with what to do, and state
// in host memory is saved all the same.  A process asks for its driver once, so this is one of its
// own.
#include <gmock/gmock.h>

#include "client/copy_cuda/auto_engine.h"
#include "tests/client/random_state.h"
#include "tests/support/cuda_sim/cuda_sim.h"

namespace holdfast::client {
namespace {

TEST(CudaOldDriverTest, IsNamedWithItsVersionAndTheHostPathWorks) {
  cuda_sim::Options options;
  options.driver_version = 12080;
  cuda_sim::Reset(options);
  RandomState state = MakePlainState({{"weight", 100'000}});
  const std::vector<std::int32_t> devices = {0};
  AutoCopyEngine engine(1, CudaCopyOptions{});
  const auto on_device = CopyPlan::Make(state.layout, state.specs, kKiB, devices).value();
  const Status refused = engine.Adopt(on_device);
  ASSERT_TRUE(refused.has_error());
  EXPECT_EQ(refused.error().code, Errc::kUnavailable);
  EXPECT_THAT(refused.error().message,
              testing::HasSubstr("the NVIDIA driver knows CUDA 12.8, this library needs " +
                                 CudaVersion() + ": update the driver"));
  EXPECT_EQ(cudaPeekAtLastError(), cudaSuccess);

  auto job = std::make_shared<CopyJob>();
  job->plan = CopyPlan::Make(state.layout, state.specs, kKiB).value();
  job->slot = MakeSlot(state.layout);
  job->sources = MakeSources(*job->plan, state.pointers, {}).value();
  ASSERT_FALSE(engine.Adopt(job->plan).has_error());
  ASSERT_FALSE(engine.Start(job, [](const auto&) {}).has_error());
  engine.WaitFence({});
  engine.Stop();
  EXPECT_EQ(job->outcome.kind, CopyOutcome::Kind::kCopied) << job->outcome.reason;
  EXPECT_EQ(BytesOf(*job->slot), state.ReferenceImage());
  EXPECT_EQ(cudaPeekAtLastError(), cudaSuccess) << "an error of ours was left to the trainer";
}

}  // namespace
}  // namespace holdfast::client
