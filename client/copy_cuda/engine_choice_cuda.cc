// For a build with CUDA; whether the machine has a driver is found out by the first layout.
#include <algorithm>
#include <thread>

#include "client/copy_cuda/auto_engine.h"
#include "client/copy_cuda/device_sink.h"
#include "client/engine_choice.h"

namespace holdfast::client {
namespace {

// What one GPU's copies need to be digested as fast as they land, on the slowest of the hosts that
// were measured (docs/benchmarks.md), leaving the rest of the machine to the trainer.
std::uint32_t ThreadsForDevices() {
  return std::clamp(std::thread::hardware_concurrency() * 3 / 4, 2U, 12U);
}

}  // namespace

std::unique_ptr<CopyEngine> MakeCopyEngine(const EngineOptions& options) {
  CudaCopyOptions cuda;
  cuda.threads = options.threads == 0 ? ThreadsForDevices() : options.threads;
  cuda.verify_every = options.verify_every;
  cuda.staging_share = options.staging_share;
  cuda.most_gathered = options.most_gathered;
  return std::make_unique<AutoCopyEngine>(std::max(options.threads, 1U), cuda);
}

std::uint32_t DeviceLoadThreads() {
  return std::clamp(std::thread::hardware_concurrency() * 3 / 4, 1U, 24U);
}

Result<std::unique_ptr<LoadSink>> MakeDeviceSink(std::uint32_t threads) {
  HF_TRYV(CudaUsable());
  return DeviceSink::Make(threads);
}

}  // namespace holdfast::client
