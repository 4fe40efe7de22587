// The kernels of client/copy_cuda/device_code.h on the simulated runtime.
#include <cstring>

#include "client/copy_cuda/device_code.h"
#include "client/copy_cuda/word_sum.h"
#include "tests/support/cuda_sim/cuda_sim.h"

namespace holdfast::client {

bool HasDeviceCode() {
  return true;
}

cudaError_t LaunchGather(const GatherItem* items, std::uint32_t count, cudaStream_t stream) {
  if (count == 0) {
    return cudaSuccess;
  }
  return cuda_sim::Launch(stream, [items, count] {
    for (std::uint32_t i = 0; i < count; ++i) {
      const GatherItem item = cuda_sim::HostViewAs<const GatherItem>(items)[i];
      std::memcpy(cuda_sim::HostView(item.to), cuda_sim::HostView(item.from), item.bytes);
    }
  });
}

cudaError_t LaunchSums(const SumItem* items,
                       std::uint64_t* sums,
                       std::uint32_t count,
                       cudaStream_t stream) {
  if (count == 0) {
    return cudaSuccess;
  }
  return cuda_sim::Launch(stream, [items, sums, count] {
    for (std::uint32_t i = 0; i < count; ++i) {
      const SumItem item = cuda_sim::HostViewAs<const SumItem>(items)[i];
      const auto* bytes = cuda_sim::HostViewAs<const std::byte>(item.from);
      cuda_sim::HostViewAs<std::uint64_t>(sums)[i] = WordSum(ByteView(bytes, item.bytes));
    }
  });
}

}  // namespace holdfast::client
