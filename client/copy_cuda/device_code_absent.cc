#include "client/copy_cuda/device_code.h"

namespace holdfast::client {

bool HasDeviceCode() {
  return false;
}

cudaError_t LaunchGather(const GatherItem* /*items*/,
                         std::uint32_t /*count*/,
                         cudaStream_t /*stream*/) {
  return cudaErrorNotSupported;
}

cudaError_t LaunchSums(const SumItem* /*items*/,
                       std::uint64_t* /*sums*/,
                       std::uint32_t /*count*/,
                       cudaStream_t /*stream*/) {
  return cudaErrorNotSupported;
}

}  // namespace holdfast::client
