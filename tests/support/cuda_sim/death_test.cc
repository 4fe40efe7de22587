// A process that dies while its device still writes: the bytes land in memory that others share.
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <thread>

#include <fcntl.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/cuda_sim/sim_test.h"

namespace holdfast::cuda_sim {
namespace {

constexpr std::size_t kBytes = std::size_t{1} << 20;
constexpr auto kDelay = std::chrono::milliseconds(300);

char* MapShared(int descriptor) {
  void* mapped = ::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
  return mapped == MAP_FAILED ? nullptr : static_cast<char*>(mapped);
}

// The other process: a copy of a kernel's result waits behind a kernel that does not end.
[[noreturn]] void DieInMidCopy(int descriptor) {
  Reset(Options{});
  char* const slot = MapShared(descriptor);
  ::madvise(slot, kBytes, MADV_DONTFORK);
  void* memory = nullptr;
  cudaStream_t stream = nullptr;
  cudaMalloc(&memory, kBytes);
  cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
  const bool registered = cudaHostRegister(slot, kBytes, 0) == cudaSuccess;
  std::memset(HostView(memory), 5, kBytes);
  Gate gate;
  gate.Hold(stream);
  const bool queued = cudaMemcpyAsync(slot + 100,
                                      static_cast<char*>(memory) + 100,
                                      kBytes - 100,
                                      cudaMemcpyDeviceToHost,
                                      stream) == cudaSuccess;
  if (!registered || !queued) {
    std::_Exit(3);
  }
  DieWithCopiesLanding(kDelay);
}

// This program again, with the shared memory.
pid_t Spawn(int descriptor) {
  std::string program = "/proc/self/exe";
  std::string argument = "--die-in-mid-copy=" + std::to_string(descriptor);
  char* arguments[] = {program.data(), argument.data(), nullptr};
  pid_t child = -1;
  EXPECT_EQ(::posix_spawn(&child, program.c_str(), nullptr, nullptr, arguments, environ), 0);
  return child;
}

TEST(CudaSimDeath, LeavesCopiesThatLandLater) {
  const int descriptor = ::memfd_create("slot", 0);
  ASSERT_GE(descriptor, 0);
  ASSERT_EQ(::ftruncate(descriptor, kBytes), 0);
  const volatile char* const slot = MapShared(descriptor);
  ASSERT_NE(slot, nullptr);
  const pid_t child = Spawn(descriptor);
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status));
  EXPECT_EQ(WTERMSIG(status), SIGKILL);
  EXPECT_EQ(slot[kBytes - 1], 0) << "nothing landed while it lived";
  for (int tries = 0; tries < 1000 && slot[kBytes - 1] == 0; ++tries) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  EXPECT_EQ(slot[kBytes - 1], 5);
  EXPECT_EQ(slot[100], 5);
  EXPECT_EQ(slot[99], 0);
  ::close(descriptor);
}

}  // namespace
}  // namespace holdfast::cuda_sim

int main(int count, char** arguments) {
  const std::string flag = "--die-in-mid-copy=";
  if (count > 1 && std::string(arguments[1]).rfind(flag, 0) == 0) {
    holdfast::cuda_sim::DieInMidCopy(std::atoi(arguments[1] + flag.size()));
  }
  ::testing::InitGoogleTest(&count, arguments);
  return RUN_ALL_TESTS();
}
