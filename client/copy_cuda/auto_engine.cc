#include "client/copy_cuda/auto_engine.h"

#include <utility>

namespace holdfast::client {

Status AutoCopyEngine::Adopt(std::shared_ptr<const CopyPlan> plan) {
  if (cuda_ == nullptr && plan->AllDevices().empty()) {
    return host_.Adopt(std::move(plan));
  }
  if (cuda_ == nullptr) {
    if (std::string busy = host_.Busy(); !busy.empty()) {
      return Error(Errc::kUnavailable, std::move(busy));
    }
    cuda_ = std::make_unique<CudaCopyEngine>(cuda_options_);
    active_.store(cuda_.get(), std::memory_order_release);
  }
  return cuda_->Adopt(std::move(plan));
}

void AutoCopyEngine::Stop() {
  host_.Stop();
  if (cuda_ != nullptr) {
    cuda_->Stop();
  }
}

}  // namespace holdfast::client
