// For a build that found no CUDA headers.
#include <algorithm>

#include "client/copy_host.h"
#include "client/engine_choice.h"

namespace holdfast::client {

std::unique_ptr<CopyEngine> MakeCopyEngine(const EngineOptions& options) {
  return std::make_unique<HostCopyEngine>(std::max(options.threads, 1U));
}

std::uint32_t DeviceLoadThreads() {
  return 1;
}

Result<std::unique_ptr<LoadSink>> MakeDeviceSink(std::uint32_t /*threads*/) {
  return Error(Errc::kUnavailable, "this library was built without CUDA: it restores to the host");
}

}  // namespace holdfast::client
