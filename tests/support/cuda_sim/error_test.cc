// Errors: injected ones, sticky ones, and what each thread is told.
#include <cstring>
#include <thread>

#include "tests/support/cuda_sim/sim_test.h"

namespace holdfast::cuda_sim {
namespace {

class CudaSimError : public SimTest {};

TEST_F(CudaSimError, IsInjectedAtTheNthCallOnly) {
  FailCall("cudaMalloc", 2, cudaErrorMemoryAllocation);
  void* first = nullptr;
  void* second = nullptr;
  EXPECT_EQ(cudaMalloc(&first, 1), cudaSuccess);
  EXPECT_EQ(cudaMalloc(&second, 1), cudaErrorMemoryAllocation);
  EXPECT_EQ(second, nullptr);
  EXPECT_EQ(cudaMalloc(&second, 1), cudaSuccess);
  EXPECT_EQ(CallCount("cudaMalloc"), 3);
  EXPECT_EQ(CallCount("*"), 3);
  EXPECT_EQ(cudaFree(first), cudaSuccess);
  EXPECT_EQ(cudaFree(second), cudaSuccess);
}

TEST_F(CudaSimError, IsInjectedAtAnyCall) {
  FailCall("*", 2, cudaErrorUnknown);
  int device = 0;
  EXPECT_EQ(cudaGetDevice(&device), cudaSuccess);
  EXPECT_EQ(cudaSetDevice(0), cudaErrorUnknown);
  EXPECT_EQ(cudaSetDevice(0), cudaSuccess);
}

TEST_F(CudaSimError, IsKeptForItsThread) {
  void* memory = nullptr;
  EXPECT_EQ(cudaMalloc(&memory, ~std::size_t{0} / 2), cudaErrorMemoryAllocation);
  std::thread([] { EXPECT_EQ(cudaGetLastError(), cudaSuccess); }).join();
  int device = 0;
  EXPECT_EQ(cudaGetDevice(&device), cudaSuccess) << "a success keeps it";
  EXPECT_EQ(cudaPeekAtLastError(), cudaErrorMemoryAllocation);
  EXPECT_EQ(cudaGetLastError(), cudaErrorMemoryAllocation);
  EXPECT_EQ(cudaPeekAtLastError(), cudaSuccess);
}

TEST_F(CudaSimError, ThatSticksIsReturnedByEveryLaterCallOnItsDevice) {
  const cudaStream_t stream = NewStream();
  const cudaEvent_t event = NewEvent();
  char* const memory = NewDeviceMemory(10);
  char* const pinned = NewPinned(10);
  std::vector<char> registered(10);
  EXPECT_EQ(cudaHostRegister(registered.data(), 10, 0), cudaSuccess);
  FailCall("cudaEventRecord", 1, cudaErrorIllegalAddress, true);
  EXPECT_EQ(cudaEventRecord(event, stream), cudaErrorIllegalAddress);
  EXPECT_EQ(cudaMemcpyAsync(pinned, memory, 10, cudaMemcpyDefault, stream),
            cudaErrorIllegalAddress);
  EXPECT_EQ(cudaStreamSynchronize(stream), cudaErrorIllegalAddress);
  EXPECT_EQ(cudaEventQuery(event), cudaErrorIllegalAddress);
  EXPECT_EQ(cudaGetLastError(), cudaErrorIllegalAddress);
  EXPECT_EQ(cudaGetLastError(), cudaErrorIllegalAddress) << "cannot be cleared";
  std::thread([] { EXPECT_EQ(cudaDeviceSynchronize(), cudaErrorIllegalAddress); }).join();

  EXPECT_EQ(cudaSetDevice(1), cudaSuccess);
  EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess) << "the other device is well";
  EXPECT_EQ(cudaEventQuery(event), cudaErrorIllegalAddress) << "but not the first one's event";
  EXPECT_EQ(cudaSetDevice(0), cudaSuccess);

  // Giving back says the error and gives back all the same.
  EXPECT_EQ(cudaHostUnregister(registered.data()), cudaErrorIllegalAddress);
  EXPECT_EQ(cudaFreeHost(pinned), cudaErrorIllegalAddress);
  EXPECT_EQ(cudaFree(memory), cudaErrorIllegalAddress);
  EXPECT_EQ(cudaEventDestroy(event), cudaErrorIllegalAddress);
  EXPECT_EQ(cudaStreamDestroy(stream), cudaErrorIllegalAddress);
}

TEST_F(CudaSimError, OfAKernelStopsWhatIsQueuedBehindIt) {
  const cudaStream_t stream = NewStream();
  char* const memory = NewDeviceMemory(10);
  char* const pinned = NewPinned(10);
  std::memset(HostView(memory), 1, 10);
  Gate gate;
  gate.Hold(stream);
  EXPECT_EQ(FaultInStream(stream, cudaErrorLaunchFailure), cudaSuccess);
  EXPECT_EQ(cudaMemcpyAsync(pinned, memory, 10, cudaMemcpyDefault, stream), cudaSuccess);
  gate.Open();
  EXPECT_EQ(cudaStreamSynchronize(stream), cudaErrorLaunchFailure);
  EXPECT_EQ(pinned[0], 0);
  EXPECT_EQ(cudaFreeHost(pinned), cudaErrorLaunchFailure);
  EXPECT_EQ(cudaFree(memory), cudaErrorLaunchFailure);
  EXPECT_EQ(cudaStreamDestroy(stream), cudaErrorLaunchFailure);
}

TEST_F(CudaSimError, WithoutADriverIsSaidByAllButTheVersions) {
  for (const int version : {0, 12080}) {
    Options options;
    options.driver_version = version;
    Reset(options);
    int value = -1;
    EXPECT_EQ(cudaDriverGetVersion(&value), cudaSuccess);
    EXPECT_EQ(value, version);
    EXPECT_EQ(cudaRuntimeGetVersion(&value), cudaSuccess);
    EXPECT_EQ(value, CUDART_VERSION);
    EXPECT_EQ(cudaGetDeviceCount(&value), cudaErrorInsufficientDriver);
    EXPECT_EQ(value, 0);
    EXPECT_EQ(cudaGetLastError(), cudaErrorInsufficientDriver);
    EXPECT_EQ(cudaGetLastError(), cudaSuccess);
    cudaStream_t stream = nullptr;
    EXPECT_EQ(cudaStreamCreateWithFlags(&stream, 0), cudaErrorInsufficientDriver);
  }
}

TEST_F(CudaSimError, WithoutADeviceIsNoDevice) {
  Options options;
  options.devices = 0;
  Reset(options);
  int count = -1;
  EXPECT_EQ(cudaGetDeviceCount(&count), cudaErrorNoDevice);
  EXPECT_EQ(cudaSetDevice(0), cudaErrorNoDevice);
}

TEST_F(CudaSimError, HasANameAndAText) {
  EXPECT_STREQ(cudaGetErrorName(cudaErrorNotReady), "cudaErrorNotReady");
  EXPECT_STREQ(cudaGetErrorString(cudaErrorMemoryAllocation), "out of memory");
  EXPECT_STREQ(cudaGetErrorName(static_cast<cudaError_t>(12345)), "unrecognized error code");
}

TEST_F(CudaSimError, OfADeviceThatIsNoneIsInvalidDevice) {
  int value = 0;
  EXPECT_EQ(cudaDeviceGetAttribute(&value, cudaDevAttrAsyncEngineCount, 1), cudaSuccess);
  EXPECT_GT(value, 0);
  EXPECT_EQ(cudaDeviceGetAttribute(&value, cudaDevAttrAsyncEngineCount, 2), cudaErrorInvalidDevice);
  char first[16];
  char second[16];
  EXPECT_EQ(cudaDeviceGetPCIBusId(first, sizeof(first), 0), cudaSuccess);
  EXPECT_EQ(cudaDeviceGetPCIBusId(second, sizeof(second), 1), cudaSuccess);
  EXPECT_STRNE(first, second);
}

}  // namespace
}  // namespace holdfast::cuda_sim
