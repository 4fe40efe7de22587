// Device memory for updates that come early, on the simulated runtime.
#include "client/copy_cuda/staging.h"

#include <gtest/gtest.h>

#include "tests/support/cuda_sim/cuda_sim.h"

namespace holdfast::client {
namespace {

constexpr ByteCount kDevice = 100 * kMiB;
constexpr ByteCount kAll = 80 * kMiB;  // of the snapshot at hand

class StagingTest : public testing::Test {
 protected:
  StagingTest() {
    cuda_sim::Options options;
    options.device_bytes = kDevice;
    cuda_sim::Reset(options);
  }

  void Want(ByteCount bytes) {
    staging_.NoteWait(kWorthStaging);
    ASSERT_TRUE(staging_.Useful(bytes));
    staging_.Tidy();
  }

  static ByteCount FreeOnDevice() {
    std::size_t free = 0;
    std::size_t total = 0;
    EXPECT_EQ(cudaMemGetInfo(&free, &total), cudaSuccess);
    return free;
  }

  Staging staging_{0.5, kWorthStaging};
};

TEST_F(StagingTest, AShareOfWhatIsFreeAboveTheReserveIsTaken) {
  Want(kDevice);
  EXPECT_EQ(staging_.Free(kAll, false), (kDevice - kDevice / 20) / 2);
}

// Training must never run out of memory because of a snapshot.
TEST_F(StagingTest, WhatIsHeldIsGivenBackWhenTheTrainingComesNearTheLimit) {
  Want(kDevice / 4);
  const ByteCount held = staging_.Free(kAll, false);
  ASSERT_GE(held, kDevice / 4);
  auto training = MakeDeviceMemory(FreeOnDevice() - 1000);
  ASSERT_TRUE(training.has_value());
  staging_.Take();
  staging_.Tidy();
  EXPECT_EQ(FreeOnDevice(), 1000U) << "under a copy";
  EXPECT_EQ(staging_.Free(kAll, false), 0U) << "or no snapshot ever finds it unused";
  staging_.GiveBack();
  staging_.Tidy();
  EXPECT_EQ(FreeOnDevice(), 1000U + held);
  auto more = MakeDeviceMemory(FreeOnDevice() - 1000);
  ASSERT_TRUE(more.has_value());
  staging_.Tidy();
  EXPECT_EQ(staging_.Free(kAll, false), 0U);
  training.value().reset();
  staging_.Tidy();
  EXPECT_GE(staging_.Free(kAll, false), kDevice / 8) << "there is room again";
}

TEST_F(StagingTest, WhileItIsUsedOrTheLinkIsBehindOnlyATailMayBePutThere) {
  Want(kDevice / 4);
  const ByteCount held = staging_.Free(kAll, false);
  EXPECT_EQ(staging_.Free(kAll, true), kAll / 8);
  staging_.Take();
  EXPECT_EQ(staging_.Free(kAll, false), kAll / 8);
  staging_.Take();
  staging_.GiveBack();
  EXPECT_EQ(staging_.Free(kAll, false), kAll / 8) << "the older one is still there";
  EXPECT_EQ(staging_.Free(16 * held, false), held) << "no more than there is";
  staging_.GiveBack();
  EXPECT_EQ(staging_.Free(kAll, false), held);
}

TEST_F(StagingTest, AnAllocationThatFailsIsNotTriedAgainAndNoErrorIsLeft) {
  cuda_sim::FailCall("cudaMalloc", 1, cudaErrorMemoryAllocation);
  Want(kMiB);
  EXPECT_EQ(cudaPeekAtLastError(), cudaSuccess);
  EXPECT_EQ(staging_.Free(kAll, false), 0U);
  staging_.Tidy();
  EXPECT_EQ(cuda_sim::CallCount("cudaMalloc"), 1);
}

}  // namespace
}  // namespace holdfast::client
