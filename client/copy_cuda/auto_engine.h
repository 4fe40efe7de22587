// The host engine until a layout has tensors on a device, the CUDA engine from then on.
//
// The host engine copies and digests in one pass, which is faster for tensors in host memory; and a
// trainer without GPUs must never load a driver.
//
// Threads:   see copy_engine.h.
// Ownership: owns both engines.
// Lifecycle: see copy_engine.h.
#pragma once

#include <atomic>
#include <memory>
#include <string>

#include "client/copy_cuda/copy_cuda.h"
#include "client/copy_engine.h"
#include "client/copy_host.h"

namespace holdfast::client {

class AutoCopyEngine final : public CopyEngine {
 public:
  AutoCopyEngine(std::uint32_t host_threads, const CudaCopyOptions& cuda)
      : cuda_options_(cuda), host_(host_threads) {}

  [[nodiscard]] Status Adopt(std::shared_ptr<const CopyPlan> plan) override;

  [[nodiscard]] Status Prepare(std::shared_ptr<SlotMapping> slot, SlotReady ready) override {
    return Active().Prepare(std::move(slot), std::move(ready));
  }

  [[nodiscard]] bool Pins() const override { return Active().Pins(); }

  [[nodiscard]] Status Start(std::shared_ptr<CopyJob> job, JobDone done) override {
    return Active().Start(std::move(job), std::move(done));
  }

  [[nodiscard]] std::string Busy() const override { return Active().Busy(); }

  bool WaitFence(std::span<const DeviceStream> streams) override {
    return Active().WaitFence(streams);
  }

  [[nodiscard]] EngineState State() const override { return Active().State(); }

  [[nodiscard]] std::int32_t NumaNode() const override { return Active().NumaNode(); }

  void Stop() override;

 private:
  [[nodiscard]] CopyEngine& Active() const {
    CopyEngine* const cuda = active_.load(std::memory_order_acquire);
    return cuda == nullptr ? const_cast<HostCopyEngine&>(host_) : *cuda;
  }

  const CudaCopyOptions cuda_options_;
  HostCopyEngine host_;
  std::unique_ptr<CudaCopyEngine> cuda_;       // of Adopt and Stop
  std::atomic<CopyEngine*> active_ = nullptr;  // cuda_, once there is one
};

}  // namespace holdfast::client
