// Order: what streams and events promise, and what they do not.
#include <atomic>
#include <thread>

#include "tests/support/cuda_sim/sim_test.h"

namespace holdfast::cuda_sim {
namespace {

class CudaSimStream : public SimTest {};

TEST_F(CudaSimStream, RunsItsWorkInOrder) {
  const cudaStream_t stream = NewStream();
  std::vector<int> order;
  for (int i = 0; i < 50; ++i) {
    ASSERT_EQ(Launch(stream, [&order, i] { order.push_back(i); }), cudaSuccess);
  }
  ASSERT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
  ASSERT_EQ(order.size(), 50U);
  for (int i = 0; i < 50; ++i) {
    EXPECT_EQ(order[static_cast<std::size_t>(i)], i);
  }
  EXPECT_EQ(cudaStreamDestroy(stream), cudaSuccess);
}

TEST_F(CudaSimStream, DoesNotWaitForAnother) {
  const cudaStream_t held = NewStream();
  const cudaStream_t other = NewStream();
  Gate gate;
  gate.Hold(held);
  bool ran = false;
  Launch(other, [&] { ran = true; });
  EXPECT_EQ(cudaStreamSynchronize(other), cudaSuccess);
  EXPECT_TRUE(ran);
  EXPECT_EQ(cudaStreamQuery(held), cudaErrorNotReady);
  gate.Open();
  EXPECT_EQ(cudaStreamSynchronize(held), cudaSuccess);
  EXPECT_EQ(cudaStreamQuery(held), cudaSuccess);
  EXPECT_EQ(cudaStreamDestroy(held), cudaSuccess);
  EXPECT_EQ(cudaStreamDestroy(other), cudaSuccess);
}

TEST_F(CudaSimStream, OfLegacyWaitsForBlockingOnesOnly) {
  const cudaStream_t blocking = NewStream(cudaStreamDefault);
  const cudaStream_t free = NewStream(cudaStreamNonBlocking);
  Gate free_gate;
  Gate gate;
  std::atomic<bool> legacy_ran{false};
  free_gate.Hold(free);
  gate.Hold(blocking);
  Launch(nullptr, [&] { legacy_ran = true; });
  bool after_ran = false;
  Launch(blocking, [&] {
    EXPECT_TRUE(legacy_ran);
    after_ran = true;
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(5));
  EXPECT_FALSE(legacy_ran);
  gate.Open();
  EXPECT_EQ(cudaStreamSynchronize(nullptr), cudaSuccess);
  EXPECT_TRUE(legacy_ran);
  EXPECT_EQ(cudaStreamSynchronize(blocking), cudaSuccess);
  EXPECT_TRUE(after_ran);
  free_gate.Open();
  EXPECT_EQ(cudaStreamDestroy(blocking), cudaSuccess);
  EXPECT_EQ(cudaStreamDestroy(free), cudaSuccess);
}

TEST_F(CudaSimStream, ThatIsBlockingWaitsForLegacy) {
  const cudaStream_t blocking = NewStream(cudaStreamDefault);
  const cudaStream_t free = NewStream(cudaStreamNonBlocking);
  Gate gate;
  gate.Hold(nullptr);
  std::atomic<bool> ran{false};
  Launch(blocking, [&] { ran = true; });
  Launch(free, [] {});
  EXPECT_EQ(cudaStreamSynchronize(free), cudaSuccess);
  std::this_thread::sleep_for(std::chrono::milliseconds(5));
  EXPECT_FALSE(ran);
  gate.Open();
  EXPECT_EQ(cudaStreamSynchronize(blocking), cudaSuccess);
  EXPECT_TRUE(ran);
  EXPECT_EQ(cudaStreamDestroy(blocking), cudaSuccess);
  EXPECT_EQ(cudaStreamDestroy(free), cudaSuccess);
}

TEST_F(CudaSimStream, DestroyedWithWorkQueuedStillDoesIt) {
  const cudaStream_t stream = NewStream();
  const cudaEvent_t end = NewEvent();
  Gate gate;
  bool ran = false;
  gate.Hold(stream);
  Launch(stream, [&] { ran = true; });
  EXPECT_EQ(cudaEventRecord(end, stream), cudaSuccess);
  EXPECT_EQ(cudaStreamDestroy(stream), cudaSuccess);
  gate.Open();
  EXPECT_EQ(cudaEventSynchronize(end), cudaSuccess);
  EXPECT_TRUE(ran);
  EXPECT_EQ(cudaEventDestroy(end), cudaSuccess);
}

TEST_F(CudaSimStream, AfterDestructionIsAViolation) {
  const cudaStream_t stream = NewStream();
  EXPECT_EQ(cudaStreamDestroy(stream), cudaSuccess);
  EXPECT_EQ(cudaStreamQuery(stream), cudaErrorInvalidResourceHandle);
  ExpectViolation("cudaStreamQuery: a stream that was destroyed");
}

TEST_F(CudaSimStream, OfADeviceIsMadeOnTheCurrentOne) {
  EXPECT_EQ(cudaSetDevice(1), cudaSuccess);
  const cudaStream_t stream = NewStream();
  int device = -1;
  std::thread([&] { EXPECT_EQ(cudaGetDevice(&device), cudaSuccess); }).join();
  EXPECT_EQ(device, 0) << "each thread has its own current device";
  EXPECT_EQ(cudaStreamGetDevice(stream, &device), cudaSuccess);
  EXPECT_EQ(device, 1);
  EXPECT_EQ(cudaSetDevice(2), cudaErrorInvalidDevice);
  EXPECT_EQ(cudaStreamDestroy(stream), cudaSuccess);
}

class CudaSimEvent : public SimTest {};

TEST_F(CudaSimEvent, NeverRecordedWaitsForNothing) {
  const cudaStream_t source = NewStream();
  const cudaStream_t waiting = NewStream();
  const cudaEvent_t event = NewEvent();
  Gate gate;
  gate.Hold(source);
  EXPECT_EQ(cudaEventQuery(event), cudaSuccess);
  EXPECT_EQ(cudaEventSynchronize(event), cudaSuccess);
  EXPECT_EQ(cudaStreamWaitEvent(waiting, event, 0), cudaSuccess);
  EXPECT_EQ(cudaEventRecord(event, source), cudaSuccess);
  EXPECT_EQ(cudaStreamSynchronize(waiting), cudaSuccess) << "bound to the time of the call";
  EXPECT_EQ(cudaEventQuery(event), cudaErrorNotReady);
  gate.Open();
  EXPECT_EQ(cudaEventSynchronize(event), cudaSuccess);
  EXPECT_EQ(cudaEventQuery(event), cudaSuccess);
  EXPECT_EQ(cudaEventDestroy(event), cudaSuccess);
  EXPECT_EQ(cudaStreamDestroy(source), cudaSuccess);
  EXPECT_EQ(cudaStreamDestroy(waiting), cudaSuccess);
}

TEST_F(CudaSimEvent, RecordedAgainLeavesTheWaitWhereItWas) {
  const cudaStream_t source = NewStream();
  const cudaStream_t waiting = NewStream();
  const cudaEvent_t event = NewEvent();
  Gate first;
  Gate second;
  std::atomic<bool> ran{false};
  first.Hold(source);
  EXPECT_EQ(cudaEventRecord(event, source), cudaSuccess);
  EXPECT_EQ(cudaStreamWaitEvent(waiting, event, 0), cudaSuccess);
  Launch(waiting, [&] { ran = true; });
  second.Hold(source);
  EXPECT_EQ(cudaEventRecord(event, source), cudaSuccess);
  std::this_thread::sleep_for(std::chrono::milliseconds(5));
  EXPECT_FALSE(ran);
  first.Open();
  EXPECT_EQ(cudaStreamSynchronize(waiting), cudaSuccess);
  EXPECT_TRUE(ran);
  EXPECT_EQ(cudaEventQuery(event), cudaErrorNotReady);
  second.Open();
  EXPECT_EQ(cudaStreamSynchronize(source), cudaSuccess);
  EXPECT_EQ(cudaEventDestroy(event), cudaSuccess);
  EXPECT_EQ(cudaStreamDestroy(source), cudaSuccess);
  EXPECT_EQ(cudaStreamDestroy(waiting), cudaSuccess);
}

TEST_F(CudaSimEvent, NotReadyIsTheThreadsLastErrorUntilItIsAskedFor) {
  const cudaStream_t stream = NewStream();
  const cudaEvent_t event = NewEvent();
  Gate gate;
  gate.Hold(stream);
  EXPECT_EQ(cudaEventRecord(event, stream), cudaSuccess);
  EXPECT_EQ(cudaEventQuery(event), cudaErrorNotReady);
  EXPECT_EQ(cudaPeekAtLastError(), cudaErrorNotReady);
  EXPECT_EQ(cudaGetLastError(), cudaErrorNotReady);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
  gate.Open();
  EXPECT_EQ(cudaEventDestroy(event), cudaSuccess);
  EXPECT_EQ(cudaStreamDestroy(stream), cudaSuccess);
}

TEST_F(CudaSimEvent, OfAnotherDeviceCannotBeRecorded) {
  const cudaStream_t stream = NewStream();
  EXPECT_EQ(cudaSetDevice(1), cudaSuccess);
  const cudaEvent_t event = NewEvent();
  EXPECT_EQ(cudaEventRecord(event, stream), cudaErrorInvalidResourceHandle);
  ExpectViolation("different devices");
}

TEST_F(CudaSimEvent, OfAnotherDeviceCanBeWaitedFor) {
  const cudaStream_t stream = NewStream();
  const cudaEvent_t event = NewEvent();
  EXPECT_EQ(cudaSetDevice(1), cudaSuccess);
  const cudaStream_t waiting = NewStream();
  int value = 0;
  Launch(stream, [&] { value = 1; });
  EXPECT_EQ(cudaEventRecord(event, stream), cudaSuccess);
  EXPECT_EQ(cudaStreamWaitEvent(waiting, event, 0), cudaSuccess);
  Launch(waiting, [&] { EXPECT_EQ(value, 1); });
  EXPECT_EQ(cudaStreamSynchronize(waiting), cudaSuccess);
  EXPECT_EQ(cudaEventDestroy(event), cudaSuccess);
  EXPECT_EQ(cudaStreamDestroy(stream), cudaSuccess);
  EXPECT_EQ(cudaStreamDestroy(waiting), cudaSuccess);
}

TEST_F(CudaSimEvent, AfterDestructionIsAViolation) {
  const cudaEvent_t event = NewEvent();
  EXPECT_EQ(cudaEventDestroy(event), cudaSuccess);
  EXPECT_EQ(cudaEventQuery(event), cudaErrorInvalidResourceHandle);
  ExpectViolation("an event that was destroyed");
}

TEST_F(CudaSimStream, RunsHostFunctionsInOrderAndLetsThemCallNothing) {
  const cudaStream_t stream = NewStream();

  struct Seen {
    bool kernel_before = false;
    cudaError_t call = cudaSuccess;
  } seen;

  Launch(stream, [&] { seen.kernel_before = true; });
  const auto function = [](void* data) {
    auto& in = *static_cast<Seen*>(data);
    EXPECT_TRUE(in.kernel_before);
    in.call = cudaDeviceSynchronize();
  };
  EXPECT_EQ(cudaLaunchHostFunc(stream, function, &seen), cudaSuccess);
  EXPECT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
  EXPECT_EQ(seen.call, cudaErrorNotPermitted);
  ExpectViolation("in a kernel or host function");
}

TEST_F(CudaSimStream, AndAllElseAliveIsCounted) {
  const cudaStream_t stream = NewStream();
  const cudaEvent_t event = NewEvent();
  char* const device = NewDeviceMemory(1);
  char* const pinned = NewPinned(1);
  std::vector<char> registered(10);
  EXPECT_EQ(cudaHostRegister(registered.data(), registered.size(), 0), cudaSuccess);
  const LeakCount leaks = Leaks();
  EXPECT_EQ(leaks.streams, 1);
  EXPECT_EQ(leaks.events, 1);
  EXPECT_EQ(leaks.device_allocations, 1);
  EXPECT_EQ(leaks.host_allocations, 1);
  EXPECT_EQ(leaks.registrations, 1);
  EXPECT_EQ(cudaHostUnregister(registered.data()), cudaSuccess);
  EXPECT_EQ(cudaFreeHost(pinned), cudaSuccess);
  EXPECT_EQ(cudaFree(device), cudaSuccess);
  EXPECT_EQ(cudaEventDestroy(event), cudaSuccess);
  EXPECT_EQ(cudaStreamDestroy(stream), cudaSuccess);
}

}  // namespace
}  // namespace holdfast::cuda_sim
