// Which calls of the runtime the engine makes for a snapshot, on the simulated one.
#include <algorithm>
#include <numeric>
#include <set>
#include <vector>

#include <gtest/gtest.h>

#include "client/copy_cuda/copy_cuda.h"
#include "client/copy_cuda/lane.h"
#include "client/copy_cuda/lane_plan.h"
#include "tests/client/copy_cuda/sim_trainer.h"

namespace holdfast::client {
namespace {

constexpr int kSnapshots = 3;

class CudaEngineCallsTest : public testing::Test {
 protected:
  static CudaCopyOptions Windows(ByteCount bytes) {
    CudaCopyOptions options;
    options.window_bytes = bytes;
    options.staging_share = 0;
    return options;
  }

  // Snapshots of one state into pinned slots, each whole.
  void TakeSnapshots(const CudaCopyOptions& options) {
    CudaCopyEngine engine(options);
    ASSERT_FALSE(engine.Adopt(trainer_.Plan()).has_error());
    trainer_.PinSlots(&engine, kSnapshots);
    for (std::int64_t step = 1; step <= kSnapshots; ++step) {
      ASSERT_FALSE(trainer_.Snapshot(&engine, step).has_error());
      engine.WaitFence({});
      EXPECT_EQ(cudaPeekAtLastError(), cudaSuccess) << "an error of ours was left to the trainer";
      trainer_.Update();
      const CopyOutcome outcome = trainer_.WaitDone(step);
      ASSERT_EQ(outcome.kind, CopyOutcome::Kind::kCopied) << outcome.reason;
      ASSERT_TRUE(trainer_.Landed(step) == trainer_.Expected(step));
      waited_ += outcome.device_wait;
    }
    engine.Stop();
  }

  // How many copies each call of the runtime is asked for where nothing is staged: the windows of
  // a call together, what was cut between two of them joined again.
  std::vector<int> CopiesOfCalls(ByteCount window_bytes) const {
    const LanePlan plan(trainer_.Plan(), 0, window_bytes);
    const std::vector<CopyWindow>& windows = plan.Windows();
    std::vector<int> calls;
    for (std::size_t first = 0; first < windows.size(); first += kWindowsAtOnce) {
      const std::size_t last = std::min(first + kWindowsAtOnce, windows.size()) - 1;
      std::set<std::size_t> tensors;
      for (std::size_t piece = windows[first].first; piece < windows[last].end; ++piece) {
        tensors.insert(plan.Pieces()[piece].tensor);
      }
      calls.push_back(static_cast<int>(tensors.size()));
    }
    return calls;
  }

  struct FreshSimulator {
    FreshSimulator() { cuda_sim::Reset({}); }
  } simulator_;  // before the trainer's streams are made

  SimTrainer trainer_{10, 1, false};
  std::chrono::nanoseconds waited_{0};
};

// A call for each tensor would take the driver's lock beside the training's own launches.
TEST_F(CudaEngineCallsTest, WindowsOfManyTensorsAreOneBatch) {
  for (const ByteCount window_bytes : {32 * kKiB, kMiB}) {
    const int batches = cuda_sim::CallCount("cudaMemcpyBatchAsync");
    const int copies = cuda_sim::CallCount("cudaMemcpyAsync");
    ASSERT_NO_FATAL_FAILURE(TakeSnapshots(Windows(window_bytes)));
    const std::vector<int> calls = CopiesOfCalls(window_bytes);
    const int single = static_cast<int>(std::count(calls.begin(), calls.end(), 1));
    const int many = static_cast<int>(calls.size()) - single;
    ASSERT_GT(many, 0);
    EXPECT_EQ(cuda_sim::CallCount("cudaMemcpyBatchAsync") - batches, kSnapshots * many);
    // The tables of the two gathers, what was gathered, and the sample: four more.
    EXPECT_EQ(cuda_sim::CallCount("cudaMemcpyAsync") - copies, kSnapshots * (single + 4));
  }
}

TEST_F(CudaEngineCallsTest, ADriverWithoutBatchCallsIsAskedOnce) {
  for (const cudaError_t refusal : {cudaErrorNotSupported, cudaErrorCallRequiresNewerDriver}) {
    const int batches = cuda_sim::CallCount("cudaMemcpyBatchAsync");
    const int copies = cuda_sim::CallCount("cudaMemcpyAsync");
    cuda_sim::FailCall("cudaMemcpyBatchAsync", 1, refusal);
    ASSERT_NO_FATAL_FAILURE(TakeSnapshots(Windows(kMiB)));
    EXPECT_EQ(cuda_sim::CallCount("cudaMemcpyBatchAsync") - batches, 1);
    const std::vector<int> calls = CopiesOfCalls(kMiB);
    EXPECT_EQ(cuda_sim::CallCount("cudaMemcpyAsync") - copies,
              kSnapshots * (std::accumulate(calls.begin(), calls.end(), 0) + 4));
  }
}

TEST_F(CudaEngineCallsTest, HowLongTheUpdateStoodStillIsTold) {
  // The digests end after the wait as a rule; on a busy machine not every time.
  for (int tries = 0; tries < 20 && waited_.count() == 0; ++tries) {
    ASSERT_NO_FATAL_FAILURE(TakeSnapshots(Windows(kKiB)));
  }
  EXPECT_GT(waited_.count(), 0);
}

}  // namespace
}  // namespace holdfast::client
