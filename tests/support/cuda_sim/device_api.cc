// Functions of the runtime on devices, versions and errors.
#include <cstdio>
#include <cstring>

#include "tests/support/cuda_sim/call.h"

namespace holdfast::cuda_sim {
namespace {

struct ErrorText {
  cudaError_t error;
  const char* name;
  const char* text;
};

constexpr ErrorText kErrors[] = {
    {cudaSuccess, "cudaSuccess", "no error"},
    {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorInvalidMemcpyDirection,
     "cudaErrorInvalidMemcpyDirection",
     "invalid copy direction for memcpy"},
    {cudaErrorInsufficientDriver,
     "cudaErrorInsufficientDriver",
     "CUDA driver version is insufficient for CUDA runtime version"},
    {cudaErrorNoDevice, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
    {cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
    {cudaErrorNotReady, "cudaErrorNotReady", "device not ready"},
    {cudaErrorIllegalAddress,
     "cudaErrorIllegalAddress",
     "an illegal memory access was encountered"},
    {cudaErrorHostMemoryAlreadyRegistered,
     "cudaErrorHostMemoryAlreadyRegistered",
     "part or all of the requested memory range is already mapped"},
    {cudaErrorHostMemoryNotRegistered,
     "cudaErrorHostMemoryNotRegistered",
     "pointer does not correspond to a registered memory region"},
    {cudaErrorLaunchFailure, "cudaErrorLaunchFailure", "unspecified launch failure"},
    {cudaErrorNotPermitted, "cudaErrorNotPermitted", "operation not permitted"},
    {cudaErrorNotSupported, "cudaErrorNotSupported", "operation not supported"},
    {cudaErrorStreamCaptureUnsupported,
     "cudaErrorStreamCaptureUnsupported",
     "operation not permitted when stream is capturing"},
    {cudaErrorStreamCaptureInvalidated,
     "cudaErrorStreamCaptureInvalidated",
     "operation failed due to a previous error during capture"},
    {cudaErrorStreamCaptureImplicit,
     "cudaErrorStreamCaptureImplicit",
     "operation would make the legacy stream depend on a capturing blocking stream"},
    {cudaErrorStreamCaptureIsolation,
     "cudaErrorStreamCaptureIsolation",
     "dependency created on uncaptured work in another stream"},
    {cudaErrorCapturedEvent,
     "cudaErrorCapturedEvent",
     "operation not permitted on an event last recorded in a capturing stream"},
};

const ErrorText* Find(cudaError_t error) {
  for (const ErrorText& known : kErrors) {
    if (known.error == error) {
      return &known;
    }
  }
  return nullptr;
}

int AttributeOf(cudaDeviceAttr attribute) {
  switch (attribute) {
    case cudaDevAttrComputeCapabilityMajor:
      return 9;
    case cudaDevAttrAsyncEngineCount:
      return 3;
    case cudaDevAttrMultiProcessorCount:
      return 132;
    case cudaDevAttrUnifiedAddressing:
    case cudaDevAttrCanMapHostMemory:
    case cudaDevAttrHostRegisterSupported:
    case cudaDevAttrCanUseHostPointerForRegisteredMem:
    case cudaDevAttrHostRegisterReadOnlySupported:
    case cudaDevAttrStreamPrioritiesSupported:
      return 1;
    default:
      return 0;
  }
}

bool IsDevice(State& state, int device) HF_REQUIRES(state.mutex) {
  return device >= 0 && device < static_cast<int>(state.devices.size());
}

// The sticky error stays; the thread's own ends when it is asked for.
cudaError_t LastError(const char* function, bool clear) {
  State& state = TheState();
  Call call(state, function, kWithoutDriver);
  if (!call.ok()) {
    return call.error();
  }
  ThreadState& thread = call.thread();
  const cudaError_t last = thread.last_error;
  if (clear) {
    thread.last_error = cudaSuccess;
  }
  if (!IsDevice(state, thread.device)) {
    return last;
  }
  const cudaError_t sticky = state.devices[static_cast<std::size_t>(thread.device)].sticky;
  return sticky != cudaSuccess ? sticky : last;
}

}  // namespace
}  // namespace holdfast::cuda_sim

using namespace holdfast::cuda_sim;  // NOLINT(google-build-using-namespace): CUDA's own names below

extern "C" {

cudaError_t cudaRuntimeGetVersion(int* version) {
  State& state = TheState();
  Call call(state, "cudaRuntimeGetVersion", kWithoutDriver);
  if (!call.ok()) {
    return call.error();
  }
  *version = CUDART_VERSION;
  return call.Return(cudaSuccess);
}

cudaError_t cudaDriverGetVersion(int* version) {
  State& state = TheState();
  Call call(state, "cudaDriverGetVersion", kWithoutDriver);
  if (!call.ok()) {
    return call.error();
  }
  *version = state.options.driver_version;
  return call.Return(cudaSuccess);
}

cudaError_t cudaGetDeviceCount(int* count) {
  State& state = TheState();
  Call call(state, "cudaGetDeviceCount", kIgnoresSticky);
  *count = call.ok() ? static_cast<int>(state.devices.size()) : 0;
  return call.ok() ? call.Return(cudaSuccess) : call.error();
}

cudaError_t cudaGetDevice(int* device) {
  State& state = TheState();
  Call call(state, "cudaGetDevice", kIgnoresSticky);
  if (!call.ok()) {
    return call.error();
  }
  *device = call.thread().device;
  return call.Return(cudaSuccess);
}

cudaError_t cudaSetDevice(int device) {
  State& state = TheState();
  Call call(state, "cudaSetDevice", kIgnoresSticky);
  if (!call.ok()) {
    return call.error();
  }
  if (!IsDevice(state, device)) {
    return call.Return(cudaErrorInvalidDevice);
  }
  call.thread().device = device;
  return call.Return(cudaSuccess);
}

cudaError_t cudaDeviceSynchronize() {
  State& state = TheState();
  Call call(state, "cudaDeviceSynchronize", kUnsafeInCapture);
  if (!call.ok()) {
    return call.error();
  }
  const int device = call.thread().device;
  AwaitDevice(state, call.lock(), device);
  return call.Return(state.devices[static_cast<std::size_t>(device)].sticky);
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  State& state = TheState();
  Call call(state, "cudaDeviceGetAttribute", kIgnoresSticky);
  if (!call.ok()) {
    return call.error();
  }
  if (value == nullptr) {
    return call.Return(cudaErrorInvalidValue);
  }
  if (!IsDevice(state, device)) {
    return call.Return(cudaErrorInvalidDevice);
  }
  *value = AttributeOf(attribute);
  return call.Return(cudaSuccess);
}

cudaError_t cudaDeviceGetPCIBusId(char* text, int length, int device) {
  State& state = TheState();
  Call call(state, "cudaDeviceGetPCIBusId", kIgnoresSticky);
  if (!call.ok()) {
    return call.error();
  }
  if (!IsDevice(state, device)) {
    return call.Return(cudaErrorInvalidDevice);
  }
  if (text == nullptr || length < 13) {
    return call.Return(cudaErrorInvalidValue);
  }
  std::snprintf(text, static_cast<std::size_t>(length), "0000:%02X:00.0", 0x10 + device);
  return call.Return(cudaSuccess);
}

const char* cudaGetErrorName(cudaError_t error) {
  const ErrorText* known = Find(error);
  return known == nullptr ? "unrecognized error code" : known->name;
}

const char* cudaGetErrorString(cudaError_t error) {
  const ErrorText* known = Find(error);
  return known == nullptr ? "unrecognized error code" : known->text;
}

cudaError_t cudaGetLastError() {
  return LastError("cudaGetLastError", true);
}

cudaError_t cudaPeekAtLastError() {
  return LastError("cudaPeekAtLastError", false);
}

}  // extern "C"
