// The contracts are in device_code.h; the arithmetic of the sums is word_sum.h's.
#include "client/copy_cuda/device_code.h"

namespace holdfast::client {
namespace {

constexpr unsigned kThreads = 256;
constexpr unsigned kWarp = 32;
constexpr std::uint32_t kWeightStep = 0x9E3779B1U;  // as in word_sum.cc

__device__ std::uint32_t Weight(std::uint32_t word) {
  return (word * kWeightStep) | 1U;
}

// Word "index" of a range that may start at any byte; bytes behind the end count as 0.
__device__ std::uint32_t WordAt(const unsigned char* from,
                                std::uint64_t bytes,
                                std::uint64_t index) {
  std::uint32_t word = 0;
  for (unsigned i = 0; i < 4; ++i) {
    const std::uint64_t at = 4 * index + i;
    if (at < bytes) {
      word |= static_cast<std::uint32_t>(from[at]) << (8 * i);
    }
  }
  return word;
}

__global__ void Gather(const GatherItem* items, std::uint32_t count) {
  for (std::uint32_t i = blockIdx.x; i < count; i += gridDim.x) {
    const GatherItem item = items[i];
    const auto from = reinterpret_cast<std::uintptr_t>(item.from);
    const auto to = reinterpret_cast<std::uintptr_t>(item.to);
    std::uint64_t done = 0;
    if (((from | to) & 15U) == 0) {
      const auto* source = static_cast<const uint4*>(item.from);
      auto* target = static_cast<uint4*>(item.to);
      for (std::uint64_t k = threadIdx.x; k < item.bytes / 16; k += blockDim.x) {
        target[k] = source[k];
      }
      done = item.bytes / 16 * 16;
    }
    const auto* source = static_cast<const unsigned char*>(item.from);
    auto* target = static_cast<unsigned char*>(item.to);
    for (std::uint64_t k = done + threadIdx.x; k < item.bytes; k += blockDim.x) {
      target[k] = source[k];
    }
  }
}

__device__ std::uint64_t PartialSum(const SumItem& item) {
  const auto* bytes = static_cast<const unsigned char*>(item.from);
  const std::uint64_t words = (item.bytes + 3) / 4;
  std::uint64_t sum = 0;
  std::uint64_t done = 0;
  if ((reinterpret_cast<std::uintptr_t>(item.from) & 15U) == 0) {
    const auto* quads = static_cast<const uint4*>(item.from);
    for (std::uint64_t k = threadIdx.x; k < item.bytes / 16; k += blockDim.x) {
      const uint4 quad = quads[k];
      const auto index = static_cast<std::uint32_t>(4 * k);
      sum += static_cast<std::uint64_t>(quad.x) * Weight(index);
      sum += static_cast<std::uint64_t>(quad.y) * Weight(index + 1);
      sum += static_cast<std::uint64_t>(quad.z) * Weight(index + 2);
      sum += static_cast<std::uint64_t>(quad.w) * Weight(index + 3);
    }
    done = item.bytes / 16 * 4;
  }
  for (std::uint64_t k = done + threadIdx.x; k < words; k += blockDim.x) {
    sum += static_cast<std::uint64_t>(WordAt(bytes, item.bytes, k)) *
           Weight(static_cast<std::uint32_t>(k));
  }
  return sum;
}

__global__ void Sums(const SumItem* items, std::uint64_t* sums, std::uint32_t count) {
  __shared__ unsigned long long of_warp[kThreads / kWarp];
  for (std::uint32_t i = blockIdx.x; i < count; i += gridDim.x) {
    unsigned long long sum = PartialSum(items[i]);
    for (unsigned step = kWarp / 2; step > 0; step /= 2) {
      sum += __shfl_down_sync(0xFFFFFFFFU, sum, step);
    }
    if (threadIdx.x % kWarp == 0) {
      of_warp[threadIdx.x / kWarp] = sum;
    }
    __syncthreads();
    if (threadIdx.x == 0) {
      unsigned long long all = 0;
      for (unsigned k = 0; k < kThreads / kWarp; ++k) {
        all += of_warp[k];
      }
      sums[i] = all;
    }
    __syncthreads();
  }
}

// Enough blocks to fill the device, never more than the driver takes.
unsigned Blocks(std::uint32_t count) {
  constexpr std::uint32_t kMost = 4096;
  return count < kMost ? count : kMost;
}

}  // namespace

bool HasDeviceCode() {
  return true;
}

cudaError_t LaunchGather(const GatherItem* items, std::uint32_t count, cudaStream_t stream) {
  if (count == 0) {
    return cudaSuccess;
  }
  void* arguments[] = {&items, &count};
  return cudaLaunchKernel(reinterpret_cast<const void*>(&Gather),
                          dim3(Blocks(count)),
                          dim3(kThreads),
                          arguments,
                          0,
                          stream);
}

cudaError_t LaunchSums(const SumItem* items,
                       std::uint64_t* sums,
                       std::uint32_t count,
                       cudaStream_t stream) {
  if (count == 0) {
    return cudaSuccess;
  }
  void* arguments[] = {&items, &sums, &count};
  return cudaLaunchKernel(reinterpret_cast<const void*>(&Sums),
                          dim3(Blocks(count)),
                          dim3(kThreads),
                          arguments,
                          0,
                          stream);
}

}  // namespace holdfast::client
