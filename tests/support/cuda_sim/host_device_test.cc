// The host's memory as a device's, and copies that are held back: for trainers without a GPU.
#include <cstring>

#include "tests/support/cuda_sim/sim_test.h"

namespace holdfast::cuda_sim {
namespace {

constexpr std::size_t kBytes = 4096;

class CudaSimHostDevice : public SimTest {
 protected:
  void SetUp() override {
    Options options;
    options.host_is_device = true;
    options.max_delay = std::chrono::milliseconds(5);
    Reset(options);
    stream_ = NewStream();
    pinned_ = NewPinned(kBytes);
    std::memset(pinned_, 1, kBytes);
    state_.assign(kBytes, 7);
  }

  void TearDown() override {
    EXPECT_EQ(cudaStreamDestroy(stream_), cudaSuccess);
    EXPECT_EQ(cudaFreeHost(pinned_), cudaSuccess);
    SimTest::TearDown();
  }

  cudaStream_t stream_ = nullptr;
  char* pinned_ = nullptr;
  std::vector<char> state_;
};

TEST_F(CudaSimHostDevice, MemoryOfTheHostIsCopiedAsADevices) {
  EXPECT_EQ(HostView(state_.data()), state_.data());
  EXPECT_EQ(cudaMemcpyAsync(state_.data(), pinned_, kBytes, cudaMemcpyDeviceToDevice, stream_),
            cudaErrorInvalidValue);
  static_cast<void>(cudaGetLastError());
  ASSERT_EQ(cudaMemcpyAsync(pinned_, state_.data(), kBytes, cudaMemcpyDeviceToHost, stream_),
            cudaSuccess);
  ASSERT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
  EXPECT_EQ(std::memcmp(pinned_, state_.data(), kBytes), 0);
}

TEST_F(CudaSimHostDevice, MemoryThatCouldNotBePinnedIsTheHostsWhereTheCopySaysSo) {
  std::vector<char> buffer(kBytes, 3);
  ASSERT_EQ(cudaMemcpyAsync(state_.data(), buffer.data(), kBytes, cudaMemcpyHostToDevice, stream_),
            cudaSuccess);
  ASSERT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
  EXPECT_EQ(state_, buffer);
}

TEST_F(CudaSimHostDevice, WhatIsPutOnTheDefaultStreamIsDoneAtOnce) {
  bool ran = false;
  ASSERT_EQ(Launch(nullptr, [&] { ran = true; }), cudaSuccess);
  EXPECT_TRUE(ran);
  const cudaEvent_t event = NewEvent();
  ASSERT_EQ(Launch(stream_, [&] { ran = false; }), cudaSuccess);
  ASSERT_EQ(cudaEventRecord(event, stream_), cudaSuccess);
  ASSERT_EQ(cudaStreamWaitEvent(nullptr, event, 0), cudaSuccess);
  EXPECT_FALSE(ran) << "the wait was not waited for";
  EXPECT_EQ(cudaEventDestroy(event), cudaSuccess);
}

TEST_F(CudaSimHostDevice, CopiesThatAreHeldReadWhatIsThereWhenTheyAreLetGo) {
  HoldCopiesToHost(true);
  ASSERT_EQ(cudaMemcpyAsync(pinned_, state_.data(), kBytes, cudaMemcpyDeviceToHost, stream_),
            cudaSuccess);
  ASSERT_EQ(Launch(nullptr, [this] { std::memset(state_.data(), 9, kBytes); }), cudaSuccess);
  ASSERT_EQ(cudaStreamSynchronize(nullptr), cudaSuccess);
  EXPECT_EQ(cudaStreamQuery(stream_), cudaErrorNotReady);
  static_cast<void>(cudaGetLastError());
  EXPECT_EQ(pinned_[0], 1);
  HoldCopiesToHost(false);
  ASSERT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
  EXPECT_EQ(pinned_[0], 9);
}

}  // namespace
}  // namespace holdfast::cuda_sim
