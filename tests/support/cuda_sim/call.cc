#include "tests/support/cuda_sim/call.h"

namespace holdfast::cuda_sim {

// The analysis does not see that the member lock_ takes the lock.
HF_THREAD_ANNOTATION(no_thread_safety_analysis)

Call::Call(State& state, const char* function, unsigned traits)
    : lock_(state.mutex), function_(function), thread_(&ThreadState::Of(state)) {
  Check(state, traits);
}

HF_THREAD_ANNOTATION(no_thread_safety_analysis)
Call::~Call() = default;

bool Call::Injected(State& state) {
  const std::string name = function_;
  ++state.calls[name];
  ++state.calls["*"];
  for (Failure& failure : state.failures) {
    if (failure.left == 0 || (failure.function != name && failure.function != "*")) {
      continue;
    }
    if (--failure.left != 0) {
      continue;
    }
    if (failure.sticky && thread_->device < static_cast<int>(state.devices.size())) {
      state.devices[static_cast<std::size_t>(thread_->device)].sticky = failure.error;
    }
    error_ = Return(failure.error);
    return true;
  }
  return false;
}

void Call::Check(State& state, unsigned traits) {
  if (InStreamBody()) {
    AddViolation(state, std::string(function_) + " in a kernel or host function");
    error_ = Return(cudaErrorNotPermitted);
    return;
  }
  if (Injected(state) || (traits & kWithoutDriver) != 0) {
    return;
  }
  if (state.options.driver_version / 1000 < CUDART_VERSION / 1000) {
    error_ = Return(cudaErrorInsufficientDriver);
    return;
  }
  if (state.devices.empty()) {
    error_ = Return(cudaErrorNoDevice);
    return;
  }
  const cudaError_t sticky = state.devices[static_cast<std::size_t>(thread_->device)].sticky;
  if ((traits & kGivesBack) != 0) {
    at_return_ = sticky;
  } else if ((traits & kIgnoresSticky) == 0 && sticky != cudaSuccess) {
    error_ = Return(sticky);
    return;
  }
  if ((traits & kUnsafeInCapture) != 0) {
    const cudaError_t unsafe = CheckUnsafe(state, function_);
    if (unsafe != cudaSuccess) {
      error_ = Return(unsafe);
    }
  }
}

cudaError_t Call::Return(cudaError_t error) {
  if (error == cudaSuccess) {
    error = at_return_;
  }
  if (error != cudaSuccess) {
    thread_->last_error = error;
  }
  return error;
}

}  // namespace holdfast::cuda_sim
