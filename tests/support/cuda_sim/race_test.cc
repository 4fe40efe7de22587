// What ThreadSanitizer makes of a user: nothing where CUDA orders, a race where it does not.
#include <cstring>

#include "tests/support/cuda_sim/sim_test.h"

#if __has_feature(thread_sanitizer)
#define HF_TSAN 1
#endif

namespace holdfast::cuda_sim {
namespace {

constexpr std::size_t kBytes = 256;

class CudaSimRace : public SimTest {};

enum class Wait { kNone, kStreamQuery, kEventQuery, kEventSynchronize, kStreamSynchronize };

// A kernel writes, a second stream copies to the host behind an event, and the host reads.
struct Snapshot {
  explicit Snapshot(std::uint64_t seed) {
    Options options;
    options.seed = seed;
    Reset(options);
    cudaStreamCreateWithFlags(&compute, cudaStreamNonBlocking);
    cudaStreamCreateWithFlags(&copy, cudaStreamNonBlocking);
    cudaEventCreateWithFlags(&begin, cudaEventDisableTiming);
    cudaEventCreateWithFlags(&end, cudaEventDisableTiming);
    void* memory = nullptr;
    cudaMalloc(&memory, kBytes);
    device = static_cast<char*>(memory);
    cudaHostAlloc(&memory, kBytes, cudaHostAllocDefault);
    pinned = static_cast<char*>(memory);
  }

  void Write(int value) {
    void* view = HostView(device);
    Launch(compute, [view, value] { std::memset(view, value, kBytes); });
  }

  void Copy(bool fenced) {
    if (fenced) {
      cudaEventRecord(begin, compute);
      cudaStreamWaitEvent(copy, begin, 0);
    }
    cudaMemcpyAsync(pinned, device, kBytes, cudaMemcpyDeviceToHost, copy);
    cudaEventRecord(end, copy);
  }

  // Whether the bytes are those of one write.
  bool Read(Wait wait) {
    switch (wait) {
      case Wait::kNone:
        break;
      case Wait::kStreamQuery:
        while (cudaStreamQuery(copy) == cudaErrorNotReady) {
          std::this_thread::yield();
        }
        break;
      case Wait::kEventQuery:
        while (cudaEventQuery(end) == cudaErrorNotReady) {
          std::this_thread::yield();
        }
        break;
      case Wait::kEventSynchronize:
        cudaEventSynchronize(end);
        break;
      case Wait::kStreamSynchronize:
        cudaStreamSynchronize(copy);
        break;
    }
    // Volatile: the reads are what is watched, whatever becomes of the answer.
    const volatile char* const bytes = pinned;
    bool same = true;
    for (std::size_t i = 1; i < kBytes; ++i) {
      same &= bytes[i] == bytes[0];
    }
    return same;
  }

  cudaStream_t compute = nullptr;
  cudaStream_t copy = nullptr;
  cudaEvent_t begin = nullptr;
  cudaEvent_t end = nullptr;
  char* device = nullptr;
  char* pinned = nullptr;
};

TEST_F(CudaSimRace, IsNoneForWhoeverWaitsAsCudaWants) {
  for (std::uint64_t seed = 1; seed <= 1000; ++seed) {
    Snapshot snapshot(seed);
    constexpr Wait kWaits[] = {
        Wait::kStreamQuery, Wait::kEventQuery, Wait::kEventSynchronize, Wait::kStreamSynchronize};
    for (int step = 1; step <= 3; ++step) {
      snapshot.Write(step);
      snapshot.Copy(true);
      // The fence: the next write waits for the copy on the device.
      cudaStreamWaitEvent(snapshot.compute, snapshot.end, 0);
      ASSERT_TRUE(snapshot.Read(kWaits[(seed + static_cast<std::uint64_t>(step)) % 4]));
      ASSERT_EQ(snapshot.pinned[0], step);
    }
    ASSERT_EQ(Violations(), std::vector<std::string>{});
  }
  Reset(Options{});
}

#ifdef HF_TSAN

// Each in a process of its own, since ThreadSanitizer ends it.
void ExpectRace(void (*body)()) {
  ::testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_EXIT(
      {
        body();
        std::_Exit(0);
      },
      ::testing::ExitedWithCode(66),
      "data race");
}

TEST_F(CudaSimRace, IsSeenWhereTheHostDoesNotWait) {
  ExpectRace([] {
    Snapshot snapshot(1);
    snapshot.Write(1);
    snapshot.Copy(true);
    // Time is no order, and a call of CUDA that guarantees none makes none.
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    int device = 0;
    cudaGetDevice(&device);
    snapshot.Read(Wait::kNone);
  });
}

TEST_F(CudaSimRace, IsSeenWhereAQueryOfTheWrongEventIsTakenForTheRight) {
  ExpectRace([] {
    Snapshot snapshot(1);
    snapshot.Write(1);
    snapshot.Copy(true);
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    cudaEventQuery(snapshot.begin);
    snapshot.Read(Wait::kNone);
  });
}

TEST_F(CudaSimRace, IsSeenWhereTheNextWriteDoesNotWaitForTheCopy) {
  ExpectRace([] {
    Snapshot snapshot(1);
    snapshot.Write(1);
    snapshot.Copy(true);
    snapshot.Write(2);
    cudaDeviceSynchronize();
  });
}

TEST_F(CudaSimRace, IsSeenWhereTheCopyDoesNotWaitForTheWrite) {
  ExpectRace([] {
    Snapshot snapshot(1);
    snapshot.Write(1);
    snapshot.Copy(false);
    cudaDeviceSynchronize();
  });
}

#endif

}  // namespace
}  // namespace holdfast::cuda_sim
