// The fixture of the simulator's own tests: nothing may be left over, wrong or alive.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <thread>
#include <vector>

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include "tests/support/cuda_sim/cuda_sim.h"
#include "tests/support/cuda_sim/gate.h"

namespace holdfast::cuda_sim {

class SimTest : public ::testing::Test {
 protected:
  void SetUp() override {
    Options options;
    options.devices = 2;
    Reset(options);
  }

  void TearDown() override {
    EXPECT_EQ(Violations(), std::vector<std::string>{});
    EXPECT_EQ(Leaks().Total(), 0);
    Reset(Options{});
  }

  // Takes the one violation that the test provoked, and starts anew.
  static void ExpectViolation(const std::string& part) {
    const std::vector<std::string> found = Violations();
    ASSERT_EQ(found.size(), 1U) << ::testing::PrintToString(found);
    EXPECT_NE(found[0].find(part), std::string::npos) << found[0];
    Reset(Options{});
  }

  static cudaStream_t NewStream(unsigned flags = cudaStreamNonBlocking) {
    cudaStream_t stream = nullptr;
    EXPECT_EQ(cudaStreamCreateWithFlags(&stream, flags), cudaSuccess);
    return stream;
  }

  static cudaEvent_t NewEvent() {
    cudaEvent_t event = nullptr;
    EXPECT_EQ(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), cudaSuccess);
    return event;
  }

  static char* NewDeviceMemory(std::size_t bytes) {
    void* memory = nullptr;
    EXPECT_EQ(cudaMalloc(&memory, bytes), cudaSuccess);
    return static_cast<char*>(memory);
  }

  static char* NewPinned(std::size_t bytes) {
    void* memory = nullptr;
    EXPECT_EQ(cudaHostAlloc(&memory, bytes, cudaHostAllocDefault), cudaSuccess);
    return static_cast<char*>(memory);
  }
};

}  // namespace holdfast::cuda_sim
