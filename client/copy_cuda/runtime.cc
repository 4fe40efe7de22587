#include "client/copy_cuda/runtime.h"

#include <utility>

#include "client/copy_cuda/mutation.h"

namespace holdfast::client {
namespace {

std::string VersionText(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

Status ProbeCuda() {
  const bool had_error = cudaPeekAtLastError() != cudaSuccess;
  int devices = 0;
  const cudaError_t code = cudaGetDeviceCount(&devices);
  // What the probe leaves behind is ours, not the training's.
  if (code != cudaSuccess && !had_error) {
    static_cast<void>(cudaGetLastError());
  }
  if (code == cudaErrorInsufficientDriver) {
    int driver = 0;
    static_cast<void>(cudaDriverGetVersion(&driver));
    return Error(Errc::kUnavailable,
                 driver == 0 ? "there is no NVIDIA driver on this machine"
                             : "the NVIDIA driver knows CUDA " + VersionText(driver) +
                                   ", this library needs " + CudaVersion() +
                                   ": update the driver; until then state on GPUs cannot be saved");
  }
  HF_TRYV(CudaStatus(code, "cudaGetDeviceCount"));
  if (devices == 0) {
    return Error(Errc::kUnavailable, "there is no CUDA device on this machine");
  }
  return Ok();
}

// Leaves no error behind.
bool ExchangeMode(cudaStreamCaptureMode* mode) {
  const bool had_error = cudaPeekAtLastError() != cudaSuccess;
  const bool exchanged = cudaThreadExchangeStreamCaptureMode(mode) == cudaSuccess;
  if (!exchanged && !had_error) {
    static_cast<void>(cudaGetLastError());
  }
  return exchanged;
}

}  // namespace

Status CudaStatus(cudaError_t code, const char* call) {
  if (code == cudaSuccess) {
    return Ok();
  }
  const std::string text =
      std::string(call) + ": " + cudaGetErrorName(code) + " (" + cudaGetErrorString(code) + ")";
  switch (code) {
    case cudaErrorMemoryAllocation:
      return Error(Errc::kNoSpace, text);
    case cudaErrorNoDevice:
    case cudaErrorInsufficientDriver:
      return Error(Errc::kUnavailable, text);
    default:
      return Error(Errc::kIoError, text);
  }
}

Status CudaUsable() {
  static const Status usable = ProbeCuda();
  return usable;
}

std::string CudaVersion() {
  return VersionText(CUDART_VERSION);
}

BesideCaptures::BesideCaptures() : exchanged_(ExchangeMode(&mode_)) {}

BesideCaptures::~BesideCaptures() {
  if (exchanged_) {
    static_cast<void>(ExchangeMode(&mode_));
  }
}

TrainerThread::TrainerThread() : had_error_(cudaPeekAtLastError() != cudaSuccess) {
  if (cudaGetDevice(&device_) != cudaSuccess) {
    device_ = -1;
  }
}

TrainerThread::~TrainerThread() {
  if (device_ >= 0 && !Mutated(Mutation::kCurrentDeviceLeft)) {
    static_cast<void>(cudaSetDevice(device_));
  }
  if (!had_error_) {
    static_cast<void>(cudaGetLastError());
  }
}

Result<CudaStream> MakeStream() {
  cudaStream_t stream = nullptr;
  HF_TRYV(CudaStatus(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking),
                     "cudaStreamCreateWithFlags"));
  return CudaStream(stream);
}

Result<CudaEvent> MakeEvent(unsigned flags) {
  cudaEvent_t event = nullptr;
  HF_TRYV(CudaStatus(cudaEventCreateWithFlags(&event, flags), "cudaEventCreateWithFlags"));
  return CudaEvent(event);
}

Result<DeviceMemory> MakeDeviceMemory(ByteCount bytes) {
  void* memory = nullptr;
  if (bytes > 0) {
    HF_TRYV(CudaStatus(cudaMalloc(&memory, bytes), "cudaMalloc"));
  }
  return DeviceMemory(static_cast<std::byte*>(memory));
}

Result<PinnedMemory> MakePinnedMemory(ByteCount bytes) {
  void* memory = nullptr;
  if (bytes > 0) {
    HF_TRYV(CudaStatus(cudaHostAlloc(&memory, bytes, cudaHostAllocPortable), "cudaHostAlloc"));
  }
  return PinnedMemory(static_cast<std::byte*>(memory));
}

void CudaCopies::Clear() {
  to.clear();
  from.clear();
  bytes.clear();
}

void CudaCopies::Add(void* target, const void* source, std::size_t size) {
  to.push_back(target);
  from.push_back(source);
  bytes.push_back(size);
}

Status BatchCopier::Issue(const CudaCopies& copies,
                          cudaMemcpyKind kind,
                          cudaStream_t stream,
                          bool pinned) {
  if (copies.Count() > 1 && pinned && batch_works_) {
    cudaMemcpyAttributes attributes = {};
    attributes.srcAccessOrder = cudaMemcpySrcAccessOrderStream;
    attributes.flags = cudaMemcpyFlagPreferOverlapWithCompute;
    std::size_t first = 0;
    const cudaError_t code = cudaMemcpyBatchAsync(copies.to.data(),
                                                  copies.from.data(),
                                                  copies.bytes.data(),
                                                  copies.Count(),
                                                  &attributes,
                                                  &first,
                                                  1,
                                                  stream);
    if (code == cudaSuccess) {
      return Ok();
    }
    if (code != cudaErrorNotSupported && code != cudaErrorCallRequiresNewerDriver) {
      return CudaStatus(code, "cudaMemcpyBatchAsync");
    }
    static_cast<void>(cudaGetLastError());
    batch_works_ = false;  // a driver before 12.8
  }
  for (std::size_t i = 0; i < copies.Count(); ++i) {
    HF_TRYV(CudaStatus(cudaMemcpyAsync(copies.to[i], copies.from[i], copies.bytes[i], kind, stream),
                       "cudaMemcpyAsync"));
  }
  return Ok();
}

}  // namespace holdfast::client
