// Memory: what an address is, and what happens to those who leave it.
#include <cerrno>

#include <sys/mman.h>
#include <unistd.h>

#include "tests/support/cuda_sim/sim_test.h"

namespace holdfast::cuda_sim {
namespace {

constexpr std::size_t kPage = 4096;

class CudaSimMemory : public SimTest {};

// The kernel is asked to read there: a fault of our own would end the test.
bool HostCanRead(const void* address) {
  int ends[2];
  EXPECT_EQ(::pipe(ends), 0);
  const bool read = ::write(ends[1], address, 1) == 1;
  if (!read) {
    EXPECT_EQ(errno, EFAULT);
  }
  ::close(ends[0]);
  ::close(ends[1]);
  return read;
}

TEST_F(CudaSimMemory, OfADeviceFaultsForTheHost) {
  char* const memory = NewDeviceMemory(100);
  EXPECT_FALSE(HostCanRead(memory));
  EXPECT_TRUE(HostCanRead(HostView(memory)));
  *HostViewAs<char>(memory + 99) = 7;
  EXPECT_EQ(HostViewAs<char>(memory)[99], 7);
  EXPECT_EQ(HostView(memory + 100), nullptr);
  EXPECT_EQ(cudaFree(memory), cudaSuccess);
  EXPECT_EQ(HostView(memory), nullptr);
}

TEST_F(CudaSimMemory, OfADeviceEnds) {
  Options options;
  options.device_bytes = 1000;
  Reset(options);
  char* const memory = NewDeviceMemory(600);
  void* more = nullptr;
  EXPECT_EQ(cudaMalloc(&more, 401), cudaErrorMemoryAllocation);
  EXPECT_EQ(cudaGetLastError(), cudaErrorMemoryAllocation);
  std::size_t free = 0;
  std::size_t total = 0;
  EXPECT_EQ(cudaMemGetInfo(&free, &total), cudaSuccess);
  EXPECT_EQ(free, 400U);
  EXPECT_EQ(total, 1000U);
  EXPECT_EQ(cudaFree(memory), cudaSuccess);
  EXPECT_EQ(cudaMalloc(&more, 1000), cudaSuccess);
  EXPECT_EQ(cudaFree(more), cudaSuccess);
}

TEST_F(CudaSimMemory, SaysWhatAnAddressIs) {
  EXPECT_EQ(cudaSetDevice(1), cudaSuccess);
  char* const device = NewDeviceMemory(16);
  char* const pinned = NewPinned(16);
  std::vector<char> plain(16);
  cudaPointerAttributes attributes{};
  EXPECT_EQ(cudaPointerGetAttributes(&attributes, device + 15), cudaSuccess);
  EXPECT_EQ(attributes.type, cudaMemoryTypeDevice);
  EXPECT_EQ(attributes.device, 1);
  EXPECT_EQ(cudaPointerGetAttributes(&attributes, pinned), cudaSuccess);
  EXPECT_EQ(attributes.type, cudaMemoryTypeHost);
  EXPECT_EQ(cudaPointerGetAttributes(&attributes, plain.data()), cudaSuccess);
  EXPECT_EQ(attributes.type, cudaMemoryTypeUnregistered);
  void* mapped = nullptr;
  EXPECT_EQ(cudaHostGetDevicePointer(&mapped, pinned, 0), cudaSuccess);
  EXPECT_EQ(mapped, pinned);
  EXPECT_EQ(cudaHostGetDevicePointer(&mapped, plain.data(), 0), cudaErrorInvalidValue);
  EXPECT_EQ(cudaFree(device), cudaSuccess);
  EXPECT_EQ(cudaFreeHost(pinned), cudaSuccess);
}

TEST_F(CudaSimMemory, RegisteredTwiceIsAViolation) {
  std::vector<char> memory(2 * kPage);
  EXPECT_EQ(cudaHostRegister(memory.data(), kPage, 0), cudaSuccess);
  EXPECT_EQ(cudaHostRegister(memory.data() + kPage / 2, kPage, 0),
            cudaErrorHostMemoryAlreadyRegistered);
  EXPECT_EQ(cudaHostUnregister(memory.data()), cudaSuccess);
  ExpectViolation("pinned already");
}

TEST_F(CudaSimMemory, NotRegisteredCannotBeUnregistered) {
  char memory = 0;
  EXPECT_EQ(cudaHostUnregister(&memory), cudaErrorHostMemoryNotRegistered);
  ExpectViolation("cudaHostUnregister");
}

TEST_F(CudaSimMemory, ThatIsReadOnlyIsRegisteredAsSuch) {
  void* memory = ::mmap(nullptr, kPage, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  EXPECT_EQ(cudaHostRegister(memory, kPage, 0), cudaErrorInvalidValue);
  EXPECT_EQ(cudaHostRegister(memory, kPage, cudaHostRegisterReadOnly), cudaSuccess);
  EXPECT_EQ(cudaHostUnregister(memory), cudaSuccess);
  ::munmap(memory, kPage);
  EXPECT_EQ(cudaHostRegister(memory, kPage, cudaHostRegisterReadOnly), cudaErrorInvalidValue);
}

TEST_F(CudaSimMemory, CanBePinnedUpToALimit) {
  Options options;
  options.pinned_bytes = kPage;
  Reset(options);
  std::vector<char> memory(2 * kPage);
  EXPECT_EQ(cudaHostRegister(memory.data(), kPage + 1, 0), cudaErrorMemoryAllocation);
  EXPECT_EQ(cudaHostRegister(memory.data(), kPage, 0), cudaSuccess);
  EXPECT_EQ(cudaHostUnregister(memory.data()), cudaSuccess);
  EXPECT_EQ(cudaHostRegister(memory.data() + kPage, kPage, 0), cudaSuccess);
  EXPECT_EQ(cudaHostUnregister(memory.data() + kPage), cudaSuccess);
}

// Memory given back while a copy that uses it waits behind a kernel.
class CudaSimQueuedCopy : public SimTest {
 protected:
  void SetUp() override {
    SimTest::SetUp();
    stream_ = NewStream();
    device_ = NewDeviceMemory(kBytes);
    pinned_ = NewPinned(kBytes);
    gate_.Hold(stream_);
  }

  // Opens the gate while the call under test waits for the copy.
  template <typename Function>
  void WhileItWaits(const Function& function) {
    std::thread opener([this] {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
      gate_.Open();
    });
    function();
    opener.join();
  }

  static constexpr std::size_t kBytes = 1000;
  Gate gate_;
  cudaStream_t stream_ = nullptr;
  char* device_ = nullptr;
  char* pinned_ = nullptr;
};

TEST_F(CudaSimQueuedCopy, FromFreedMemoryIsAViolation) {
  EXPECT_EQ(cudaMemcpyAsync(pinned_, device_, kBytes, cudaMemcpyDeviceToHost, stream_),
            cudaSuccess);
  WhileItWaits([&] { EXPECT_EQ(cudaFree(device_), cudaSuccess); });
  ExpectViolation("cudaFree under a queued copy");
}

TEST_F(CudaSimQueuedCopy, ToFreedHostMemoryIsAViolation) {
  EXPECT_EQ(cudaMemcpyAsync(pinned_, device_, kBytes, cudaMemcpyDeviceToHost, stream_),
            cudaSuccess);
  WhileItWaits([&] { EXPECT_EQ(cudaFreeHost(pinned_), cudaSuccess); });
  ExpectViolation("cudaFreeHost under a queued copy");
}

TEST_F(CudaSimQueuedCopy, ToUnregisteredMemoryIsAViolation) {
  std::vector<char> memory(kBytes);
  EXPECT_EQ(cudaHostRegister(memory.data(), kBytes, 0), cudaSuccess);
  EXPECT_EQ(cudaMemcpyAsync(memory.data(), device_, kBytes, cudaMemcpyDefault, stream_),
            cudaSuccess);
  WhileItWaits([&] { EXPECT_EQ(cudaHostUnregister(memory.data()), cudaSuccess); });
  ExpectViolation("cudaHostUnregister under a queued copy");
}

}  // namespace
}  // namespace holdfast::cuda_sim
