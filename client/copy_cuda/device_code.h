// The two kernels of the copy engine: gathering many small ranges, and digesting many ranges.
//
// They exist in three forms behind these functions: device_code.cu for the GPU,
// device_code_absent.cc for a library that was built without nvcc, and one for the simulated
// runtime of the tests.
//
// Threads:   any; a launch is ordered on its stream like every other.
// Ownership: tables and results are device memory that must stay until the launch has run.
// Errors:    as of a kernel launch; cudaErrorNotSupported where there is no device code.
#pragma once

#include <cstdint>

#include <cuda_runtime_api.h>

namespace holdfast::client {

// Bytes of device memory to be copied within the device; ranges do not overlap.
struct GatherItem {
  const void* from = nullptr;
  void* to = nullptr;
  std::uint64_t bytes = 0;
};

// Bytes of device memory to be digested by WordSum (word_sum.h).
struct SumItem {
  const void* from = nullptr;
  std::uint64_t bytes = 0;
};

[[nodiscard]] bool HasDeviceCode();

// Copies items[0 .. count), which is device memory; one launch.
[[nodiscard]] cudaError_t LaunchGather(const GatherItem* items,
                                       std::uint32_t count,
                                       cudaStream_t stream);

// sums[i] = WordSum of items[i]; both arrays are device memory; one launch.
[[nodiscard]] cudaError_t LaunchSums(const SumItem* items,
                                     std::uint64_t* sums,
                                     std::uint32_t count,
                                     cudaStream_t stream);

}  // namespace holdfast::client
